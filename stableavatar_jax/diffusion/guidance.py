"""Guidance: the predictions that a step needs, and how they are combined into one velocity."""

from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp

from stableavatar_jax.shapes import Array, Float

Text = Literal["prompt", "negative"]
Audio = Literal["sound", "silence", "dropped"]
Scale = float | int


@dataclass(frozen=True, kw_only=True)
class Branch:
    """One evaluation of the network, by its text and audio; the picture is always given."""

    text: Text = "prompt"
    audio: Audio = "sound"
    """`sound` as it is; `silence`: the adapter runs on zero features; `dropped`: the DiT gets zero refined audio."""


MAIN = Branch()
"""The branch with prompt and sound, which stands alone where there is no guidance."""


@dataclass(frozen=True)
class Guidance:
    """Branches and their coefficients, which sum to 1; a branch of coefficient zero is left out when it is built."""

    branches: tuple[Branch, ...]
    coefficients: tuple[Scale, ...]

    def __post_init__(self):
        kept = [(b, float(c)) for b, c in zip(self.branches, self.coefficients, strict=True) if c != 0]
        if abs(sum(c for _, c in kept) - 1) > 1e-6:  # else a velocity all branches agree on would be scaled
            raise ValueError(f"guidance coefficients {self.coefficients} sum to {sum(self.coefficients)}, not to 1")
        object.__setattr__(self, "branches", tuple(b for b, _ in kept))
        object.__setattr__(self, "coefficients", tuple(c for _, c in kept))


def none() -> Guidance:
    """The conditional prediction alone."""
    return Guidance((MAIN,), (1.0,))


def audio_native(w1: Scale = 3.0, w2: Scale = 1.0) -> Guidance:
    """Audio-native guidance (paper Eq. 6-10 in our reading, docs/method.md).

    Samples `p(z, r | a) p(a | z, r)^w1 p(r | z, a)^w2` for latents z, raw audio a and refined audio r: away from what
    silence would give by w1, away from what no refined audio would give by w2.
    """
    branches = (Branch(), Branch(audio="silence"), Branch(audio="dropped"))
    return Guidance(branches, (1.0 + w1 + w2, -w1, -w2))


def cfg(w_text: Scale = 3.0, w_audio: Scale = 5.0, null: Literal["dropped", "silence"] = "dropped") -> Guidance:
    """Classifier-free guidance as released: `u0 + w_audio (u1 - u0) + w_text (u2 - u1)`.

    The branches u0, u1, u2 are (negative text, no audio), (negative text, sound), (prompt, sound). What stands for no
    audio is `dropped` in the 1.3B release, `silence` in the 14B release.
    """
    branches = (Branch(text="negative", audio=null), Branch(text="negative"), Branch())
    return Guidance(branches, (1.0 - w_audio, w_audio - w_text, w_text))


def combine(velocities: Float[Array, "R K *shape"], guidance: Guidance) -> Float[Array, "R *shape"]:
    """The guided velocity of R windows from those of their K branches, in the branches' order; float32."""
    if velocities.shape[1] != len(guidance.branches):
        raise ValueError(f"{velocities.shape[1]} branches were evaluated, the guidance has {len(guidance.branches)}")
    terms = [c * velocities[:, k].astype(jnp.float32) for k, c in enumerate(guidance.coefficients)]
    return sum(terms[1:], terms[0])
