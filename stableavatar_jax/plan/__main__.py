"""What a step costs on chips that are not here: `python -m stableavatar_jax.plan train --help`."""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stableavatar_jax import commands
from stableavatar_jax.errors import Mistake
from stableavatar_jax.hosts import MeshConfig
from stableavatar_jax.models.compute import Remat
from stableavatar_jax.plan.topology import alone, parse
from stableavatar_jax.plan.ways import Ways
from stableavatar_jax.presets import load_preset
from stableavatar_jax.training.parts.config import Selection, TrainConfig

ABOUT = "What a step costs on chips that are not here: memory, whether it fits, what is sent, time and share of peak."


@dataclass(frozen=True, kw_only=True)
class Train:
    """Plan a training step. For a TPU the step is compiled by the TPU's compiler, which takes minutes and no TPU; for
    other chips, and with --search, the cost is estimated by formulae.

    python -m stableavatar_jax.plan train --config train_1b --topology v5p:2x2x1 --batch 4
    python -m stableavatar_jax.plan train --config train_14b --topology h100:64 --search
    """

    topology: str
    """Chips (required): v4, v5e, v5p or v6e with the sizes of its axes, as in v5p:4x4x8 (two slices: v5p:4x4x8*2);
    h100, h200 or cpu with a number, as in h100:8."""
    config: str = "train_1b"
    """Training preset: a name of ours or the path of a Python file."""
    batch: int | None = None
    """Rows of a step, over all chips together; the preset's by default."""
    video: tuple[int, int, int] | None = None
    """Frames, rows and columns of the video; the preset's by default."""
    train: Selection | None = None
    """What is trained; the preset's by default."""
    remat: Remat | None = None
    """What the backward pass computes again; the preset's by default."""
    mesh: MeshConfig = field(default_factory=MeshConfig)
    """How the chips are arranged."""
    search: bool = False
    """Compare all meshes, the best ones first."""
    json: Path | None = None
    """File to write the plan into, as JSON (with --search: the plan of the best mesh)."""

    def run(self) -> None:
        """Plan, and print. Raises Mistake."""
        topology = parse(self.topology)
        alone()
        import jax

        if (self.search or not topology.tpu) and topology.chips > 1:
            jax.config.update("jax_num_cpu_devices", topology.chips)
        from stableavatar_jax.plan import compiled, estimated

        changes: dict[str, Any] = {
            name: value for name in ("batch", "video", "train", "remat") if (value := getattr(self, name)) is not None
        }
        config = dataclasses.replace(load_preset(self.config, TrainConfig), mesh=self.mesh, **changes)
        if config.part == "distil" and (self.search or not topology.tpu):
            raise Mistake(
                "the formulae know no teacher beside the student: a step of distillation is planned for TPUs, whose "
                "compiler reads it, without --search; `train.py --part distil --compile-only` prints its memory"
            )
        if self.search:
            found = estimated.search(config, topology)
            if not found:
                raise Mistake(f"no mesh of {topology.chips} chips cuts {config.batch} rows evenly; change --batch")
            for plan in found[:10]:
                print(plan.line())
            plan = found[0]
        else:
            plan = (compiled if topology.tpu else estimated).train(config, topology)
        print(plan.table())
        if self.json:
            plan.write(self.json)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Plan a call of the sampler in wavefront order: windows and branches of guidance dealt to the chips. For a TPU it
    is compiled by the TPU's compiler; for other chips the cost is estimated by formulae.

    python -m stableavatar_jax.plan sample --config avatar_1b --topology v6e:8x8
    """

    topology: str
    """Chips (required), as for `train`."""
    config: str = "avatar_1b"
    """Sampling preset: a name of ours or the path of a Python file."""
    windows: int | None = None
    """Windows of a call, over all chips together; by default as few as give all chips the same number of rows."""
    mesh: MeshConfig = field(default_factory=MeshConfig)
    """How the chips are arranged; by default each has all weights, and rows of its own."""
    json: Path | None = None
    """File to write the plan into, as JSON."""

    def run(self) -> None:
        """Plan, and print. Raises Mistake."""
        topology = parse(self.topology)
        alone()
        import jax

        if not topology.tpu and topology.chips > 1:
            jax.config.update("jax_num_cpu_devices", topology.chips)
        from stableavatar_jax.plan import sampled
        from stableavatar_jax.sampling.config import SampleConfig, change

        config = load_preset(self.config, SampleConfig)
        if self.windows is not None:
            config = change(config, rows=self.windows)
        tpu = topology.tpu
        plan = sampled.compiled(config, self.mesh, topology) if tpu else sampled.estimated(config, topology)
        print(plan.table())
        if self.json:
            plan.write(self.json)


COMMANDS = {"train": Train, "sample": Sample, "fewer": Ways}


def main(argv: Sequence[str] | None = None) -> int:
    """Plan what the arguments say; the exit status."""
    return commands.main(COMMANDS, argv, about=ABOUT)


if __name__ == "__main__":
    sys.exit(main())
