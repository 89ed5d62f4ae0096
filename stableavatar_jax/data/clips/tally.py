"""What was left out of a data set or filled in, and why: an error at once, or counted and logged, and never silent."""

import logging
from collections import Counter

from stableavatar_jax.data.config import MissingMasks, OnBad
from stableavatar_jax.errors import Mistake
from stableavatar_jax.words import count

LOG = logging.getLogger(__name__)


class Tally:
    """Decides what becomes of a bad clip, and keeps count.

    >>> tally = Tally(on_bad="skip")
    >>> try: clip = read_clip(path)
    ... except Mistake as error: tally.refuse(error)
    >>> print(tally)  # 3 clips left out (2 damaged, 1 too short)
    """

    def __init__(self, on_bad: OnBad = "error", missing_masks: MissingMasks = "error"):
        self.on_bad = on_bad
        self.missing_masks = missing_masks
        self.refused: Counter[str] = Counter()
        """Clips left out, by reason."""
        self.used = 0
        """Clips that may be used, where whoever reads them counts."""
        self._told: set[str] = set()
        self.filled = 0
        """Masks that were missing and are all ones, by the explicit option."""

    def refuse(self, error: Mistake) -> None:
        """Leave a clip out, counted and logged, where that is asked for; raise the error where it is not."""
        reason = error.reason
        skip = self.missing_masks == "skip" if reason == "missing masks" else self.on_bad == "skip"
        if not skip:
            advice = "" if reason == "missing masks" else "; or leave out such clips with --on-bad skip"
            raise Mistake(f"{error}{advice}", reason) from error
        self.refused[reason] += 1
        LOG.warning("left out: %s", error)

    def refuse_quietly(self, reason: str) -> None:
        """Count a clip that is left out as intended, such as by the limits of `prepare`."""
        self.refused[reason] += 1

    def fill(self, name: str, masks: int) -> None:
        """Note that masks of a clip are all ones because they are missing; logged once a clip."""
        self.filled += masks
        if name in self._told:
            return
        self._told.add(name)
        LOG.warning("%s: %s missing, taken as all ones", name, count(masks, "mask"))

    def __str__(self) -> str:
        reasons = ", ".join(f"{number} {reason}" for reason, number in self.refused.most_common())
        out = f"{count(self.refused.total(), 'clip')} left out" + (f" ({reasons})" if reasons else "")
        return out + (f", {count(self.filled, 'missing mask')} taken as all ones" if self.filled else "")
