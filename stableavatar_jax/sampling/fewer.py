"""Options for fewer evaluations of the transformer. Read without JAX."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from stableavatar_jax.diffusion.reuse import FEWEST
from stableavatar_jax.errors import Mistake
from stableavatar_jax.sampling.inputs import check_option

Sampler = Literal["lightx2v", "self_forcing", "causvid", "rcm"]

_OF_THE_TABLE = tuple(5 * u / (1 + 4 * u) for u in (1.0, 0.75, 0.5, 0.25))  # places of the table of levels, shift 5
_ANGLES = (math.atan(80), 1.5, 1.4, 1.0)  # rCM's, on the circle where x is cos(a) video + sin(a) noise
SAMPLERS: dict[str, tuple[tuple[float, ...], bool]] = {
    "lightx2v": (_OF_THE_TABLE, False),
    "self_forcing": (_OF_THE_TABLE, True),
    "causvid": ((1.0, 0.757, 0.522), True),
    "rcm": (tuple(math.sin(a) / (math.sin(a) + math.cos(a)) for a in _ANGLES), True),
}
"""Noise levels before each step, and whether new noise is added after it, of weights that were distilled."""


@dataclass(frozen=True, kw_only=True)
class Fewer:
    """Fewer evaluations of the transformer."""

    guidance_from: float = 0.0
    """Share of the steps from which there is guidance; before it the branch with prompt and sound stands alone."""
    guidance_until: float = 1.0
    """Share of the steps until which there is guidance; after it the branch with prompt and sound stands alone."""
    guidance_reuse: bool = False
    """After --guidance-until, go on adding what guidance changed at its last step, instead of leaving it off."""
    cache: Path | None = None
    """File that `python -m stableavatar_jax.sampling calibrate` made for this model and these options: the blocks are
    left out at the steps where they add nearly what they added before (MagCache). For 10 steps or more."""
    cache_threshold: float = 0.12
    """Error that the steps which are left out in a row may add up to; more leaves out more steps."""
    cache_most: int = 2
    """The most steps that are left out in a row; 2 to 4 are usual."""
    cache_first: float = 0.2
    """Share of the steps before which none is left out."""
    sampler: Sampler | None = None
    """The way of sampling that distilled weights were trained for: its noise levels, with Euler's steps or with new
    noise after each, and without guidance. It takes the place of the steps, solver, shift and guidance of a preset;
    another --steps, --solver, --shift or --guidance beside it is refused."""
    levels: tuple[float, ...] = ()
    """Noise levels before each step, falling, 1 is noise; a last step goes to 0. They take the place of the levels of
    --sampler, and of a preset's steps and shift; another --steps or --shift beside them is refused. --levels with
    nothing after it takes away those of a preset."""
    renoise: bool | None = None
    """Whether each step but the last goes to the video that it predicts and adds new noise to it (by default as
    --sampler says, else not)."""

    def __post_init__(self):
        for name in ("guidance_from", "guidance_until", "cache_first"):
            check_option(name, value := getattr(self, name), 0 <= value <= 1, "a share of 0 to 1")
        check_option("cache_threshold", self.cache_threshold, 0 <= self.cache_threshold < math.inf, "0 or more")
        check_option("cache_most", self.cache_most, self.cache_most >= 1, "1 or more")
        if self.guidance_from >= self.guidance_until:
            raise Mistake(
                f"guidance_from is {self.guidance_from}, a share below guidance_until, {self.guidance_until}, is "
                "needed; --guidance none has no guidance at all"
            )
        if self.guidance_reuse and self.guidance_until == 1:
            raise Mistake("guidance_reuse adds guidance after --guidance-until, which is 1; give a share such as 0.5")
        falling = all(a > b for a, b in pairwise([*self.levels, 0.0]))
        if not falling or max(self.levels, default=1) > 1:
            raise Mistake(f"levels are {', '.join(map(str, self.levels))}; they fall from 1 or less and stay above 0")

    @property
    def noise_levels(self) -> tuple[float, ...]:
        """Those before each step; empty where steps and shift say them."""
        return self.levels or (SAMPLERS[self.sampler][0] if self.sampler else ())

    def settled(self) -> dict[str, Any]:
        """Options of denoising that are settled here, whatever a preset says, with their values."""
        of_sampler = {"solver": "euler", "guidance": "none"} if self.sampler else {}
        return of_sampler | ({"steps": len(self.noise_levels)} if self.noise_levels else {})

    def refuse(self, given: Mapping[str, Any]) -> None:
        """Raise Mistake for an option of denoising that was given, as a value or its text, and is settled otherwise
        here."""
        settled = self.settled() | ({"shift": None} if self.noise_levels else {})
        for name in [name for name in settled if name in given and str(given[name]) != str(settled[name])]:
            by, out = f"--sampler {self.sampler}", "leave out one of them"
            if self.levels and name in ("steps", "shift"):
                by = f"--levels {' '.join(f'{level:g}' for level in self.levels)}"
                out += "; --levels with nothing after it takes away those of a preset"
            raise Mistake(f"--{name} {given[name]} would change nothing beside {by}: {out}")

    @property
    def renoises(self) -> bool:
        """Whether new noise is added after each step."""
        return self.renoise if self.renoise is not None else bool(self.sampler and SAMPLERS[self.sampler][1])

    def check(self, steps: int, solver: str, guidance: str) -> None:
        """Raise Mistake for what cannot be with the other options of denoising."""
        interval = (self.guidance_from, self.guidance_until) != (0, 1)
        if guidance == "none" and (interval or self.guidance_reuse):
            why = f"--sampler {self.sampler}" if self.sampler else "--guidance none"
            raise Mistake(f"{why} has one branch alone: there is no guidance to reuse, or to leave out")
        if self.cache and steps < FEWEST:
            raise Mistake(f"a cache is worth nothing at 8 steps or fewer; {steps} are taken, {FEWEST} are needed")
        if self.renoises and solver != "euler":
            raise Mistake(f"renoise goes to the video that is predicted, and {solver} does not; take --solver euler")
        if solver != "euler" and max(self.noise_levels, default=0) == 1:
            raise Mistake(f"{solver} divides by 1 - s: --levels begin below 1, such as 0.999, or take --solver euler")

    @property
    def whole(self) -> bool:
        """Whether every step evaluates all branches of guidance."""
        return (self.guidance_from, self.guidance_until, self.cache) == (0, 1, None)
