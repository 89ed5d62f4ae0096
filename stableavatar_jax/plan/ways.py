"""What a video costs in ways that evaluate less: `python -m stableavatar_jax.plan fewer --help`."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stableavatar_jax.chips import chip_named
from stableavatar_jax.plan.topology import alone
from stableavatar_jax.presets import load_preset
from stableavatar_jax.sampling.config import SampleConfig, change
from stableavatar_jax.sampling.fewer import SAMPLERS

REUSE: dict[str, Any] = {"guidance_until": 0.5, "guidance_reuse": True}


@dataclass(frozen=True, kw_only=True)
class Ways:
    """Compare what a video costs with all evaluations, with guidance kept after half of the steps, with a step cache,
    and with the samplers of distilled weights: evaluations, operations, what is kept in memory, and time by formulae.

    python -m stableavatar_jax.plan fewer --config avatar_1b --chip h200 --seconds 60
    """

    config: str = "avatar_1b"
    """Sampling preset: a name of ours or the path of a Python file."""
    chip: str = "h200"
    """One chip: v4, v5e, v5p, v6e, h100 or h200."""
    seconds: float = 60.0
    """Length of the video."""
    cache: Path | None = None
    """A calibration that is valid for the preset; without one there are no rows of caches."""

    def run(self) -> None:
        """Plan, and print. Raises Mistake."""
        chip = chip_named(self.chip)
        alone()
        from stableavatar_jax.frames import SAMPLE_RATE
        from stableavatar_jax.plan import cost
        from stableavatar_jax.plan.machine import machine
        from stableavatar_jax.sampling.calibration import check
        from stableavatar_jax.sampling.timeline import timeline
        from stableavatar_jax.words import duration

        base = load_preset(self.config, SampleConfig)
        time = timeline(round(self.seconds * SAMPLE_RATE), base.frame.fps, base.denoising.windows)
        device = dataclasses.make_dataclass("Device", ["platform", "device_kind"])("accelerator", chip.kind)
        here = machine(device, base.weights.dtype)
        print(f"{self.config}, {self.seconds:g} s, {time.windows.count} windows, one {chip.kind}\n")
        print("| way | evaluations of a window | of all windows | PFLOP | kept, GiB | denoising |\n|" + " --- |" * 6)
        for name, config in self.ways(base):
            check(config.denoising, config.frame)
            config = dataclasses.replace(config, denoising=config.denoising.settled(time.windows.count))
            told = cost.plan(config, time)
            took = cost.seconds(config, told, here)["denoising"] - told.weights["denoising"] / cost.READING
            print(
                f"| {name} | {config.denoising.branches_run()} | {told.evaluations} | "
                f"{told.operations['denoising'] / 1e15:.4g} | {told.remembered / 2**30:.2g} | {duration(took)} |"
            )

    def ways(self, base: SampleConfig) -> Iterator[tuple[str, SampleConfig]]:
        """Each by its name."""
        yield "full", base
        yield "guidance kept after half", change(base, **REUSE)
        for most in (2, 4) if self.cache else ():
            yield f"cache, K {most}", change(base, cache=self.cache, cache_most=most)
            yield f"both, K {most}", change(base, **REUSE, cache=self.cache, cache_most=most)
        for sampler in SAMPLERS:
            yield sampler, change(base, sampler=sampler)
