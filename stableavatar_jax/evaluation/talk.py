"""How well held-out characters speak held-out voices, and recordings of real people."""

from collections.abc import Sequence

import numpy as np

from stableavatar_jax import media
from stableavatar_jax.compiling import keep_compiled
from stableavatar_jax.data.clips.dataset import ClipDataset
from stableavatar_jax.evaluation import gates, video
from stableavatar_jax.evaluation.config import Talk
from stableavatar_jax.evaluation.report import finish, means
from stableavatar_jax.evaluation.sheet import film_strips
from stableavatar_jax.evaluation.video import Frames
from stableavatar_jax.frames import SAMPLE_RATE
from stableavatar_jax.shapes import Float
from stableavatar_jax.world.align import find_poses
from stableavatar_jax.world.correlation import correlation
from stableavatar_jax.world.draw import Pose, masks, render
from stableavatar_jax.world.known import Known, speaking
from stableavatar_jax.world.listening import from_sound, loudness
from stableavatar_jax.world.measure import lip_psnr, mouth_opening, shut_at

MAX_LAG = 5
"""Frames either way in which the best lag is looked for."""
SHUT = 0.15
"""An opening below this is taken for a shut mouth in a generated picture."""


def judge(config: Talk) -> int:
    """Make the videos, measure, print, write; returns 1 where a gate is missed."""
    keep_compiled()
    clips = speaking(ClipDataset(config.clips), len(config.recordings) or config.number)
    checkpoint, steps = str(config.sample.weights.checkpoint), config.sample.denoising.steps
    about = {"checkpoint": checkpoint, "steps": steps, "captions": config.captions}
    if config.recordings:
        return judge_recordings(config, clips, about)
    made = [speak(config, known, known.clip.samples) for known in clips]
    poses = [find_poses(frames, known.character) for frames, known in zip(made, clips, strict=True)]
    rows = {}
    for place, (frames, known, seen) in enumerate(zip(made, clips, poses, strict=True)):
        others = [other.mouth.opening for other in clips[:place] + clips[place + 1 :]]
        rows[known.clip.id] = measure(frames, seen, known, others)
    strips = [strip for known, frames in zip(clips, made, strict=True) for strip in (known.frames(), frames)]
    return finish(config.output, rows, means(rows), gates.TALK, about, {"sheet": film_strips(strips)})


def judge_recordings(config: Talk, clips: Sequence[Known], about: dict[str, object]) -> int:
    """The same for recordings without truth."""
    sounds = [media.read_sound(path)[: round(config.seconds * SAMPLE_RATE)] for path in config.recordings]
    rows, strips = {}, []
    for place, (path, samples) in enumerate(zip(config.recordings, sounds, strict=True)):
        known = clips[place % len(clips)]
        frames = speak(config, known, samples)
        rows[path.name] = measure_recording(mouth_opening(frames, known.character).opening, samples)
        strips.append(frames)
    return finish(config.output, rows, means(rows), gates.RECORDINGS, about, {"sheet": film_strips(strips)})


def speak(config: Talk, known: Known, samples: Float[np.ndarray, "S"]) -> Frames:
    """The video of a clip's character that speaks this sound."""
    prompt = known.clip.text if config.captions else config.sample.inputs.prompt
    return video.talk(config.sample, known.picture, samples, prompt)


def measure(
    frames: Frames, poses: Sequence[Pose], known: Known, others: Sequence[Float[np.ndarray, "S"]]
) -> dict[str, float]:
    """The measures of a video, from the poses seen in it and the true openings of other clips.

    `r` and `lag` (frames, either way) against the truth, `over_loudness` how much better than the loudness of the sound
    as a predictor, `wrong_r` the mean r against the others; `lip_psnr` decibels against the character drawn with the
    true mouth, and `shut_psnr` what a shut mouth would have; `shut` the share of p, b and m at which the mouth is shut,
    and `shut_share` of all frames; `spread` the standard deviation in units of the true one.
    """
    length = min(len(frames), known.clip.frames)
    frames, poses = frames[:length], poses[:length]
    seen, truth = mouth_opening(frames, known.character, poses).opening, known.mouth.opening[:length]
    against = [correlation(seen[: len(other)], other[:length]).r for other in others]
    r = correlation(seen, truth).r
    closures = shut_at(known.phonemes, seen, known.clip.fps)
    closures = closures[np.isfinite(closures)]
    drawn, shut, lips = _true_mouths(frames, poses, known)
    return {
        "r": r,
        "lag": float(abs(correlation(seen, truth, MAX_LAG).lag)),
        "over_loudness": r - correlation(loudness(known.clip.samples, length, known.clip.fps), truth).r,
        "wrong_r": float(np.mean(against)) if against else np.nan,
        "lip_psnr": lip_psnr(frames, drawn, lips),
        "shut_psnr": lip_psnr(shut, drawn, lips),
        "shut": float(np.mean(closures < SHUT)) if len(closures) else np.nan,
        "shut_share": float(np.mean(seen < SHUT)),
        "spread": float(seen.std() / truth.std()),
    }


def measure_recording(opening: Float[np.ndarray, "T"], samples: Float[np.ndarray, "S"]) -> dict[str, float]:
    """`rule_r` and `rule_lag` against the rule's answer, `loudness_r` against loudness, `spread` as above."""
    rule = from_sound(samples, len(opening))
    return {
        "rule_r": correlation(opening, rule).r,
        "rule_lag": float(abs(correlation(opening, rule, MAX_LAG).lag)),
        "loudness_r": correlation(opening, loudness(samples, len(opening))).r,
        "spread": float(opening.std() / max(float(rule.std()), 1e-6)),
    }


def _true_mouths(
    frames: Frames, poses: Sequence[Pose], known: Known
) -> tuple[Frames, Frames, Float[np.ndarray, "T H W"]]:
    """The character drawn with the true mouth and with a shut one, the head where it is seen to be, and its lips."""
    size, drawn, shut, lips = frames.shape[1], [], [], []
    mouths = zip(known.mouth.opening.tolist(), known.mouth.width.tolist(), strict=True)
    for pose, (opening, width) in zip(poses, mouths, strict=False):
        place = {"x": pose.x, "y": pose.y, "roll": pose.roll}
        drawn.append(render(known.character, Pose(opening=opening, width=width, **place), size))
        shut.append(render(known.character, Pose(**place), size))
        lips.append(masks(known.character, pose, size)[1] / np.float32(255))
    return np.stack(drawn), np.stack(shut), np.stack(lips)
