"""The true mouth: how far it is open and how wide it is, from the phonemes and their times.

Every letter of the IPA has a target; targets are joined by smoothing over about 70 ms, which is how neighbouring
sounds colour each other; lips that meet (p b m) shut the mouth whatever is around them. Loudness plays no part.
"""

import functools
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stableavatar_jax.shapes import Float
from stableavatar_jax.world.speech import Phoneme

RATE = 200
"""Moments a second at which targets are laid out before they are smoothed."""
SMOOTHING = 0.030
"""Standard deviation of the Gaussian in seconds; its full width at half height is 0.07 s."""
RELEASE = 0.04
"""Seconds in which lips that met open again, and shut before."""
STOP_CLOSED = 0.65
"""Share of a stop's time before its release (a little less than measured on espeak-ng's b and p)."""
NEUTRAL_WIDTH = 0.5
SHUT, OPEN_DEFAULT = 0.0, 0.3

# (opening, width); None is taken from the sounds before and after. Width: 0 rounded, 0.5 neutral, 1 stretched.
Target = tuple[float | None, float | None]
VOWELS: dict[str, Target] = {
    **dict.fromkeys("i", (0.25, 1.0)), **dict.fromkeys("y", (0.2, 0.0)), **dict.fromkeys("ɨ", (0.25, 0.75)),
    **dict.fromkeys("ʉ", (0.2, 0.1)), **dict.fromkeys("ɯ", (0.25, 0.55)), **dict.fromkeys("u", (0.2, 0.0)),
    **dict.fromkeys("ɪ", (0.35, 0.85)), **dict.fromkeys("ʏ", (0.3, 0.1)), **dict.fromkeys("ʊ", (0.32, 0.15)),
    **dict.fromkeys("eɘ", (0.5, 0.9)), **dict.fromkeys("øɵ", (0.45, 0.15)), **dict.fromkeys("oɤ", (0.5, 0.15)),
    **dict.fromkeys("ə", (0.42, 0.5)), **dict.fromkeys("ɚ", (0.4, 0.35)),
    **dict.fromkeys("ɛ", (0.68, 0.8)), **dict.fromkeys("ɜɝ", (0.6, 0.45)), **dict.fromkeys("ʌ", (0.68, 0.5)),
    **dict.fromkeys("œɞ", (0.62, 0.2)), **dict.fromkeys("ɔ", (0.7, 0.2)),
    **dict.fromkeys("æ", (0.85, 0.75)), **dict.fromkeys("ɐ", (0.8, 0.55)),
    **dict.fromkeys("a", (0.95, 0.6)), **dict.fromkeys("ɑ", (1.0, 0.5)), **dict.fromkeys("ɒɶ", (0.9, 0.3)),
}  # fmt: skip
CONSONANTS: dict[str, Target] = {
    **dict.fromkeys("pbmɓʙ", (SHUT, None)), **dict.fromkeys("fvɱʋ", (0.08, 0.6)), **dict.fromkeys("ɸβ", (0.1, 0.4)),
    **dict.fromkeys("wʍɥ", (0.14, 0.0)),
    **dict.fromkeys("θð", (0.2, 0.6)), **dict.fromkeys("sz", (0.15, 0.75)), **dict.fromkeys("tdnʦʣɗ", (0.22, 0.6)),
    **dict.fromkeys("lɫɬɮ", (0.32, 0.55)), **dict.fromkeys("rɾ", (0.28, 0.55)), **dict.fromkeys("ɹɻ", (0.25, 0.3)),
    **dict.fromkeys("ʃʒʂʐʧʤ", (0.2, 0.2)), **dict.fromkeys("ɕʑ", (0.18, 0.55)),
    **dict.fromkeys("ʈɖɳɽɭ", (0.27, 0.45)), **dict.fromkeys("jʝçcɟɲʎ", (0.22, 0.85)),
    **dict.fromkeys("kgɡŋxɣ", (0.3, None)), **dict.fromkeys("qɢɴχʁʀħʕ", (0.38, None)),
    **dict.fromkeys("hɦʔ", (None, None)),
}  # fmt: skip
TARGETS = VOWELS | CONSONANTS
UNKNOWN: Target = (OPEN_DEFAULT, NEUTRAL_WIDTH)
"""The shape for a phoneme none of whose letters is in the table. Other unknown letters are passed over."""
LIPS = frozenset("pbmɓʙ")
STRESS = {"ˈ": 1.0, "ˌ": 0.95}
UNSTRESSED = 0.88
"""Vowels open so much less far without a stress mark."""
REACH = 1.25
"""Vowels aim so much farther than their target: most are too short to get there."""


@dataclass(frozen=True)
class Mouth:
    """What the lips do, at the middle of every frame."""

    opening: Float[np.ndarray, "T"]
    """0 shut .. 1 wide open."""
    width: Float[np.ndarray, "T"]
    """0 rounded as in u, 0.5 neutral, 1 stretched as in i."""


def from_phonemes(phonemes: Sequence[Phoneme], frames: int, fps: int | float = 25) -> Mouth:
    """The mouth in every frame of a video, for phonemes in the order of their times.

    Lips that meet are seen in at least one frame: a closure shorter than a frame is lengthened to one. Where nothing
    is said the mouth is shut.
    """
    moments = (np.arange(round((frames / fps + 1) * RATE)) + 0.5) / RATE - 0.5  # half a second on either side
    opening, width = np.zeros_like(moments), np.full_like(moments, NEUTRAL_WIDTH)
    for start, end, (part_opening, part_width) in _parts(phonemes):
        inside = slice(*np.searchsorted(moments, (start, end)))
        opening[inside] = np.nan if part_opening is None else part_opening
        width[inside] = np.nan if part_width is None else part_width
    opening, width = (_smooth(_filled(moments, curve)) for curve in (opening, width))
    middles = (np.arange(frames) + 0.5) / fps
    seen = np.interp(middles, moments, opening).clip(0, 1) * _gate(middles, closures(phonemes), 1 / fps)
    return Mouth(seen.astype(np.float32), np.interp(middles, moments, width).astype(np.float32))


def closures(phonemes: Sequence[Phoneme]) -> list[tuple[float, float]]:
    """Start and end in seconds of every meeting of the lips. A stop lets go at 0.65 of its time, m at its end."""
    found = []
    for phoneme in phonemes:
        first = _letters(phoneme.symbol)[:1]
        if first in LIPS:
            share = 1.0 if first == "m" else STOP_CLOSED
            found.append((phoneme.start, phoneme.start + share * (phoneme.end - phoneme.start)))
    return found


def _parts(phonemes: Sequence[Phoneme]) -> list[tuple[float, float, Target]]:
    """Start, end and target of every part of every phoneme. The first of two vowels has 0.6 of the time."""
    parts: list[tuple[float, float, Target]] = []
    for phoneme in phonemes:
        targets = _targets(phoneme.symbol)
        shares = (0.6, 0.4) if len(targets) == 2 else (1 / len(targets),) * len(targets)
        edges = phoneme.start + (phoneme.end - phoneme.start) * np.cumsum([0, *shares])
        parts += zip(edges[:-1].tolist(), edges[1:].tolist(), targets, strict=True)
    return parts


@functools.cache
def _targets(symbol: str) -> tuple[Target, ...]:
    """The targets of a phoneme's letters, one after another; stress opens vowels."""
    stress = STRESS.get(symbol[:1], UNSTRESSED)
    return tuple(
        (REACH * stress * opening, width) if letter in VOWELS and opening is not None else (opening, width)
        for letter in _letters(symbol)
        for opening, width in [TARGETS[letter]]
    ) or (UNKNOWN,)


@functools.cache
def _letters(symbol: str) -> str:
    """The letters of the table in a phoneme: no marks of stress, length, tone and such, no aspiration after others."""
    plain = "".join(letter for letter in unicodedata.normalize("NFD", symbol) if letter in TARGETS)
    return plain[:1] + plain[1:].replace("h", "")


def _filled(moments: Float[np.ndarray, "M"], curve: Float[np.ndarray, "M"]) -> Float[np.ndarray, "M"]:
    """What is left to the neighbours (NaN) goes straight from the one to the other."""
    known = ~np.isnan(curve)
    return np.interp(moments, moments[known], curve[known])


def _smooth(curve: Float[np.ndarray, "M"]) -> Float[np.ndarray, "M"]:
    reach = np.arange(-round(4 * SMOOTHING * RATE), round(4 * SMOOTHING * RATE) + 1) / RATE
    kernel = np.exp(-0.5 * (reach / SMOOTHING) ** 2)
    return np.convolve(np.pad(curve, len(reach) // 2, mode="edge"), kernel / kernel.sum(), mode="valid")


def _gate(moments: Float[np.ndarray, "T"], shut: list[tuple[float, float]], frame: float) -> Float[np.ndarray, "T"]:
    """0 while lips meet, 1 from `RELEASE` before and after on."""
    gate = np.ones_like(moments)
    for start, end in shut:
        longer = max(0.0, frame * 1.001 - (end - start)) / 2  # so that the middle of a frame is inside
        outside = np.maximum(np.maximum(start - longer - moments, moments - end - longer), 0)
        gate = np.minimum(gate, outside / RELEASE)
    return gate
