"""A video that somebody wants, and what has become of it."""

from pathlib import Path
from typing import Literal

from stableavatar_jax.page.progress import Progress
from stableavatar_jax.page.sofar import SoFar
from stableavatar_jax.sampling.jobs_file import Listed

State = Literal["waits", "is made", "stands", "failed", "cancelled"]
VIDEO, LOOK = "talk.mp4", "look.jpg"


class Wanted:
    """A video that is wanted, and what has become of it."""

    def __init__(self, listed: Listed):
        self.listed = listed
        self.state: State = "waits"
        self.plan = ""
        """Its cost in words."""
        self.notices: list[str] = []
        """What was noticed of its inputs."""
        self.error = ""
        self.progress: Progress | None = None
        self.so_far: SoFar | None = None
        self.cancelled = False

    @property
    def folder(self) -> Path:
        """Where everything of it lies."""
        return self.listed.output.parent

    @property
    def over(self) -> bool:
        """Whether nothing more comes."""
        return self.state in ("stands", "failed", "cancelled")

    @property
    def look(self) -> Path | None:
        """A rough picture of its first window, where there is one."""
        path = self.folder / LOOK
        return path if path.exists() else None

    @property
    def video(self) -> Path | None:
        """The video, or what is made of it so far."""
        if self.state == "stands":
            return self.listed.output
        return self.so_far.path if self.so_far else None
