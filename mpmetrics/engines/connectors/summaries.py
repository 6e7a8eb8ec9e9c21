"""The numbers of connectors in a few figures for a person: plain ones, whatever was sent."""

from __future__ import annotations

from math import ceil, floor
from typing import TYPE_CHECKING, Final

from mpmetrics.engines.connectors.families import UNDECLARED, merges_of
from mpmetrics.engines.connectors.numbers import cells

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mpmetrics.engines.connectors.families import ConnectorFamily, ConnectorSummary, Merge
    from mpmetrics.engines.connectors.numbers import Number, Value

_DIGITS: Final = 3
_P90: Final = 0.9


def summarised(
    data: Mapping[str, Value], families: tuple[ConnectorFamily, ...]
) -> dict[str, Number]:
    """Return figures by title.

    Families say how they are summarised. What is left is given key by key: the number itself, or
    how many there are, and their sum; of what has labels, one for each.
    """
    figures: dict[str, Number] = {}
    summed: set[str] = set()
    for family in families:
        present = [key for key in family.keys if key in data]
        if family.summaries and present:
            summed.update(present)
            numbers = [number for key in present for number in _all(data[key])]
            for summary in family.summaries:
                figures[summary.title] = _figure(summary, numbers, data)
    merges = merges_of(families)
    for key in (key for key in data if key not in summed):
        figures.update(_own(key, data[key], merges.get(key, UNDECLARED)))
    return figures


def _all(value: Value) -> Iterator[Number]:
    """Yield each number of a *value*, whatever its labels."""
    for cell in cells(value).values():
        yield from cell if isinstance(cell, list) else [cell]


def _figure(summary: ConnectorSummary, numbers: list[Number], data: Mapping[str, Value]) -> Number:
    """Return one figure; 0 where there is nothing to divide by."""
    found = _HOW[summary.how](numbers)
    if summary.per:
        whole = sum(_all(data.get(summary.per, 0)))
        found = found / whole if whole else 0
    scaled = found * summary.scale
    return round(scaled, _DIGITS) if isinstance(scaled, float) else scaled


def _own(key: str, value: Value, merge: Merge) -> Iterator[tuple[str, Number]]:
    """Yield the figures of what nobody has said how to summarise."""
    for labels, cell in cells(value).items():
        title = f"{key}:{labels!r}" if labels else key
        if not isinstance(cell, list):
            yield title, cell
        elif merge.how == "bucketed":
            yield f"{title} count", sum(cell[:-1])
            yield f"{title} sum", sum(cell[-1:])
        else:
            yield f"{title} count", len(cell)
            yield f"{title} sum", sum(cell)


def _mean(numbers: list[Number]) -> Number:
    return sum(numbers) / len(numbers) if numbers else 0


def _p90(numbers: list[Number]) -> Number:
    """Return what nine of ten numbers do not exceed, between two of them if need be."""
    if not numbers:
        return 0
    ranked = sorted(numbers)
    place = _P90 * (len(ranked) - 1)
    low, high = ranked[floor(place)], ranked[ceil(place)]
    return low + (high - low) * (place - floor(place))


_HOW: Final[Mapping[str, Callable[[list[Number]], Number]]] = {
    "count": len,
    "sum": sum,
    "mean": _mean,
    "p90": _p90,
}
