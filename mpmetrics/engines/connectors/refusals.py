"""What was not shown of the numbers of connectors, and why: counted, never raised."""

from __future__ import annotations

from collections import Counter
from typing import Final

from mpmetrics.engines.observing import ERRORS

UNKNOWN: Final = "unknown"
LABELS: Final = "labels"
NO_NUMBER: Final = "no number"
RAISED: Final = "raised"

MOST_KEYS: Final = 1000
"""How many there may be of what is remembered for good, and is named by what was sent."""


class Refusals:
    """What was not shown of the numbers of one connector, by key and reason."""

    def __init__(self, connector: str) -> None:
        """Count for *connector*."""
        self._source = f"connector {connector}"
        self._counts: Counter[tuple[str, str]] = Counter()

    def count(self, key: str, reason: str, error: BaseException | None = None) -> None:
        """Count one."""
        if (key, reason) not in self._counts and len(self._counts) >= MOST_KEYS:
            key = ""
        self._counts[key, reason] += 1
        ERRORS.count(self._source, reason, error)

    def counts(self) -> dict[tuple[str, str], int]:
        """Return the counts by key and reason; there is an end to the keys that have their own."""
        return dict(self._counts)
