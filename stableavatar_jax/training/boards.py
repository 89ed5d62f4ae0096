"""Where people look while a run goes on: TensorBoard, and Weights & Biases for those who use it.

Both are shown the same: the run's options, means since the last report in groups, and what validation made.
"""

import contextlib
import importlib.util
import io
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from stableavatar_jax import media
from stableavatar_jax.errors import Mistake

GROUPS = {
    "speed": (
        "seconds", "waiting_for_input", "samples_per_second", "tflops_per_chip", "mfu", "mfu_with_recompute",
    ),
    "optimizer": ("gradient_norm", "clip", "learning_rate"),
    "validation": (),
}  # fmt: skip
"""What is shown together; other measurements are shown under `loss`."""
MOST, WIDEST = 100, 256
"""Frames and pixels of a moving picture in TensorBoard, which keeps them all in its file."""
VIDEO = "validation/video"
"""Tag of a validation's video."""
PROJECT = "WANDB_PROJECT"
"""Variable that names the project: with it, and the package wandb, a run is shown in Weights & Biases."""


@runtime_checkable
class Board(Protocol):
    """Shows a run."""

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Show measurements, by their tags."""

    def video(self, step: int, path: Path) -> None:
        """Show a validation video."""

    def close(self) -> None:
        """Write what is pending."""


def check_boards() -> None:
    """Raise Mistake where Weights & Biases is wanted and not installed, or nobody is logged in."""
    if not os.environ.get(PROJECT):
        return
    if importlib.util.find_spec("wandb") is None:
        raise Mistake(f"{PROJECT} is set and wandb is not installed: pip install -e '.[wandb]', or unset the variable")
    with _told() as wandb:
        wandb.login()


@contextlib.contextmanager
def _told() -> Iterator[Any]:
    """The package wandb, whose errors become Mistakes."""
    import wandb

    try:
        yield wandb
    except wandb.Error as error:
        raise Mistake(
            f"Weights & Biases: {' '.join(str(error).split())} WANDB_MODE=offline keeps the run on this machine, for "
            f"`wandb sync`; without {PROJECT} it is not shown there"
        ) from error


def open_boards(folder: Path, start: int, options: Mapping[str, Any]) -> list[Board]:
    """Those that are installed and wanted, for the run in a folder that goes on after step `start`."""
    boards: list[Board] = []
    with contextlib.suppress(ImportError):
        boards.append(TensorBoard(folder, start, options))
    if os.environ.get(PROJECT):
        boards.append(WeightsAndBiases(folder, options))
    return boards


def tagged(values: Mapping[str, float], group: str = "") -> dict[str, float]:
    """Measurements by their tags, `GROUP/NAME`."""

    def tag(name: str) -> str:
        return f"{group or next((g for g, names in GROUPS.items() if name in names), 'loss')}/{name}"

    return {tag(name): value for name, value in values.items()}


class TensorBoard:
    """Event files in `RUN/tensorboard`. Raises ImportError without tensorboardX (extra `training`)."""

    def __init__(self, folder: Path, start: int, options: Mapping[str, Any]):
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)
        self._writer.add_text("options", f"```\n{json.dumps(options, indent=2, default=str)}\n```", start)

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Scalars."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def video(self, step: int, path: Path) -> None:
        """A moving picture without sound, of fewer and smaller frames."""
        from tensorboardX.proto.summary_pb2 import Summary

        moving, size = moving_picture(path)
        image = Summary.Image(height=size[1], width=size[0], colorspace=3, encoded_image_string=moving)
        self._writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=VIDEO, image=image)]), step)

    def close(self) -> None:
        """Write what is pending."""
        self._writer.close()


class WeightsAndBiases:
    """A run of the project that WANDB_PROJECT names; a run that goes on is the same one there. Needs wandb. Raises
    Mistake where it cannot be opened.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any]):
        known = zlib.crc32(str(folder.absolute()).encode())
        with _told() as wandb:
            self._video = wandb.Video
            self._run: Any = wandb.init(
                dir=str(folder), id=f"{folder.name}-{known:08x}", name=folder.name, resume="allow", config=dict(options)
            )

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Charts."""
        self._run.log(dict(values), step=step)

    def video(self, step: int, path: Path) -> None:
        """The video itself."""
        self._run.log({VIDEO: self._video(str(path), format="mp4")}, step=step)

    def close(self) -> None:
        """Send what is pending."""
        self._run.finish()


def moving_picture(path: Path) -> tuple[bytes, tuple[int, int]]:
    """A video as a GIF of at most `MOST` frames, and its width and height."""
    info = media.probe(path)
    every = -(-info.frames // MOST)
    scale = min(1.0, WIDEST / info.width)
    size = round(info.width * scale), round(info.height * scale)
    frames = [
        Image.fromarray(np.ascontiguousarray(frame)).resize(size)
        for number, frame in enumerate(media.read_video(path)) if number % every == 0
    ]  # fmt: skip
    content = io.BytesIO()
    frames[0].save(
        content, "GIF", save_all=True, append_images=frames[1:], duration=round(1000 * every / info.fps), loop=0
    )
    return content.getvalue(), size
