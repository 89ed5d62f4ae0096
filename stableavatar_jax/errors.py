"""The one error for what a user can mend."""

from pathlib import Path


class Mistake(ValueError):
    """An input, option, file or machine is not what the work needs.

    Its message is all that a user reads: where, what was found, what is needed, what to do. Commands show it without a
    traceback; any other exception is a bug of ours and shows where it came from. `reason` is the fault in two or three
    words, for tables that count faults.
    """

    def __init__(self, message: str, reason: str = "damaged"):
        super().__init__(message)
        self.reason = reason

    @classmethod
    def at(cls, path: Path, found: str, remedy: str) -> "Mistake":
        """A mistake in a file: what was found there, and what to do."""
        return cls(f"{path}: {found}; {remedy}")
