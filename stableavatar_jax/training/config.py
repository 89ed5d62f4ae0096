"""Options that every run of `train.py` has, whatever part of the model it trains. Read without JAX."""

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import tyro

from stableavatar_jax.data.config import OnBad
from stableavatar_jax.errors import Mistake
from stableavatar_jax.hosts import DistributedConfig, MeshConfig
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.presets import FromPreset

PartName = Literal["dit", "vae", "wav2vec2", "text_image", "distil"]
T = TypeVar("T")
Told = Annotated[T, tyro.conf.arg(name="told"), tyro.conf.Fixed, tyro.conf.Suppress]
"""A field that is written down but is not an option: `--part` has chosen the class that it is in."""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How gradients become steps; the defaults are the release's for 1.3B on 4 GPUs."""

    kind: Literal["adamw", "muon"] = "adamw"
    """AdamW, or Muon: orthogonalised steps for matrices and kernels, as large as AdamW's; AdamW for all the rest."""
    learning_rate: float = 2e-5
    """The rate after the warm-up; it stays constant unless `decay` says otherwise."""
    warmup: int = 100
    """Steps over which the learning rate rises from 0; 0 for none."""
    decay: Literal["none", "linear", "cosine"] = "none"
    """How the learning rate falls. A run may go on with another `decay`, and so decide late how it ends."""
    decay_start: int = 0
    """Step at which the rate begins to fall."""
    decay_steps: int = 0
    """Steps over which the rate falls."""
    floor: float = 0.0
    """Share of the learning rate that is left at the end."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the first and the second moment."""
    eps: float = 1e-10
    """What is added to the root of the second moment."""
    weight_decay: float = 3e-2
    """Decay of every trained variable, norms and biases too, times the learning rate."""
    clip: tuple[float, float] = (0.25, 0.05)
    """Largest norm of all gradients together, at the first step and after `clip_steps`; between them a line."""
    clip_steps: int = 1000
    """Steps until the second value of `clip` holds."""
    clip_spikes: bool = True
    """After `clip_steps`, whether a norm above 5 times the limit lowers the limit for this step, up to 10 times."""
    ema: float = 0.9999
    """Decay of the running average (shorter at the start); 0 for none, as in the release."""

    def __post_init__(self):
        if self.decay != "none" and self.decay_steps < 1:
            raise Mistake(f"decay {self.decay} needs decay_steps: the number of steps over which the rate falls")
        checks = [
            ("learning_rate", 0 < self.learning_rate < math.inf, "a number above 0"),
            ("warmup", self.warmup >= 0, "0 or more"),
            ("floor", 0 <= self.floor <= 1, "a share of 0 to 1"),
            ("betas", all(0 <= beta < 1 for beta in self.betas), "two numbers of 0 to below 1"),
            ("eps", 0 <= self.eps < math.inf, "0 or more"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "0 or more"),
            ("clip", all(0 < limit < math.inf for limit in self.clip), "two numbers above 0"),
            ("clip_steps", self.clip_steps >= 1, "1 or more"),
            ("ema", 0 <= self.ema < 1, "0 to below 1"),
        ]
        for name, good, needed in checks:
            if not good:
                raise Mistake(f"optimizer.{name} is {getattr(self, name)}, {needed} is needed")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The options that all runs share, whatever part of the model they train."""

    FREE: ClassVar[frozenset[str]] = frozenset({
        "clips", "on_bad", "run_dir", "steps", "checkpoint_every", "keep", "log_every", "validate_every", "export",
        "export_step", "random_weights", "distributed", "mesh", "optimizer.decay", "optimizer.decay_start",
        "optimizer.decay_steps", "optimizer.floor", "deterministic",
    })  # fmt: skip
    """Options that a run may be continued with other values of: they change how long it goes on, how it ends, and what
    is seen of it."""

    part: Told[PartName] = "dit"
    """Part of the model that is trained: `--part` on the command line."""
    checkpoint: Path | None = None
    """Model directory to start from (required), made by `python -m convert import` or by `--export`; what is trained as
    a whole may begin without one."""
    random_weights: bool = False
    """Without a checkpoint: draw weights that are not trained from the seed too, as a smoke test."""
    clips: Path | None = None
    """Clip data set made by `python -m stableavatar_jax.data build`."""
    on_bad: OnBad = "error"
    """Whether a clip that is too short or too small ends the run, or is left out, counted and logged."""
    run_dir: Path = Path("runs/train")
    """Folder where everything is written, and what a run goes on from."""
    steps: int = 1000
    """Steps of the whole run, those done before it was continued included."""
    batch: int = 1
    """Rows of a step, over all devices and pieces (`step.accumulate`) together."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """How gradients become steps."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of computation and of frozen weights; what is trained is always float32."""
    deterministic: bool = True
    """On a GPU: steps give the same bits in every run, so that a run that was stopped goes on exactly. Without it the
    backward pass of attention takes about a fifth less time."""
    seed: int = 0
    """Seed of weights that are drawn, of every step's draws, and of the order of the data."""
    checkpoint_every: int = 500
    """Steps between checkpoints."""
    keep: int = 1
    """Number of latest checkpoints to keep."""
    log_every: int = 10
    """Steps between lines on the screen and points in TensorBoard; metrics.csv has every step."""
    validate_every: int = 0
    """Steps between validations; 0 for none."""
    mesh: MeshConfig = field(default_factory=MeshConfig)
    """How the devices are arranged."""
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    """How several processes work as one run."""
    export: Path | None = None
    """Train nothing: write the run's weights into this model directory, which may hold other parts already. All other
    options are those that the run began with; only `--run-dir` is needed."""
    export_step: Annotated[int | Literal["last", "best"], tyro.conf.arg(name="step")] = "last"
    """Checkpoint that `--export` takes: the last, or the one of this step. (There is no best: see docs/training.md.)"""
    model: FromPreset[AvatarConfig] = field(default_factory=AvatarConfig)
    """The networks; a checkpoint's config.json takes its place."""

    def __post_init__(self):
        for name in ("steps", "batch", "checkpoint_every", "keep", "log_every"):
            if getattr(self, name) < 1:
                raise Mistake(f"{name} is {getattr(self, name)}, 1 or more is needed")
        if self.validate_every < 0:
            raise Mistake(f"validate_every is {self.validate_every}, 0 (for none) or more is needed")
        if self.export_step == "best":
            raise Mistake(
                "--step best: there is no best checkpoint, as the losses of single steps are draws of noise levels; "
                "give `last` or the step of a checkpoint, and compare their videos"
            )
        if not 0 <= self.seed < 2**32:
            raise Mistake(f"seed is {self.seed}, 0 to 4294967295 is needed")

    @property
    def draws_frozen(self) -> bool:
        """Whether weights that will never be trained are drawn from the seed where there is no checkpoint."""
        return False


@dataclass(frozen=True, kw_only=True)
class GuidanceConfig:
    """Guidance where a run makes videos or learns from it; what is not given is settled elsewhere."""

    guidance: Literal["audio_native", "cfg", "none"] | None = None
    """Guidance, as in `sample.py`."""
    w1: float | None = None
    """audio_native: strength away from the velocity for silence."""
    w2: float | None = None
    """audio_native: strength away from the velocity without refined audio."""
    text_scale: float | None = None
    """cfg: strength away from the negative prompt."""
    audio_scale: float | None = None
    """cfg: strength away from the velocity without audio."""
    cfg_null: Literal["dropped", "silence"] | None = None
    """cfg: what stands for no audio."""

    def given(self) -> dict[str, Any]:
        """The options that are set, by their names in `sample.py`."""
        values = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class ValidationConfig(GuidanceConfig):
    """The video that shows what has been learned, written every `validate_every` steps. It takes any option of
    `sample.py`; those not given follow the model directory and the data that are trained on."""

    image: Path | None = None
    """Picture (required)."""
    audio: Path | None = None
    """Recording (required)."""
    audio_track: int | None = None
    """Number of its sound track, from 1."""
    start: float | None = None
    """Seconds of it that are passed over."""
    duration: float | None = None
    """Seconds of it that are used."""
    prompt: str | None = None
    """What happens in the video."""
    negative_prompt: str | None = None
    """What should not be seen; only `cfg` guidance uses it."""
    height: int | None = None
    """Rows, a multiple of 16; the data's by default."""
    width: int | None = None
    """Columns, a multiple of 16; the data's by default."""
    fps: float | None = None
    """Frames a second; the data's by default."""
    fit: Literal["cover", "stretch"] | None = None
    """How the picture is fitted."""
    crop: float | None = None
    """With `cover`: share of the cropped area that is taken from the top or left."""
    enlarge: int | None = None
    """Side of the square that each pixel becomes in the video."""
    crf: int | None = None
    """Quality of the H.264 stream: lower is better and larger."""
    steps: int | None = None
    """Denoising steps; by default 20, or those that distilled weights were trained for."""
    solver: Literal["euler", "unipc", "dpm++"] | None = None
    """How a step is taken."""
    shift: float | None = None
    """Shift of the noise levels towards noise; that of training by default."""
    window: int | None = None
    """Latent frames of a window; the data's by default."""
    overlap: int | None = None
    """Latent frames that two neighbouring windows share."""
    fusion: Literal["logarithmic", "linear", "fixed"] | None = None
    """How neighbouring windows are blended."""
    seed: int | None = None
    """Seed of the noise; the run's by default."""
