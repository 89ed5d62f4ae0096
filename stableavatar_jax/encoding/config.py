"""Options of `precompute`; the work is imported when it is run."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from stableavatar_jax.data.config import ClipWindow, Dtype, Format, MissingMasks, OnBad
from stableavatar_jax.data.kinds import expect
from stableavatar_jax.errors import Mistake


@dataclass(frozen=True, kw_only=True)
class PrecomputeConfig:
    """Encode the windows of a data set with the frozen encoders.

    python -m stableavatar_jax.data precompute --data CLIPS \\
        --output RECORDS --checkpoint MODEL
    """

    data: Path
    """Data set of clips, made by `build` (required)."""
    output: Path
    """Folder for the records; those that are there already are kept (required)."""
    checkpoint: Path | None = None
    """Model directory with vae, umt5, clip_vision and wav2vec2."""
    config: Path | None = None
    """Preset whose model gets random weights, such as `tiny`, as a smoke test in place of a checkpoint."""
    window: tyro.conf.OmitArgPrefixes[ClipWindow] = field(default_factory=ClipWindow)
    """What a training window is."""
    windows_per_clip: int = 4
    """Number of windows taken from a clip; fewer where the clip is too short for so many."""
    starts: Literal["even", "drawn"] = "even"
    """Where windows begin: evenly spaced from the clip's first frame to its last, or drawn by the clip's name."""
    format: Format = "npz"
    """Files of the records: `npz` has one for each record, `array_record` few in all."""
    dtype: Dtype = "bfloat16"
    """Dtype in which text, image and audio features and the masks are stored."""
    latents_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Dtype in which the VAE's means and log variances are stored."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """Dtype in which the encoders run, except for the text encoder, which runs in bfloat16."""
    on_bad: OnBad = "error"
    """A clip that is too short or damaged ends the run, or is left out, counted and logged."""
    missing_masks: MissingMasks = "error"
    """A clip without masks ends the run, is left out, or (`ones`) counts as all face and all lips."""
    worker: int = 0
    """Number of this process, from 0, where several share the work and the output."""
    workers: int = 1
    """Number of processes that share the work."""
    seed: int = 0
    """Seed of random weights."""

    def __post_init__(self):
        if self.windows_per_clip < 1 or not 0 <= self.worker < self.workers:
            raise Mistake("windows_per_clip must be at least 1, and worker one of 0..workers - 1")
        if not self.checkpoint and not self.config:
            raise Mistake("give --checkpoint DIR with the encoders, or --config tiny for random weights")

    def run(self) -> None:
        """Write the records and print what was left out."""
        expect(self.data, "clips", "--data")
        if self.checkpoint:
            expect(self.checkpoint, "model", "--checkpoint")
        from stableavatar_jax.compiling import keep_compiled
        from stableavatar_jax.encoding.precompute import precompute

        keep_compiled()
        print(precompute(self), self.output, sep="\n")
