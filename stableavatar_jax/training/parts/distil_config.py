"""Options of distillation: a student learns from a trained model with its guidance. Read without JAX."""

from dataclasses import dataclass, field
from typing import Literal

from stableavatar_jax.errors import Mistake
from stableavatar_jax.training.config import GuidanceConfig, Told
from stableavatar_jax.training.parts.config import StepConfig, TrainConfig


@dataclass(frozen=True, kw_only=True)
class TeacherConfig(GuidanceConfig):
    """The model that is learned from: the weights of `--checkpoint`, guided. What is not given is as its
    `sampling.json` says."""

    negative_prompt: str | None = None
    """cfg: what should not be seen."""


@dataclass(frozen=True, kw_only=True)
class StudentConfig:
    """What the student learns to do in one evaluation."""

    steps: int = 0
    """Denoising steps that the student will take. 0 for any number: at every noise level it learns the teacher's guided
    velocity, and saves the branches of guidance but no step."""
    substeps: int = 4
    """Steps of the teacher that the student learns to take as one."""

    def __post_init__(self):
        if self.steps < 0:
            raise Mistake(f"student.steps is {self.steps}, 0 (for any number) or more is needed")
        if self.substeps < 1:
            raise Mistake(f"student.substeps is {self.substeps}, 1 or more is needed")

    def levels(self, shift: float) -> tuple[float, ...]:
        """Noise levels of the student's steps, from 1 to the final 0; empty where it may take any number."""
        evenly = (1 - i / self.steps for i in range(self.steps + 1)) if self.steps else ()
        return tuple(shift * u / (1 + (shift - 1) * u) for u in evenly)


@dataclass(frozen=True, kw_only=True)
class DistilConfig(TrainConfig):
    """Distil a trained transformer: a student learns its guided velocity in one evaluation, then to take fewer steps.

    python train.py --part distil --config distil_1b --checkpoint MODEL \\
        --data RECORDS --run-dir RUN
    python train.py --run-dir RUN --export GUIDED
    python train.py --part distil --config distil_1b --checkpoint GUIDED \\
        --data RECORDS --run-dir FEW --student.steps 4

    The student begins with the weights of --checkpoint, which are the teacher's too. What is exported is sampled
    without guidance, in the student's steps.
    """

    part: Told[Literal["distil"]] = "distil"
    """Part of the model that is trained: `--part` on the command line."""
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    """The model that is learned from."""
    student: StudentConfig = field(default_factory=StudentConfig)
    """What the student learns to do in one evaluation."""
    step: StepConfig = field(default_factory=lambda: StepConfig(silent=0.0, clip_level=0.0))
    """What a step draws and minimises."""
    def __post_init__(self):
        super().__post_init__()
        for name in ("silent", "blind", "clip_level"):
            if getattr(self.step, name):
                raise Mistake(
                    f"step.{name} is {getattr(self.step, name)}, 0 is needed: a student is sampled without guidance, "
                    "and always has sound and picture"
                )

    @property
    def draws_frozen(self) -> bool:
        """Nothing can be learned from a teacher that was drawn from the seed."""
        return True
