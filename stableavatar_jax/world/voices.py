"""Voices and sentences, split into those for training and those held out for measuring."""

import functools
from dataclasses import dataclass
from importlib import resources

import numpy as np

from stableavatar_jax.world.config import Split
from stableavatar_jax.world.speech import Speech, say

ACCENTS = {
    "en": ("en", "en-us", "en-gb-scotland", "en-gb-x-rp"), "fr": ("fr", "fr-be"), "es": ("es", "es-419"),
    "pt": ("pt", "pt-br"),
}  # fmt: skip
"""espeak-ng's languages that read the sentences of one of ours; the others read their own alone."""

TRAINING_VARIANTS = (
    "", "m1", "m2", "m3", "m4", "m6", "m8", "f1", "f2", "f4", "croak", "klatt", "klatt2", "klatt4", "klatt6", "Alex",
    "Andrea", "Annie", "Lee", "Mario", "Michael", "Reed", "adam", "anika", "aunty", "belinda", "david", "edward",
    "grandma", "grandpa", "gustave", "michel", "norbert", "robosoft4", "sandro", "shelby", "steph", "travis", "zac",
)  # fmt: skip
HELD_OUT_VARIANTS = ("m5", "m7", "f3", "f5", "klatt3", "klatt5", "Alicia", "Mike", "Storm", "boris", "linda", "miguel")
HELD_OUT_LANGUAGES = ("cs", "ro")
HELD_OUT_SENTENCES = 5
"""Every so many-th sentence of a language is held out."""


@dataclass(frozen=True)
class Voice:
    """A speaker: the arguments of `speech.say` besides the text."""

    language: str
    """A language of `sentences`."""
    name: str
    """espeak-ng's voice, language or accent and variant."""
    speed: int
    pitch: int
    pitch_range: int

    def say(self, text: str) -> Speech:
        """The text in this voice."""
        return say(text, self.name, speed=self.speed, pitch=self.pitch, pitch_range=self.pitch_range)


@functools.cache
def _all_sentences() -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    text = resources.files("stableavatar_jax.world").joinpath("sentences.txt").read_text(encoding="utf-8")
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("["):
            current = found.setdefault(line[1:-1], [])
        elif not line.startswith("#"):
            current.append(line)
    return {language: tuple(lines) for language, lines in found.items()}


def sentences(language: str, split: Split) -> tuple[str, ...]:
    """The sentences of a language that belong to a split."""
    wanted = split == "test"
    numbered = enumerate(_all_sentences()[language], start=1)
    return tuple(text for number, text in numbered if (number % HELD_OUT_SENTENCES == 0) == wanted)


def languages(split: Split) -> tuple[str, ...]:
    """The languages of a split; those of training are among those of the test, where other voices speak them."""
    return tuple(name for name in _all_sentences() if split == "test" or name not in HELD_OUT_LANGUAGES)


def draw_voice(rng: np.random.Generator, split: Split) -> Voice:
    """A random speaker. No pair of language and variant is in both splits: a held-out variant speaks any language."""
    language = str(rng.choice(languages(split)))
    accent = str(rng.choice(ACCENTS.get(language, (language,))))
    variant = str(rng.choice(TRAINING_VARIANTS if split == "train" else HELD_OUT_VARIANTS))
    return Voice(
        language, f"{accent}+{variant}" if variant else accent,
        speed=int(rng.integers(125, 215)), pitch=int(rng.integers(15, 85)), pitch_range=int(rng.integers(15, 90)),
    )  # fmt: skip
