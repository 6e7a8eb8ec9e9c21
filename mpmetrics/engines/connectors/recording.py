"""Recording of numbers that were sent in the metrics of prometheus_client."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from mpmetrics._client import add_observations
from mpmetrics.engines.connectors.rejections import NEGATIVE, NOT_FINITE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mpmetrics.engines.connectors.numbers import Cell, Number


def _to_list(cell: Cell) -> list[Number]:
    return cell if isinstance(cell, list) else [cell]


def _find_fault(number: Number) -> str:
    """Return why a *number* cannot be added to a counter, or an empty string if it can."""
    if not isfinite(number):
        return NOT_FINITE
    return NEGATIVE if number < 0 else ""


def _increase(counter: Any, cell: Cell) -> list[str]:
    """Add each valid increment to a *counter*; return why the others were rejected."""
    numbers = _to_list(cell)
    faults = [_find_fault(number) for number in numbers]
    good = [number for number, fault in zip(numbers, faults, strict=True) if not fault]
    if good:
        counter.inc(sum(good))
    return [fault for fault in faults if fault]


def _set(gauge: Any, cell: Cell) -> list[str]:
    """Set a *gauge* to the number that was sent, or to the sum of a list."""
    gauge.set(sum(_to_list(cell)))
    return []


def _observe(histogram: Any, cell: Cell) -> list[str]:
    """Observe each finite number; return why the others were rejected."""
    faults = []
    for number in _to_list(cell):
        if isfinite(number):
            histogram.observe(number)
        else:
            faults.append(NOT_FINITE)
    return faults


def _add_buckets(histogram: Any, cell: Cell) -> list[str]:
    """Add counts bucket by bucket, and the sum; if one is invalid, add nothing and return why."""
    *counts, total = _to_list(cell)
    fault = next(filter(None, map(_find_fault, counts)), "" if isfinite(total) else NOT_FINITE)
    if fault:
        return [fault]
    add_observations(histogram, counts, total)
    return []


RECORDERS: Final[Mapping[tuple[str, str], Callable[[Any, Cell], list[str]]]] = {
    ("counter", "sum"): _increase,
    ("gauge", "latest"): _set,
    ("gauge", "max"): _set,
    ("gauge", "sum"): _set,
    ("histogram", "extend"): _observe,
    ("histogram", "bucketed"): _add_buckets,
}
"""The function that records a cell in one series, by type and merge of the family.

Each returns the reasons of the numbers that it has rejected.
"""
