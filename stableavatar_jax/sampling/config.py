"""What to sample: every option of `sample.py`, and the checks that need no model."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from stableavatar_jax.checkpoint import check_params
from stableavatar_jax.config import read_config
from stableavatar_jax.diffusion import guidance
from stableavatar_jax.diffusion.guidance import Guidance
from stableavatar_jax.diffusion.windows import WindowConfig
from stableavatar_jax.errors import Mistake
from stableavatar_jax.frames import FRAMES_PER_LATENT
from stableavatar_jax.media import Fit
from stableavatar_jax.models.avatar import abstract_params, part
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.presets import FromPreset

# Wan2.1 was trained to steer away from faults named in Chinese; this is a list of our own in the same spirit.
NEGATIVE_PROMPT = (
    "颜色过于鲜艳，曝光过度，画面静止不动，细节模糊不清，带有字幕，画风像油画或静态图片，整体发灰，质量极差，"
    "压缩失真，残缺不全，多余的手指，手部畸形，面部畸形，五官扭曲，肢体变形，手指粘连，杂乱的背景，人群，倒着走"
)


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """Turn a picture and a recording into a talking video.

    python sample.py --config configs/avatar_1b.py --checkpoint DIR --image face.png --audio speech.wav \\
        --prompt "A woman talks to the camera" --output talk.mp4
    """

    model: FromPreset[AvatarConfig] = field(default_factory=AvatarConfig)
    """The networks; a checkpoint's config.json takes its place."""
    checkpoint: Path | None = None
    """Model directory made by `python -m convert import`."""
    random_weights: bool = False
    """Without a checkpoint: draw all weights from the seed, to try the way of the data. The video shows noise."""

    lora: tuple[str, ...] = ()
    """LoRA files to add to the transformer's weights: PATH or PATH:SCALE, several if you like."""

    image: Path | None = None
    """Picture of the person, cartoon or animal; any format Pillow reads."""
    audio: Path | None = None
    """Recording to speak or sing; any sound or video file. The video is as long as it."""
    prompt: str = "A person talks to the camera."
    """What happens in the video."""
    negative_prompt: str = NEGATIVE_PROMPT
    """What should not be seen; only `cfg` guidance uses it."""
    output: Path = Path("avatar.mp4")
    """The video (mp4: H.264 and AAC), written under a temporary name and renamed when whole."""

    height: int = 480
    """Rows of the video, a multiple of 16."""
    width: int = 832
    """Columns of the video, a multiple of 16."""
    fit: Fit = "cover"
    """How the picture is fitted: `cover` keeps its shape and crops, `stretch` distorts it (the release)."""
    crop: float = 0.5
    """With `cover`: share of what is cropped that is taken from the top or left."""
    enlarge: int = 1
    """Side of the square that each pixel becomes in the video (Lanczos), for models of small pictures."""
    fps: float = 25.0
    """Frames a second; the released models were trained at 25 to 30."""
    crf: int = 18
    """Quality of the H.264 stream: lower is better and larger."""

    steps: int = 50
    """Denoising steps."""
    solver: Literal["euler", "unipc", "dpm++"] = "euler"
    """How a step is taken; unipc and dpm++ need fewer steps than euler."""
    shift: float = 5.0
    """Moves steps towards high noise; Wan2.1 uses 5 at 480p and above, 3 below."""
    guidance: Literal["audio_native", "cfg", "none"] = "audio_native"
    """`audio_native` (paper 3.2), `cfg` (the release), or the prediction as it is."""
    w1: float = 3.0
    """audio_native: away from what silence would give."""
    w2: float = 1.0
    """audio_native: away from what no refined audio would give."""
    text_scale: float = 3.0
    """cfg: away from the negative prompt."""
    audio_scale: float = 5.0
    """cfg: away from no audio."""
    cfg_null: Literal["dropped", "silence"] = "dropped"
    """cfg: what no audio means: no refined audio (1.3B release), or the adapter on silence (14B release)."""
    windows: tyro.conf.OmitArgPrefixes[WindowConfig] = field(default_factory=WindowConfig)
    """How the video is cut into windows and fused."""
    seed: int = 0
    """Of the noise. The same seed gives the same video, also where the recording goes on longer."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Of weights and computation; the latents are float32 always."""

    save_conditions: Path | None = None
    """Write what the encoders made of picture, recording and prompt to this safetensors file, and stop."""
    conditions: Path | None = None
    """Read it from such a file: no encoder is loaded, `image` and `prompt` are not needed."""
    latents: Path | None = None
    """Keep the finished latents in this .npy file (by default it lies beside the output until the video is whole)."""
    decode_only: Path | None = None
    """Make the video from such latents: only the VAE runs, `image` and `prompt` are not needed."""

    def __post_init__(self):
        for name in ("height", "width"):
            if (value := getattr(self, name)) < 16 or value % 16:
                near = max(16, round(value / 16) * 16)
                raise Mistake(f"{name} is {value}, a multiple of 16 is needed; {near} is the nearest")
        checks = [
            ("steps", self.steps >= 1, "at least 1"),
            ("fps", 1 <= self.fps <= 120, "1 to 120"),
            ("shift", self.shift > 0, "above 0"),
            ("enlarge", 1 <= self.enlarge <= 16, "1 to 16"),
            ("crf", 0 <= self.crf <= 51, "0 to 51"),
            ("crop", 0 <= self.crop <= 1, "0 to 1"),
            ("seed", 0 <= self.seed < 2**32, "0 to 4294967295"),
        ]
        for name, good, needed in checks:
            if not good:
                raise Mistake(f"{name} is {getattr(self, name)}, {needed} is needed")
        _ = self.windows.plan(1)  # an impossible overlap is refused here

    def loras(self) -> list[tuple[Path, float]]:
        """Files of `lora` with their scales; raises ValueError for a scale that is no number."""
        found = []
        for each in self.lora:
            path, _, scale = each.rpartition(":")
            try:
                found.append((Path(path), float(scale)) if path else (Path(each), 1.0))
            except ValueError:
                raise Mistake(f"--lora {each}: {scale!r} is no scale; give PATH or PATH:SCALE") from None
        return found

    def guided(self) -> Guidance:
        """The guidance chosen, as branches and coefficients."""
        if self.guidance == "none":
            return guidance.none()
        if self.guidance == "cfg":
            return guidance.cfg(self.text_scale, self.audio_scale, self.cfg_null)
        return guidance.audio_native(self.w1, self.w2)

    @property
    def window_frames(self) -> int:
        """Video frames of one window."""
        return FRAMES_PER_LATENT * (self.windows.window - 1) + 1

    def latent_size(self) -> tuple[int, int]:
        """Rows and columns of the latents."""
        scale = self.model.vae.space_factor
        return self.height // scale, self.width // scale

    @property
    def parts(self) -> tuple[str, ...]:
        """The networks this job runs, in their order."""
        encoders = ("umt5", "clip_vision", "wav2vec2", "vae")
        if self.decode_only:
            return ("vae",)
        if self.save_conditions:
            return encoders
        return ("dit", "vae") if self.conditions else (*encoders, "dit", "vae")


def check(config: SampleConfig) -> SampleConfig:
    """The job with its checkpoint's own model config; raises ValueError for what is missing or does not fit together.

    Everything is looked at that would stop the job later, from metadata alone.
    """
    for name in ("audio",) if config.decode_only or config.conditions else ("image", "audio"):
        if getattr(config, name) is None:
            raise Mistake(f"--{name} is missing: a video is made from --image and --audio, see --help")
    if (directory := config.checkpoint) is None:
        if not config.random_weights:
            raise Mistake("--checkpoint is missing: give a model directory, made by `python -m convert import`")
        return config
    config = dataclasses.replace(config, model=read_config(directory, AvatarConfig))
    for name in config.parts:
        check_params(directory / name, abstract_params(part(config.model, name)))
    return config
