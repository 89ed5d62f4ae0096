"""The options of `sample.py`, in the groups that the rooms need. Read without JAX."""

import dataclasses
import difflib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from stableavatar_jax.diffusion import order
from stableavatar_jax.diffusion.windows import WindowConfig
from stableavatar_jax.errors import Mistake
from stableavatar_jax.frames import PIXELS_PER_LATENT
from stableavatar_jax.hosts import DistributedConfig, MeshConfig
from stableavatar_jax.models.compute import Attention
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.presets import Flat, FromPreset
from stableavatar_jax.sampling.fewer import Fewer
from stableavatar_jax.sampling.inputs import Inputs, check_option
from stableavatar_jax.sampling.several import Several

if TYPE_CHECKING:
    from stableavatar_jax.diffusion.guidance import Guidance
    from stableavatar_jax.diffusion.reuse import Schedule

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """What is written."""

    output: Path = Path("avatar.mp4")
    """The video (mp4: H.264 and AAC), written under a hidden name and renamed when it is whole."""
    crf: int = 18
    """Quality of the H.264 stream: lower is better and larger."""
    x264_preset: Literal["slow", "medium", "fast", "faster", "veryfast", "superfast", "ultrafast"] = "medium"
    """How much H.264 works for that quality: `veryfast` takes less time than `medium`, and its pictures are a
    little further from the frames."""
    latents: Path | None = None
    """Keep the finished latents in this .npy file, for --decode-only."""
    preview: Path | None = None
    """Picture (.png or .jpg) of what the first window is becoming, written about ten times while it is denoised. It is
    rough: no decoder makes it."""
    restart: bool = False
    """Throw away what an interrupted run of the same output left, instead of going on with it."""
    save_conditions: Path | None = None
    """Write the features of picture, recording and prompt to this safetensors file, and stop."""

    def __post_init__(self):
        check_option("crf", self.crf, 0 <= self.crf <= 51, "0 to 51")
        named = self.preview is None or self.preview.suffix.lower() in (".png", ".jpg", ".jpeg")
        check_option("preview", self.preview, named, "a name that ends in .png or .jpg")


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Which weights are used, and in which precision."""

    checkpoint: Path | None = None
    """Model directory (required): made by `python -m convert import` or `train.py --export`."""
    transformer: Path | None = None
    """Model directory whose transformer takes the place of the checkpoint's, of the same sizes: a distilled student, or
    another checkpoint of a training. It needs no other networks."""
    random_weights: bool = False
    """Draw all weights from the seed instead of reading a checkpoint, as a smoke test. The video shows noise."""
    lora: tuple[str, ...] = ()
    """LoRA files to add to the transformer's weights: PATH or PATH:SCALE, several if you like."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Precision of weights and computation; the latents are always float32."""
    attention: Attention = "auto"
    """Kernel of the transformer's attention; `auto` is the fastest that computes in `dtype` on this machine."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Size and rate of the video."""

    height: int = 480
    """Rows of the video, a multiple of 16."""
    width: int = 832
    """Columns of the video, a multiple of 16."""
    fps: float = 25.0
    """Frames a second; the released models were trained at 25 to 30."""
    fit: Literal["cover", "stretch"] = "cover"
    """How the picture is fitted: `cover` keeps its shape and crops, `stretch` distorts it (the release)."""
    crop: float = 0.5
    """With `cover`: share of the cropped area that is taken from the top or left."""
    enlarge: int = 1
    """Side of the square that each pixel becomes in the video (Lanczos), for models of small pictures."""

    def __post_init__(self):
        for name in ("height", "width"):
            if (value := getattr(self, name)) < 16 or value % 16:
                near = max(16, round(value / 16) * 16)
                raise Mistake(f"{name} is {value}, a multiple of 16 is needed; {near} is the nearest")
        check_option("fps", self.fps, 1 <= self.fps <= 120, "1 to 120")
        check_option("enlarge", self.enlarge, 1 <= self.enlarge <= 16, "1 to 16")
        check_option("crop", self.crop, 0 <= self.crop <= 1, "0 to 1")

    @property
    def latent_size(self) -> tuple[int, int]:
        """Rows and columns of the latents."""
        return self.height // PIXELS_PER_LATENT, self.width // PIXELS_PER_LATENT


@dataclass(frozen=True, kw_only=True)
class Denoising:
    """How noise becomes latents. Values that are equal share compiled programs."""

    steps: int = 50
    """Denoising steps."""
    solver: Literal["euler", "unipc", "dpm++"] = "euler"
    """How a step is taken; unipc and dpm++ need fewer steps than euler."""
    shift: float = 5.0
    """Moves steps towards high noise; Wan2.1 uses 5 at 480p and above, 3 below."""
    guidance: Literal["audio_native", "cfg", "none"] = "audio_native"
    """`audio_native` (paper 3.2), `cfg` (the release), or the prediction as it is."""
    w1: float = 3.0
    """audio_native: strength away from the velocity for silence."""
    w2: float = 1.0
    """audio_native: strength away from the velocity without refined audio."""
    text_scale: float = 3.0
    """cfg: strength away from the negative prompt."""
    audio_scale: float = 5.0
    """cfg: strength away from the velocity without audio."""
    cfg_null: Literal["dropped", "silence"] = "dropped"
    """cfg: what stands for no audio: no refined audio (1.3B release), or the adapter on silence (14B release)."""
    order: Literal["auto", "plain", "wavefront"] = "auto"
    """`plain` takes a step on the whole video, then the next; `wavefront` has each step at work on a window of its own,
    in memory that does not grow with the video, and finishes frames from the start. `auto` takes that for long
    videos."""
    windows: Flat[WindowConfig] = field(default_factory=WindowConfig)
    """How the video is cut into windows and fused."""
    fewer: Flat[Fewer] = field(default_factory=Fewer)
    """Fewer evaluations of the transformer."""

    def __post_init__(self):
        check_option("steps", self.steps, self.steps >= 1, "at least 1")
        check_option("shift", self.shift, 0 < self.shift < float("inf"), "a number above 0")
        for name in ("w1", "w2", "text_scale", "audio_scale"):
            check_option(name, value := getattr(self, name), abs(value) < float("inf"), "a finite number")
        _ = self.windows.plan(1)  # an impossible overlap is refused here
        for name, value in self.fewer.settled().items():
            object.__setattr__(self, name, value)
        self.fewer.check(self.steps, self.solver, self.guidance)

    def settled(self, *windows: int | None, most_rows: int = 1, devices: int = 1) -> "Denoising":
        """With the order and the rows that are taken for videos of so many windows (None: it is not known yet).

        Wavefront is taken for videos of more windows than its line has places, and for several. Of its rows there are
        as many as fit, up to `most_rows`, with no more waste than `order.MOST_WASTE`. In either order there are enough
        to give each of the `devices` as many branches as the others.
        """
        meet = order.reach(self.windows.window, self.windows.overlap)
        places = meet * self.steps
        long = any(count is None or count >= places for count in windows)
        chosen = self.order if self.order != "auto" else "wavefront" if long or len(windows) > 1 else "plain"
        rows = self.windows.rows
        if rows is None and chosen == "wavefront":
            counts = [10 * places if count is None else count for count in windows]
            rows = order.widest(counts, meet, self.steps, most_rows, self.schedule())
        if self.windows.rows is None and devices > 1:
            schedule = self.schedule()
            alone = any(not step.guided for step in schedule)  # some steps evaluate a single branch of each window
            rows = max(rows or 1, devices // math.gcd(devices, 1 if alone else len(self.guided().branches)))
        return dataclasses.replace(self, order=chosen, windows=dataclasses.replace(self.windows, rows=rows or 1))

    def schedule(self) -> "Schedule":
        """What each step evaluates; empty where all of them evaluate everything. Raises Mistake for its cache."""
        from stableavatar_jax.sampling.calibration import schedule

        return schedule(self)

    def branches_run(self) -> int:
        """Evaluations of a window: branches that pass the transformer's blocks, over all steps."""
        branches = len(self.guided().branches)
        schedule = self.schedule()
        run = sum(branches if step.guided else 1 for step in schedule if not step.skipped)
        return run if schedule else self.steps * branches

    def guided(self) -> "Guidance":
        """The guidance chosen, as branches and coefficients."""
        from stableavatar_jax.diffusion import guidance

        if self.guidance == "none":
            return guidance.none()
        if self.guidance == "cfg":
            return guidance.cfg(self.text_scale, self.audio_scale, self.cfg_null)
        return guidance.audio_native(self.w1, self.w2)


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """Turn a picture and a recording into a talking video.

    python sample.py --config avatar_1b --checkpoint DIR \\
        --image face.png --audio speech.wav --output talk.mp4
    """

    inputs: Flat[Inputs] = field(default_factory=Inputs)
    """What the video is made from."""
    keeping: Flat[Keeping] = field(default_factory=Keeping)
    """What is written."""
    several: Flat[Several] = field(default_factory=Several)
    """A list of videos instead of one."""
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    """Processes that share the videos of --jobs."""
    weights: Flat[Weights] = field(default_factory=Weights)
    """Which weights are used."""
    frame: Flat[Frame] = field(default_factory=Frame)
    """Size and rate of the video."""
    denoising: Flat[Denoising] = field(default_factory=Denoising)
    """How noise becomes latents."""
    mesh: MeshConfig = field(default_factory=MeshConfig)
    """How several devices are arranged. By default each has all weights where they fit, and rows of its own, of which
    each is one branch of guidance of one window."""
    model: FromPreset[AvatarConfig] = field(default_factory=AvatarConfig)
    """The networks; a checkpoint's config.json takes its place."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The networks this job runs, in their order."""
        encoders = ("umt5", "clip_vision", "wav2vec2", "vae")
        if self.inputs.decode_only:
            return ("vae",)
        if self.keeping.save_conditions:
            return encoders
        return ("dit", "vae") if self.inputs.conditions else (*encoders, "dit", "vae")


def change(config: T, **options: Any) -> T:
    """The config with some options changed, each by its name on the command line, whichever group it belongs to.

    Raises Mistake for a name that is not an option, with the nearest one, and for an option that another one settles.
    """
    given = dict(options)
    groups = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}  # type: ignore[arg-type]
    own = {name: options.pop(name) for name in groups.keys() & options.keys()}
    nested = {name: group for name, group in groups.items() if dataclasses.is_dataclass(group) and name != "model"}
    for name, group in nested.items():
        inside = {option: options.pop(option) for option in list(options) if option in names(group)}
        if inside:
            own[name] = change(group, **inside)
    if options:
        unknown = next(iter(options))
        near = difflib.get_close_matches(unknown, names(config), 1, 0.4)
        advice = f"did you mean {near[0]}?" if near else "see --help"
        raise Mistake(f"{unknown} is not an option of sampling; {advice}")
    changed = dataclasses.replace(config, **own)  # type: ignore[type-var]
    if isinstance(changed, Denoising):
        changed.fewer.refuse(given)
    return changed


def names(config: Any) -> list[str]:
    """Names of all options of a config, those of its groups included."""
    found = []
    for each in dataclasses.fields(config):
        value = getattr(config, each.name)
        found += names(value) if dataclasses.is_dataclass(value) and each.name != "model" else [each.name]
    return found
