"""What to train: the options that all runs of `train.py` share, and those of the DiT's."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import jax

from stableavatar_jax.data.config import ClipWindow, OnBad
from stableavatar_jax.errors import Mistake
from stableavatar_jax.hosts import MeshConfig
from stableavatar_jax.models.avatar import part, settled
from stableavatar_jax.models.compute import Attention, Remat
from stableavatar_jax.models.config import AvatarConfig, LoRAConfig
from stableavatar_jax.models.dit import DiT
from stableavatar_jax.presets import FromPreset
from stableavatar_jax.training.parts.dit_step import StepConfig
from stableavatar_jax.training.state import OptimizerConfig, Selection


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every run is told, whatever part of the model it trains."""

    FREE: ClassVar[frozenset[str]] = frozenset({
        "clips", "on_bad", "run_dir", "steps", "checkpoint_every", "keep", "log_every", "validate_every", "export",
        "distributed", "mesh", "optimizer.decay", "optimizer.decay_start", "optimizer.decay_steps", "optimizer.floor",
    })  # fmt: skip
    """Options that a run may be continued with other values of: they change how long it goes on, how it ends, and what
    is seen of it."""

    model: FromPreset[AvatarConfig] = field(default_factory=AvatarConfig)
    """The networks; a checkpoint's config.json takes its place."""
    checkpoint: Path | None = None
    """Model directory to start from, made by `python -m convert import` or `--export`; without it the weights are drawn
    from the seed."""
    clips: Path | None = None
    """Clip data set made by `python -m stableavatar_jax.data build`."""
    on_bad: OnBad = "error"
    """One of `clips` that is too short or too small ends the run, or is left out, counted and logged."""
    run_dir: Path = Path("runs/train")
    """Where everything is written, and what a run goes on from."""
    steps: int = 1000
    """Steps of the whole run, those done before it was continued included."""
    batch: int = 1
    """Rows of a step, over all devices and parts together."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of computation and of frozen weights; what is trained is float32 always."""
    seed: int = 0
    """Of weights that are drawn, of every step's draws, and of the order of the data."""
    checkpoint_every: int = 500
    """Steps between checkpoints; the last and the best are kept."""
    keep: int = 1
    """Latest checkpoints kept, beside the best."""
    log_every: int = 10
    """Steps between lines on the screen and points in TensorBoard; metrics.csv has every step."""
    validate_every: int = 0
    """Steps between validations; 0 for none."""
    distributed: bool = False
    """Run as one of several processes, found by `jax.distributed.initialize()`."""
    export: Path | None = None
    """Train nothing: write the run's weights into this model directory, which may hold other parts already."""

    def __post_init__(self):
        for name in ("steps", "batch", "checkpoint_every", "keep", "log_every"):
            if getattr(self, name) < 1:
                raise Mistake(f"{name} is {getattr(self, name)}, 1 or more is needed")


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """The video that shows what has been learned, written every `validate_every` steps."""

    image: Path | None = None
    """Picture."""
    audio: Path | None = None
    """Recording."""
    prompt: str = "The protagonist is talking"
    """What happens."""
    height: int = 480
    """Rows, a multiple of 16."""
    width: int = 832
    """Columns, a multiple of 16."""
    steps: int = 20
    """Denoising steps."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunConfig):
    """Train the DiT on precomputed records or on clips; the same command goes on where it stopped.

    python train.py --config configs/train_1b.py --data DIR --run-dir DIR --steps N --checkpoint-every K

    --part vae, wav2vec2 or encoders trains another part of the model: python train.py --part vae --help
    """

    FREE = RunConfig.FREE | {"data", "missing_masks", "validation", "compile_only", "devices", "video", "remat"}

    data: Path | None = None
    """Folder of precomputed records, made by `python -m stableavatar_jax.data precompute`; in place of `clips`, which
    are encoded while training."""
    window: ClipWindow = field(default_factory=ClipWindow)
    """What a training window of `clips` is; records have their own."""
    missing_masks: Literal["error", "ones"] = "error"
    """Masks that `clips` miss end the run, or the whole picture is taken for face and lips."""
    train: Selection = "release"
    """What is trained: attention and adapter (paper), every block and everything vocal (release), everything vocal
    (adapter), LoRA and everything vocal (lora), or all."""
    step: StepConfig = field(default_factory=StepConfig)
    lora: LoRAConfig = field(default_factory=LoRAConfig)
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Of computation and of frozen weights; what is trained is float32 always."""
    remat: Remat = "attention"
    """What the backward pass computes again: nothing; every block (full); all but self-attention; all but the dearest
    results, which are kept on the device (names) or in the host's memory (offload)."""
    attention: Attention = "auto"
    """What attention is computed by: the fastest of the device, or the one named."""
    validation: ValidationConfig = field(default_factory=ValidationConfig)

    compile_only: bool = False
    """Train nothing: compile the step for `devices` virtual devices and print its memory on each."""
    devices: int = 8
    """Virtual devices of `compile_only`."""
    video: tuple[int, int, int] = (81, 480, 832)
    """Frames, rows and columns that `compile_only` compiles for."""

    def __post_init__(self):
        super().__post_init__()
        if self.devices < 1:
            raise Mistake(f"devices is {self.devices}, 1 or more is needed")
        if self.batch % self.step.accumulate:
            raise Mistake(f"a batch of {self.batch} rows cannot go through in {self.step.accumulate} equal parts")

    def dit(self) -> DiT:
        """The network as it is trained: computing in `dtype`, born in float32."""
        return part(self.model, "dit", settled(self.model, "dit", jax.devices()[0], self.dtype, param_dtype="float32",
                                               attention=self.attention, remat=self.remat))
