"""What the demo avatar can do, measured on characters, voices and sentences it was not trained on.

The renderer knows the truth of its own clips: `python -m stableavatar_jax.demo.world build --split test` makes them.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from stableavatar_jax.checkpoint import load_part
from stableavatar_jax.data.clips import Clip
from stableavatar_jax.data.dataset import ClipDataset
from stableavatar_jax.demo.world.align import find_poses
from stableavatar_jax.demo.world.character import Character, draw_character
from stableavatar_jax.demo.world.draw import Pose, masks, render
from stableavatar_jax.demo.world.listening import loudness
from stableavatar_jax.demo.world.measure import correlation, lip_psnr, mouth_opening, shut_at
from stableavatar_jax.demo.world.mouth import Mouth
from stableavatar_jax.demo.world.speech import Phoneme
from stableavatar_jax.diffusion.windows import latent_frames
from stableavatar_jax.encoding import Encoders
from stableavatar_jax.models.avatar import AvatarConfig
from stableavatar_jax.sampling.decode import decode
from stableavatar_jax.sampling.jobs import SampleConfig, check
from stableavatar_jax.sampling.sampler import denoise, load_transformer
from stableavatar_jax.shapes import Float, UInt8

FPS = 25
MAX_LAG = 5
"""Frames either way in which the best lag is looked for."""
SHUT = 0.15
"""An opening below this is taken for a shut mouth in a generated picture."""

Frames = UInt8[np.ndarray, "T H W 3"]


class Known(NamedTuple):
    """A clip of the world with its truth."""

    clip: Clip
    character: Character
    mouth: Mouth
    phonemes: tuple[Phoneme, ...]

    def frames(self, count: int | None = None) -> Frames:
        """Its first pictures."""
        return np.stack([np.asarray(p) for p in self.clip.pictures(range(count or self.clip.frames))])


def read_known(clip: Clip) -> Known:
    """The truth in a clip's labels. Raises ValueError for a clip that the world did not make."""
    if not clip.labels:
        raise ValueError(f"{clip.id}: no labels; make clips with `python -m stableavatar_jax.demo.world build`")
    labels = json.loads(clip.labels)
    curves = (np.array(labels[name], np.float32) for name in ("opening", "width"))
    return Known(clip, draw_character(labels["character"]), Mouth(*curves), tuple(Phoneme(*p) for p in labels["phonemes"]))


@dataclass(frozen=True, kw_only=True)
class Codec:
    """The video autoencoder alone: clips through it and back."""

    checkpoint: Path
    """Model directory."""
    clips: Path
    """Held-out clips of the world."""
    number: int = 8
    """How many."""
    frames: int = 65
    """Of each, 4n + 1."""
    sheet: Path | None = None
    """PNG of what went in and what came out."""

    def run(self) -> dict[str, float]:
        """Means over the clips: decibels, those of the lips, and correlation of the mouth seen with the true one."""
        from stableavatar_jax.config import read_config

        model = read_config(self.checkpoint, AvatarConfig)
        vae, params = load_part(self.checkpoint, model, "vae")
        apply: Any = vae.apply
        there = jax.jit(lambda video: apply({"params": params}, video, method="encode")[0])
        back = jax.jit(lambda z: apply({"params": params}, z, method="decode")[0])
        rows, pictures = [], []
        for known in spread(ClipDataset(self.clips), self.number):
            frames = known.frames(self.frames)
            video = back(there(jnp.asarray(frames, jnp.float32)[None] / 127.5 - 1))[0]
            given = np.asarray(jnp.round((video + 1) * 127.5), np.uint8)
            lips = np.stack([np.asarray(known.clip.mask("lip_masks", n).convert("L")) for n in range(self.frames)]) / 255
            rows.append({
                "psnr": lip_psnr(given, frames, np.ones_like(lips)),
                "lip_psnr": lip_psnr(given, frames, lips),
                "r": correlation(mouth_opening(given, known.character).opening, known.mouth.opening[: self.frames]).r,
            })  # fmt: skip
            pictures += [frames, given]
        if self.sheet:
            write_sheet(self.sheet, pictures)
        return means(rows)


@dataclass(frozen=True, kw_only=True)
class Talk:
    """The whole avatar: held-out characters made to talk with held-out voices."""

    sample: SampleConfig
    """How videos are made; picture and recording are those of the clips."""
    clips: Path
    """Held-out clips of the world."""
    number: int = 8
    """How many."""
    sheet: Path | None = None
    """PNG of the true and the generated videos."""

    def run(self, show: Callable[[str], None] = print) -> dict[str, float]:
        """Means over the clips: `r` and `lag` of the generated opening against the true one, `loudness_r` of loudness,
        `wrong_r` against the truth of another clip, `lip_psnr`, share of p b m at which the mouth is `shut`, and how
        much the head moves.
        """
        all_known = spread(ClipDataset(self.clips), self.number)
        rows, pictures = [], []
        for place, known in enumerate(all_known):
            frames = talk(self.sample, known.frames(1)[0], known.clip.samples, known.clip.text)
            seen = mouth_opening(frames, known.character).opening
            truth, other = known.mouth.opening, all_known[(place + 1) % len(all_known)].mouth.opening
            length = min(len(seen), len(truth), len(other))
            seen, truth, other = seen[:length], truth[:length], other[:length]
            best = correlation(seen, truth, MAX_LAG)
            closures = shut_at(known.phonemes, seen, FPS)
            rows.append({
                "r": correlation(seen, truth).r,
                "lag": float(best.lag),
                "loudness_r": correlation(loudness(known.clip.samples, length), truth).r,
                "wrong_r": correlation(seen, other).r,
                "lip_psnr": shape_psnr(frames[:length], known),
                "shut": float(np.nanmean(closures < SHUT)) if np.isfinite(closures).any() else np.nan,
                "spread": float(seen.std() / max(truth.std(), 1e-6)),
            })  # fmt: skip
            show(f"{known.clip.id} " + " ".join(f"{name} {value:.2f}" for name, value in rows[-1].items()))
            pictures += [known.frames()[:length], frames[:length]]
        if self.sheet:
            write_sheet(self.sheet, pictures)
        return means(rows)


def talk(config: SampleConfig, picture: UInt8[np.ndarray, "H W 3"], samples: Float[np.ndarray, "S"], prompt: str) -> Frames:
    """The frames of a talking video of a picture of the right size and 16 kHz sound."""
    config = check(_with(config, image=Path("given"), audio=Path("given")))
    frames = round(len(samples) / 16000 * config.fps)
    plan = config.windows.plan(latent_frames(frames))
    encoders = Encoders(config.model, config.checkpoint, config.dtype, config.seed)
    prompts = [prompt, config.negative_prompt]
    conditions = encoders.conditions(np.float32(picture) / 127.5 - 1, samples, prompts, plan, config.fps)
    z = denoise(config, *load_transformer(config), conditions, plan)
    vae, params = load_part(config.checkpoint, config.model, "vae")
    return np.concatenate(list(decode(vae, params, z, frames)))


def shape_psnr(frames: Frames, known: Known) -> float:
    """Decibels of the lips' region against the character drawn with the true mouth, the head where it is seen to be."""
    poses = find_poses(frames, known.character)
    drawn, lips = [], []
    for place, pose in enumerate(poses):
        mouth = {"opening": float(known.mouth.opening[place]), "width": float(known.mouth.width[place])}
        true = Pose(**{"x": pose.x, "y": pose.y, "roll": pose.roll}, **mouth)
        drawn.append(render(known.character, true, frames.shape[1]))
        lips.append(masks(known.character, true, frames.shape[1])[1] / 255)
    return lip_psnr(frames, np.stack(drawn), np.stack(lips))


def spread(clips: ClipDataset, number: int) -> list[Known]:
    """So many clips, evenly spread over a data set."""
    chosen = np.linspace(0, len(clips) - 1, min(number, len(clips))).astype(int)
    return [read_known(clips[int(place)]) for place in chosen]


def means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of every column, without NaN."""
    return {name: float(np.nanmean([row[name] for row in rows])) for name in rows[0]}


def write_sheet(path: Path, videos: Sequence[Frames], columns: int = 16) -> None:
    """Frames spread evenly over each video, a row for each."""
    rows = [np.concatenate(video[np.linspace(0, len(video) - 1, columns).astype(int)], 1) for video in videos]
    Image.fromarray(np.concatenate(rows)).save(path)


def _with(config: SampleConfig, **changes: Any) -> SampleConfig:
    import dataclasses

    return dataclasses.replace(config, **changes)
