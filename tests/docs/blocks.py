"""The fenced blocks of README and docs, and the commands in them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "stableavatar_jax" / "world" / "README.md"]
MARKS = ("run", "weights", "internet", "device", "cluster", "long")
"""Whether `walk.py` runs a block, or what the block needs (docs/README.md)."""
FENCE = re.compile(r"(?ms)^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<text>.*?)^ *```\s*$")


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, and what is in it, as a reader copies it."""

    page: Path
    line: int
    info: tuple[str, ...]
    """What stands behind its fence: its language, and for commands and programs one of MARKS."""
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def commands(self) -> Iterator[list[str]]:
        """The words of each command of a shell's block; pipes part commands too."""
        text = re.sub(r"(?m)(^|\s)#.*$", "", re.sub(r"\\\n", " ", self.text))
        reader = shlex.shlex(text + "\n", posix=True, punctuation_chars="|;&\n")
        reader.whitespace, reader.whitespace_split = " \t", True
        words: list[str] = []
        for word in reader:
            if word.strip("|;&\n"):
                words.append(word)
            elif words:
                yield words
                words = []


def blocks() -> list[Block]:
    """All blocks of all pages, in their order."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            lines = [line.removeprefix(match["indent"]) for line in match["text"].splitlines()]
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(page, line, tuple(match["info"].split()), "\n".join(lines) + "\n"))
    return found
