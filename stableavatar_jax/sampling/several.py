"""Options of a list of videos. Read without JAX."""

from dataclasses import dataclass
from pathlib import Path

from stableavatar_jax.errors import Mistake


@dataclass(frozen=True, kw_only=True)
class Several:
    """A list of videos instead of one."""

    jobs: Path | None = None
    """List of videos to make: a file with a JSON object a line, of options by their names here, such as
    {"image": "a.png", "audio": "a.wav", "seed": 3}. Options on the command line are the defaults; inputs are relative
    to the file, `output` to --output-dir."""
    output_dir: Path | None = None
    """Folder of the videos of --jobs; one without a name is called by its line. The same command goes on with a list
    that was stopped, and makes again what failed."""
    dry_run: bool = False
    """Print the plan, and make nothing."""

    def __post_init__(self):
        if (self.jobs is None) != (self.output_dir is None):
            raise Mistake("--jobs and --output-dir belong together: the list of videos, and the folder they are put in")
