"""Values that the small avatar has to reach. docs/demo.md says where each number comes from."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Gate(NamedTuple):
    """A bound on a measure."""

    measure: str
    least: float = -float("inf")
    most: float = float("inf")

    def passes(self, value: float) -> bool:
        """Whether a value is within the bounds; NaN is not."""
        return self.least <= value <= self.most

    def __str__(self) -> str:
        return f"at least {self.least:g}" if self.most == float("inf") else f"at most {self.most:g}"


CODEC = (Gate("lip_psnr", least=28), Gate("r", least=0.93))
TALK = (
    Gate("r", least=0.7),
    Gate("lag", most=1),
    Gate("over_loudness", least=0.1),
    Gate("shut", least=0.8),
    Gate("wrong_r", most=0.2),
    Gate("lip_psnr", least=20),
)
RECORDINGS = (Gate("rule_r", least=0.6),)
DRIFT = (
    Gate("colour_drift", most=1),
    Gate("sharpness", least=0.97),
    Gate("r_kept", least=-0.03),
    Gate("proportions", most=0.05),
    Gate("mouth_least", least=0.25),
    Gate("head_least", least=0.0026),
)


def missed(gates: Sequence[Gate], values: Mapping[str, float]) -> list[str]:
    """Names of the measures that are out of their bounds."""
    return [gate.measure for gate in gates if not gate.passes(values[gate.measure])]
