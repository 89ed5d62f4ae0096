"""What a plan says: memory by kind, what is sent along which axes, time and share of peak; as a table and as JSON."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stableavatar_jax.whole import whole


@dataclass(frozen=True, kw_only=True)
class Told:
    """The cost of one step on some chips; bytes and seconds are those of one chip."""

    what: str
    """What is done, in words."""
    topology: str
    chips: int
    mesh: str
    memory: dict[str, float]
    """Bytes by kind."""
    available: float
    """Bytes that there are."""
    model_flops: float
    """Operations that the step needs, over all chips."""
    flops: float = 0.0
    """Operations that a chip does, what is computed again included."""
    sent: dict[str, float] = field(default_factory=dict)
    """Bytes of results of collective operations, by `kind along axes`."""
    seconds: dict[str, float] = field(default_factory=dict)
    """`computing`, of which attention's `kernels`; `waiting` for collectives, and those `hidden`; the `step` itself."""
    accepted: bool | None = None
    """Whether the chips' own compiler made the program, as it makes none that does not fit; None where not asked."""
    mfu: float = 0.0
    """Share of the chips' peak that the model's operations are."""
    notes: tuple[str, ...] = ()
    """Where the figures come from."""

    @property
    def fits(self) -> bool:
        """Whether a chip has the memory, by the compiler's word where it was asked."""
        return sum(self.memory.values()) <= self.available if self.accepted is None else self.accepted

    def table(self) -> str:
        """A few lines for people."""
        gb = lambda sizes: ", ".join(f"{name} {size / 1e9:.2f}" for name, size in sizes.items() if size >= 5e6)  # noqa: E731
        total = sum(self.memory.values())
        lines = [
            f"{self.what}, on {self.chips} chips of {self.topology}" + (f", mesh {self.mesh}" if self.mesh else ""),
            f"  memory of a chip, GB: {gb(self.memory)}; together {total / 1e9:.2f} of {self.available / 1e9:.1f}: "
            + ("fits" if self.fits else "DOES NOT FIT")
            + (", by the compiler's word" if self.accepted is not None else ""),
            f"  operations: the model {self.model_flops / 1e12:.1f} TFLOP, a chip {self.flops / 1e12:.2f} TFLOP",
            f"  sent by a chip, GB: {gb(self.sent) or 'nothing'}",
        ]
        if self.seconds:
            times = ", ".join(f"{name} {value:.4g}" for name, value in self.seconds.items() if name != "step")
            lines.append(f"  seconds: {self.seconds['step']:.4g} ({times}); MFU {self.mfu:.2f}")
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])

    def line(self) -> str:
        """One line, to compare many."""
        total, fits = sum(self.memory.values()) / 1e9, "fits" if self.fits else "does not fit"
        return f"{self.seconds['step']:9.3f} s  MFU {self.mfu:.2f}  {total:7.1f} GB {fits}  {self.mesh or 'one chip'}"

    def write(self, path: Path) -> None:
        """The same as JSON. Raises Mistake."""
        plain: dict[str, Any] = dataclasses.asdict(self) | {"fits": self.fits}
        with whole(path) as partial:
            partial.write_text(json.dumps(plain, indent=2) + "\n")
