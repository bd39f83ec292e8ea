"""Moving averages of what happens per minute, over 1, 5 and 15 minutes.

``Stats`` feeds it totals that only grow; ``$SYS/broker/load`` shows what comes
out. It has no clock of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp

#: Minutes that an average looks back.
SPANS = (1, 5, 15)


class LoadAverages:
    """Exponential averages of several rates, like the load of a Unix system.

    An average starts at 0, so that after a start it takes its span to show
    two thirds of a steady rate.
    """

    def __init__(self, totals: Mapping[str, int], now: float) -> None:
        """*totals*: name -> what was counted up to *now* (seconds)."""
        self._totals = dict(totals)
        self._at = now
        #: Name -> events per minute, one for each of ``SPANS``.
        self.averages: dict[str, tuple[float, ...]] = {name: (0.0,) * len(SPANS) for name in totals}

    def update(self, totals: Mapping[str, int], now: float) -> None:
        """Take in the *totals* of *now*; steps may be of any length."""
        elapsed = now - self._at
        if elapsed <= 0:
            return
        weights = [exp(-elapsed / (60 * span)) for span in SPANS]
        for name, total in totals.items():
            rate = (total - self._totals[name]) * 60 / elapsed
            self.averages[name] = tuple(
                rate + weight * (average - rate)
                for weight, average in zip(weights, self.averages[name], strict=True)
            )
        self._totals = dict(totals)
        self._at = now
