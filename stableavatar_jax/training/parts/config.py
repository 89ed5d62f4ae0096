"""Options of the training of each part of the model. Read without JAX."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from stableavatar_jax.data.config import ClipWindow, CropConfig, PictureConfig, SpeechConfig
from stableavatar_jax.diffusion.config import LossConfig
from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.compute import Attention, Remat
from stableavatar_jax.models.config import LoRAConfig
from stableavatar_jax.training.config import OptimizerConfig, RunConfig, Told, ValidationConfig

Selection = Literal["paper", "release", "adapter", "lora", "lora_alone", "all"]


@dataclass(frozen=True, kw_only=True)
class StepConfig:
    """What a step draws and minimises; the defaults are the 1.3B release's."""

    shift: float = 5.0
    """Shift of the noise levels drawn towards noise."""
    loss: LossConfig = field(default_factory=LossConfig)
    """The loss."""
    silent: float = 0.1
    """Share of rows whose audio features are zeroed: the null of audio-native guidance."""
    blind: float = 0.0
    """Share of rows whose image features are zeroed (14B: 0.1)."""
    clip_level: float = 0.3
    """Share of steps in which every token reads the audio of the whole clip, not of its own frame alone."""
    accumulate: int = 1
    """Number of pieces of a batch that are processed one after another; their gradients are averaged."""

    def __post_init__(self):
        if not 0 < self.shift < math.inf:
            raise Mistake(f"step.shift is {self.shift}, a number above 0 is needed")
        for name in ("silent", "blind", "clip_level"):
            if not 0 <= getattr(self, name) <= 1:
                raise Mistake(f"step.{name} is {getattr(self, name)}, a share of 0 to 1 is needed")
        if self.accumulate < 1:
            raise Mistake(f"step.accumulate is {self.accumulate}, 1 or more is needed")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunConfig):
    """Train the transformer on precomputed records or on clips; the same command goes on where it stopped.

    python train.py --config train_1b --checkpoint MODEL --data RECORDS \\
        --run-dir RUN
    python train.py --run-dir RUN --export MODEL
    python train.py --part vae --help

    The second command writes the weights into a model directory. --part vae, wav2vec2 or text_image trains another part
    of the model.
    """

    FREE = RunConfig.FREE | {
        "data", "missing_masks", "validation", "compile_only", "devices", "video", "remat", "attention",
    }  # fmt: skip

    part: Told[Literal["dit", "distil"]] = "dit"
    """Part of the model that is trained: `--part` on the command line."""
    data: Path | None = None
    """Folder of precomputed records (required), made by `python -m stableavatar_jax.data precompute`; `--clips`, which
    are encoded while training, can take their place."""
    window: ClipWindow = field(default_factory=ClipWindow)
    """How training windows are cut from `clips`; records have windows of their own."""
    missing_masks: Literal["error", "ones"] = "error"
    """Whether masks that `clips` miss end the run, or the whole picture is taken for face and lips."""
    train: Selection = "release"
    """What is trained: `paper` the attention and the adapter, `release` every block and the adapter, `adapter` the
    adapter and the blocks' keys and values for audio, `lora` a LoRA and these, `lora_alone` a LoRA and
    nothing else, `all` everything."""
    step: StepConfig = field(default_factory=StepConfig)
    """What a step draws and minimises."""
    lora: LoRAConfig = field(default_factory=LoRAConfig)
    """Size of the LoRA that `--train lora` trains."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Precision of computation and of frozen weights; what is trained is always float32."""
    remat: Remat = "attention"
    """What the backward pass computes again: nothing; every block (full); all but self-attention; all but the dearest
    results, which are kept on the device (names) or in the host's memory (offload)."""
    attention: Attention = "auto"
    """What attention is computed by: the fastest of the device, or the one named."""
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    """The video that shows what has been learned."""

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

    @property
    def draws_frozen(self) -> bool:
        """All but `--train all` freezes weights; encoders that run while training or validating are frozen too."""
        return self.train != "all" or self.clips is not None or self.validate_every > 0


@dataclass(frozen=True, kw_only=True)
class PartConfig(RunConfig):
    """The options that all runs share but those of the transformer."""

    FREE = RunConfig.FREE | {"held_out"}

    clips: Path | None = None
    """Clip data set (required), made by `python -m stableavatar_jax.data build`."""
    held_out: Path | None = None
    """Clip data set that `validate_every` measures on; by default those trained on."""
    batch: int = 8
    """Rows of a step, over all devices together."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            learning_rate=1e-3, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0, clip=(1.0, 1.0), clip_spikes=False,
            ema=0.999,
        )
    )  # fmt: skip
    """How gradients become steps."""


@dataclass(frozen=True, kw_only=True)
class VAELossConfig:
    """What the autoencoder minimises: weighted mean errors of pixels in -1..1, and a little of everything else."""

    squared: float = 1.0
    """Weight of the squared error, beside 1 for the absolute."""
    lip: float = 4.0
    """Weight of a pixel of the lips, beside 1 for every pixel."""
    face: float = 1.0
    """Weight of a pixel of the face, beside 1 for every pixel."""
    edge: float = 0.0
    """Weight of the absolute error of differences between neighbouring pixels."""
    motion: float = 0.0
    """Weight of the absolute error of differences between neighbouring frames; pictures have none."""
    colour: float = 0.0
    """Weight of the same errors of colour alone (Cb and Cr), beside 1 for red, green and blue: these are mostly of
    light, and colour that is smeared over dark outlines costs them little."""
    kl: float = 1e-6
    """Weight of the mean divergence of a latent's posterior from the normal distribution, in nats."""


@dataclass(frozen=True, kw_only=True)
class VAETrainConfig(PartConfig):
    """Train the video autoencoder on clips; the same command goes on where it stopped.

    python train.py --part vae --config demo_vae --clips DIR --run-dir DIR
    """

    FREE = PartConfig.FREE | {"crop.cache"}

    part: Told[Literal["vae"]] = "vae"
    """Part of the model that is trained: `--part` on the command line."""
    train: Literal["all", "decoder"] = "all"
    """What is trained. The decoder alone leaves the latents as they are, and so what was trained on them."""
    noise: float = 0.0
    """Standard deviation of noise added to the latents, in units of their own, against errors of the transformer."""
    crop: CropConfig = field(default_factory=CropConfig)
    """How training crops are cut from clips."""
    loss: VAELossConfig = field(default_factory=VAELossConfig)
    """What the autoencoder minimises."""

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.noise < math.inf:
            raise Mistake(f"noise is {self.noise}, 0 or more is needed")
        if self.train == "decoder" and self.optimizer.weight_decay:
            raise Mistake("--train decoder needs --optimizer.weight-decay 0, or the encoder would decay too")

    @property
    def draws_frozen(self) -> bool:
        """A decoder is trained behind an encoder that stays as it is."""
        return self.train == "decoder"


@dataclass(frozen=True, kw_only=True)
class Wav2Vec2LossConfig:
    """What the audio encoder minimises: mean errors of three heads."""

    mel: float = 0.3
    """Weight of the squared error of the log-mel spectrum."""
    bands: int = 80
    """Bands of the spectrum."""
    mouth: float = 10.0
    """Weight of the squared error of opening and width, which are 0 to 1."""
    phoneme: float = 0.3
    """Weight of the phonemes' cross-entropy, in nats."""
    hidden: float = 0.1
    """Share of the features hidden from the transformer, which then guesses them from those around (SpecAugment)."""

    def __post_init__(self):
        if self.bands < 1:
            raise Mistake(f"loss.bands is {self.bands}, 1 or more is needed")
        if not 0 <= self.hidden <= 1:
            raise Mistake(f"loss.hidden is {self.hidden}, a share of 0 to 1 is needed")


@dataclass(frozen=True, kw_only=True)
class Wav2Vec2TrainConfig(PartConfig):
    """Train the audio encoder on clips with labels; the same command goes on where it stopped.

    python train.py --part wav2vec2 --config demo_wav2vec2 --clips DIR --run-dir DIR
    """

    part: Told[Literal["wav2vec2"]] = "wav2vec2"
    """Part of the model that is trained: `--part` on the command line."""
    speech: SpeechConfig = field(default_factory=SpeechConfig)
    """How training windows are made from clips."""
    loss: Wav2Vec2LossConfig = field(default_factory=Wav2Vec2LossConfig)
    """What the audio encoder minimises."""
    batch: int = 16
    """Rows of a step, over all devices together."""


@dataclass(frozen=True, kw_only=True)
class TextImageTrainConfig(PartConfig):
    """Train the text and the image encoder together, to know which prompt is of which picture; the same command goes on
    where it stopped.

    python train.py --part text_image --config demo_text_image --clips DIR --run-dir DIR
    """

    part: Told[Literal["text_image"]] = "text_image"
    """Part of the model that is trained: `--part` on the command line."""
    batch: int = 64
    """Rows of a step, over all devices together; each is compared with all the others."""
    pictures: PictureConfig = field(default_factory=PictureConfig)
    """How training pictures are taken from clips."""
