"""Options of what training of the transformer minimises."""

from dataclasses import dataclass
from typing import Literal

from stableavatar_jax.errors import Mistake

BRANCHES = ("all", "face", "lip")
"""Mask branches of the loss, in their order."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The weights of the loss; the defaults are the release's, save `motion_axis`."""

    shares: tuple[float, float, float] = (0.4, 0.1, 0.5)
    """How often each mask branch is drawn: `all`, `face` and `lip`."""
    motion: float = 0.25
    """Share of the motion loss in the sum; 0 leaves the motion loss out."""
    motion_axis: Literal["time", "channels"] = "time"
    """Axis along which the motion loss takes differences. The release takes channels, by mistake."""

    def __post_init__(self):
        if min(self.shares) < 0 or abs(sum(self.shares) - 1) > 1e-6:
            raise Mistake(f"shares {self.shares} of the branches {', '.join(BRANCHES)} must add up to 1")
        if not 0 <= self.motion <= 1:
            raise Mistake(f"motion is {self.motion}, a share of 0 to 1 is needed")
