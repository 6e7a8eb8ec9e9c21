"""Feeding numbers that were sent into series of prometheus_client, or saying why not."""

from __future__ import annotations

from collections import Counter
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from mpmetrics._client import add_observations
from mpmetrics.engines.observers import ERRORS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mpmetrics.engines.connectors.numbers import Cell, Number


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


NEGATIVE: Final = "negative"
NOT_FINITE: Final = "not finite"


def _numbers(cell: Cell) -> list[Number]:
    return cell if isinstance(cell, list) else [cell]


def _fault(number: Number) -> str:
    """Return why a *number* cannot be added to a counter, empty if it can."""
    if not isfinite(number):
        return NOT_FINITE
    return NEGATIVE if number < 0 else ""


def _count(counter: Any, cell: Cell) -> list[str]:
    """Add each increment that can be; return why the others cannot."""
    faults = [_fault(number) for number in _numbers(cell)]
    good = [number for number, fault in zip(_numbers(cell), faults, strict=True) if not fault]
    if good:
        counter.inc(sum(good))
    return [fault for fault in faults if fault]


def _set(gauge: Any, cell: Cell) -> list[str]:
    """Set what was sent, which is one number, or those of several that are summed."""
    gauge.set(sum(_numbers(cell)))
    return []


def _observe(histogram: Any, cell: Cell) -> list[str]:
    """Observe each number that is one."""
    faults = []
    for number in _numbers(cell):
        if isfinite(number):
            histogram.observe(number)
        else:
            faults.append(NOT_FINITE)
    return faults


def _fill(histogram: Any, cell: Cell) -> list[str]:
    """Add what has been counted bucket by bucket, all or nothing."""
    *counts, total = _numbers(cell)
    fault = next(filter(None, map(_fault, counts)), "" if isfinite(total) else NOT_FINITE)
    if fault:
        return [fault]
    add_observations(histogram, counts, total)
    return []


FEEDS: Final[Mapping[tuple[str, str], Callable[[Any, Cell], list[str]]]] = {
    ("counter", "sum"): _count,
    ("gauge", "latest"): _set,
    ("gauge", "max"): _set,
    ("gauge", "sum"): _set,
    ("histogram", "extend"): _observe,
    ("histogram", "bucketed"): _fill,
}
"""What to do with the numbers of a type that merge in a way; returned is what was refused."""
