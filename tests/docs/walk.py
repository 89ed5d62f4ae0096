"""The newcomer's walk: every block of README and docs that is marked to run, word for word, in a scratch folder.

    python -m tests.docs.walk --clips talk.mp4 interview.mp4 --faces MODELS --image face.png --audio speech.wav

A block is marked by `run` behind its language; other marks say why a block is not run (docs/README.md). The clips are
videos of people who speak, of 81 frames or more; MODELS holds the two .tflite files that docs/data.md names. It needs
what `make setup` installs. With two clips (11.6 s) and a sound of 1.5 s it takes seven minutes of processor time.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from stableavatar_jax import commands
from stableavatar_jax.errors import Mistake
from stableavatar_jax.inputs import check_file
from tests.docs.blocks import ROOT, Block, blocks

TIMED = r"""#!/usr/bin/env bash
line="python $*"; line=${{line%%$'\n'*}}
TIMEFORMAT="%R s (%U s of processors): ${{line//%/%%}}"
{{ time {python} "$@" 2>&3; }} 3>&2 2>>{log}
"""
"""Stands before Python on the way, and writes down how long each command took."""


@dataclass(frozen=True, kw_only=True)
class Walk:
    """Run the blocks of README and docs that are marked, in a scratch folder with these inputs.

    python -m tests.docs.walk --clips talk.mp4 --faces MODELS --image face.png --audio speech.wav
    """

    clips: tuple[Path, ...]
    """Videos of people who speak (required)."""
    faces: Path
    """Folder of the two face models (required)."""
    image: Path
    """Picture of a person or a character (required)."""
    audio: Path
    """Recording of a second or two (required)."""
    output: Path = field(default_factory=lambda: Path(tempfile.mkdtemp()) / "walk")
    """Scratch folder, which must not exist yet; by default a temporary one."""
    only: str = ""
    """Run blocks whose place contains this alone, such as README; what they need must be there from a walk before."""

    def run(self) -> int:
        """Run them, and print how long each took; status 1 where one failed."""
        for path in (*self.clips, self.image, self.audio):
            check_file(path)
        if not self.only:
            if self.output.exists():
                raise Mistake(f"{self.output}: exists already; choose another")
            self._furnish()
        marked = [block for block in blocks() if "run" in block.info and self.only in block.place]
        failed = [block.place for block in marked if not self._passes(block)]
        passed = f"{self.output}: {len(marked) - len(failed)} of {len(marked)} blocks pass"
        print((self.output / "times.log").read_text(), passed, *failed, sep="\n")
        return int(bool(failed))

    def _furnish(self) -> None:
        """The folder of the project, and beside its files those that the pages name."""
        for folder in ("RAW", "models", "outputs", "bin"):
            (self.output / folder).mkdir(parents=True)
        for path in ROOT.iterdir():
            if not path.name.startswith(".") and path.name not in ("outputs", "runs", "weights"):
                (self.output / path.name).symlink_to(path)
        for clip in self.clips:
            shutil.copy(clip, self.output / "RAW")
        for model in self.faces.resolve().glob("*.tflite"):
            (self.output / "models" / model.name).symlink_to(model)
        for name, path in {"face.png": self.image, "speech.wav": self.audio, "lecture.mp3": self.audio}.items():
            shutil.copy(path, self.output / name)
        (self.output / "jobs.jsonl").write_text('{"image": "face.png", "audio": "speech.wav", "seed": 3}\n')
        python = self.output / "bin" / "python"
        python.write_text(TIMED.format(python=sys.executable, log=self.output.resolve() / "times.log"))
        python.chmod(0o755)

    def _passes(self, block: Block) -> bool:
        print(f"\n== {block.place}\n{block.text}", flush=True)
        begun = time.monotonic()
        program = ["bash", "-euo", "pipefail", "-c"] if block.info[0] == "bash" else ["python", "-c"]
        path = f"{self.output.resolve() / 'bin'}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run([*program, block.text], cwd=self.output, env={**os.environ, "PATH": path}, check=False)
        print(f"== {block.place}: {'passes' if not done.returncode else 'FAILS'}, {time.monotonic() - begun:.0f} s")
        return not done.returncode


if __name__ == "__main__":
    sys.exit(commands.main(Walk))
