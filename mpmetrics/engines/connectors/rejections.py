"""Counts of the numbers that could not be shown, with the reasons."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from mpmetrics.engines.observers import ERRORS

if TYPE_CHECKING:
    from mpmetrics.engines.observers import ObserverErrors

UNKNOWN: Final = "unknown"
"""No family or connector has this name or key."""

LABELS: Final = "labels"
"""The number of labels is not the declared one."""

NO_NUMBER: Final = "no number"
"""The value is not a number, nor a list of the declared form."""

NEGATIVE: Final = "negative"
"""A counter or a bucket cannot decrease."""

NOT_FINITE: Final = "not finite"
"""A NaN or an infinity would spoil the sum for good."""

RAISED: Final = "raised"
"""An exception of a metric, an exporter or statistics."""

MOST_KEYS: Final = 1000
"""How many keys from sent data are remembered, at most."""


class Rejections:
    """The numbers of one connector that were not shown, counted by key and reason."""

    def __init__(self, connector: str, errors: ObserverErrors = ERRORS) -> None:
        """Count for *connector*, and in *errors*, which counts for the whole process."""
        self._source = f"connector {connector}"
        self._errors = errors
        self._counts: Counter[tuple[str, str]] = Counter()

    def count(self, key: str, reason: str, error: BaseException | None = None) -> None:
        """Count one rejection; once there are `MOST_KEYS` entries, new keys share the key ""."""
        if (key, reason) not in self._counts and len(self._counts) >= MOST_KEYS:
            key = ""
        self._counts[key, reason] += 1
        self._errors.count(self._source, reason, error)

    def counts(self) -> dict[tuple[str, str], int]:
        """Return the counts by key and reason."""
        return dict(self._counts)
