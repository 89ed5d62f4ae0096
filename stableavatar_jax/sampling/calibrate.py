"""The command that measures what a step cache may leave out: `python -m stableavatar_jax.sampling calibrate`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stableavatar_jax import commands
from stableavatar_jax.errors import Mistake
from stableavatar_jax.inputs import check_file
from stableavatar_jax.presets import Flat
from stableavatar_jax.sampling.calibration import write_calibration
from stableavatar_jax.sampling.config import Keeping, SampleConfig
from stableavatar_jax.sampling.defaults import of_models
from stableavatar_jax.sampling.paths import check_given, is_live
from stableavatar_jax.whole import check_outputs


@dataclass(frozen=True, kw_only=True)
class Calibrate(SampleConfig):
    """Measure how much of what the transformer's blocks add changes from step to step, and write it to --output: a file
    for --cache of sampling, which is valid for these weights, steps, levels, size and guidance. It takes as long as
    making the videos.

    python -m stableavatar_jax.sampling calibrate --config avatar_1b --checkpoint DIR \\
        --image face.png --audio speech.wav --output cache.json
    """

    keeping: Flat[Keeping] = field(default_factory=lambda: Keeping(output=Path("cache.json")))
    """Where the result goes."""
    recordings: tuple[Path, ...] = ()
    """More recordings beside --audio; the mean over the windows of all is taken."""
    seconds: float = 10.0
    """Seconds that are taken from the beginning of each recording."""

    def __post_init__(self):
        if not 0.1 <= self.seconds < float("inf"):
            raise Mistake(f"seconds is {self.seconds}, a number from 0.1 on is needed")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line, without its name; the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    start = lambda given: of_models(Calibrate(), given)  # noqa: E731
    return commands.main({"calibrate": Calibrate}, ["calibrate", *argv], run=run, start=start)


def run(config: Calibrate) -> None:
    """Measure and write. Raises Mistake."""
    output, inputs = config.keeping.output, config.inputs
    others = inputs.decode_only or inputs.conditions or config.several.jobs or is_live(inputs.audio)
    if others or output.suffix != ".json":
        raise Mistake("a calibration is made from --image, --audio and more --recordings; --output is a .json file")
    check_given(config)
    for path in config.recordings:
        check_file(path)
    check_outputs((output, 0), inputs=[inputs.image, inputs.audio, *config.recordings])

    from stableavatar_jax.compiling import keep_compiled
    from stableavatar_jax.sampling.avatar import open_avatar
    from stableavatar_jax.sampling.job import open_job
    from stableavatar_jax.sampling.loras import read_loras
    from stableavatar_jax.sampling.measured import calibrated
    from stableavatar_jax.sampling.progress import Bars

    keep_compiled()
    avatar = open_avatar(config, read_loras(config.weights.lora), keep=True)
    job = open_job(config)
    assert inputs.audio is not None
    with Bars() as bars:
        write_calibration(output, calibrated(avatar, job, [inputs.audio, *config.recordings], config.seconds, bars))
    print(output)
