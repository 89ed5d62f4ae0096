"""Small models run by LiteRT, from files that the user names."""

from functools import cached_property
from pathlib import Path

import numpy as np

from stableavatar_jax.errors import Mistake


class Model:
    """A LiteRT model of one picture in and two arrays out, the larger first."""

    def __init__(self, path: Path, option: str, side: int, outputs: tuple[int, int]):
        """`side` is that of the picture in pixels, `outputs` the numbers in the arrays: by them a model is known."""
        if not path.is_file():
            raise Mistake(f"{path}: no such model file; docs/data.md says where to get the face models")
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise Mistake("finding faces needs LiteRT, which the extra `face` has: pip install -e '.[face]'") from None
        try:
            self._interpreter = Interpreter(model_path=str(path), num_threads=1)
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise Mistake(f"{path}: LiteRT cannot run it ({str(error).splitlines()[0]}); get it again") from error
        takes = [tuple(each["shape"]) for each in self._interpreter.get_input_details()]
        gives = [int(np.prod(each["shape"])) for each in self._interpreter.get_output_details()]
        if takes != [(1, side, side, 3)] or tuple(sorted(gives, reverse=True)) != outputs:
            raise Mistake(
                f"{path}: another model than {option} needs (it takes {takes[0]} and gives {gives} numbers); "
                "docs/data.md says which file goes with which option"
            )

    @cached_property
    def _outputs(self) -> list[int]:
        details = self._interpreter.get_output_details()
        return [out["index"] for out in sorted(details, key=lambda out: -int(np.prod(out["shape"])))]

    def __call__(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both arrays of a picture of [side, side, 3]."""
        (inputs,) = self._interpreter.get_input_details()
        self._interpreter.set_tensor(inputs["index"], picture[None].astype(np.float32))
        self._interpreter.invoke()
        large, small = (self._interpreter.get_tensor(index)[0] for index in self._outputs)
        return large, small
