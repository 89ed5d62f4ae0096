"""How well the video autoencoder alone reproduces held-out characters."""

import numpy as np

from stableavatar_jax import media
from stableavatar_jax.compiling import keep_compiled
from stableavatar_jax.data.clips.dataset import ClipDataset
from stableavatar_jax.errors import Mistake
from stableavatar_jax.evaluation import gates
from stableavatar_jax.evaluation.config_networks import Codec
from stableavatar_jax.evaluation.quality import detail_kept
from stableavatar_jax.evaluation.report import finish, means
from stableavatar_jax.evaluation.sheet import film_strips
from stableavatar_jax.evaluation.video import Frames, load_codec
from stableavatar_jax.frames import FRAMES_PER_LATENT
from stableavatar_jax.words import count
from stableavatar_jax.world.correlation import correlation
from stableavatar_jax.world.known import Known, speaking
from stableavatar_jax.world.measure import lip_psnr, mouth_opening

SHORTEST = FRAMES_PER_LATENT + 1
"""Frames of a clip below which nothing can be said of its motion."""


def judge(config: Codec) -> int:
    """Measure, print, write; returns 1 where a gate is missed. Raises Mistake for clips that are too short."""
    keep_compiled()
    known = speaking(ClipDataset(config.clips), config.number)
    for each in known:
        if each.clip.frames < SHORTEST:
            found = count(each.clip.frames, "frame")
            raise Mistake(f"{config.clips}: {each.clip.id} has {found}, {SHORTEST} are needed")
    codec = load_codec(config.checkpoint)
    rows, strips = {}, []
    for each in known:
        given = each.frames(whole_latents(min(config.frames, each.clip.frames)))
        kept = media.postprocess(codec(media.centred(given)[None])[0])
        rows[each.clip.id] = measure(kept, given, each)
        strips += [given, kept]
    about = {"checkpoint": str(config.checkpoint)}
    return finish(config.output, rows, means(rows), gates.CODEC, about, {"sheet": film_strips(strips)})


def whole_latents(frames: int) -> int:
    """The most frames, up to so many, that the autoencoder takes: 1 + 4n."""
    return frames - (frames - 1) % FRAMES_PER_LATENT


def measure(kept: Frames, given: Frames, known: Known) -> dict[str, float]:
    """Decibels of whole pictures and of the lips' region, shares of the detail of light and of colour kept, and
    the correlation of the mouth seen with the true one."""
    lips, truth = known.lips(len(kept)), known.mouth.opening[: len(kept)]
    light, colour = detail_kept(kept, given)
    return {
        "psnr": lip_psnr(kept, given, np.ones_like(lips)),
        "lip_psnr": lip_psnr(kept, given, lips),
        "light_kept": light,
        "colour_kept": colour,
        "r": correlation(mouth_opening(kept, known.character).opening, truth).r,
    }
