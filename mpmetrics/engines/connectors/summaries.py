"""Figures for the log: the numbers of a connector, reduced to a few plain numbers."""

from __future__ import annotations

from math import ceil, floor
from typing import TYPE_CHECKING, Final

from mpmetrics.engines.connectors.families import UNDECLARED, map_merges
from mpmetrics.engines.connectors.known_families import LOG_ONLY
from mpmetrics.engines.connectors.numbers import to_cells

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mpmetrics.engines.connectors.families import ConnectorFamily, ConnectorSummary, Merge
    from mpmetrics.engines.connectors.numbers import Number, Value

_P90: Final = 0.9


def summarize(
    data: Mapping[str, Value], families: tuple[ConnectorFamily, ...]
) -> dict[str, Number]:
    """Return the figures of *data* by title.

    The `summaries` of *families* define the figures of their keys. Every other key has default
    figures, one set for each set of labels: a number stands for itself, a list has its length and
    its sum.
    """
    figures: dict[str, Number] = {}
    summarized: set[str] = set()
    for family in families:
        present = [key for key in family.keys if key in data]
        if family.summaries and present:
            summarized.update(present)
            for summary in family.summaries:
                figures.update(_summarize_keys(summary, present, data))
    merges = map_merges(families)
    for key in (key for key in data if key not in summarized):
        figures.update(_default_figures(key, data[key], merges.get(key, UNDECLARED)))
    return figures


def _summarize_keys(
    summary: ConnectorSummary, keys: list[str], data: Mapping[str, Value]
) -> Iterator[tuple[str, Number]]:
    """Yield title and number of each figure of a *summary* of the numbers under *keys*."""
    if "{}" not in summary.title:
        numbers = [number for key in keys for number in _iter_numbers(data[key])]
        yield summary.title, _compute_figure(summary, numbers, data)
        return
    by_title: dict[str, list[Number]] = {}
    for key in keys:
        for labels, cell in to_cells(data[key]).items():
            title = summary.title.format(*(labels or ("",)))
            by_title.setdefault(title, []).extend(cell if isinstance(cell, list) else [cell])
    for title, numbers in by_title.items():
        yield title, _compute_figure(summary, numbers, data)


def _iter_numbers(value: Value) -> Iterator[Number]:
    """Yield each number of a *value*, whatever its labels."""
    for cell in to_cells(value).values():
        yield from cell if isinstance(cell, list) else [cell]


def _compute_figure(
    summary: ConnectorSummary, numbers: list[Number], data: Mapping[str, Value]
) -> Number:
    """Return the figure of a *summary*; it is 0 if its divisor is 0."""
    found = _REDUCTIONS[summary.how](numbers)
    if summary.per:
        whole = sum(_iter_numbers(data.get(summary.per, 0)))
        found = found / whole if whole else 0
    scaled = found * summary.scale
    return round(scaled, summary.digits) if isinstance(scaled, float) else scaled


def _default_figures(key: str, value: Value, merge: Merge) -> Iterator[tuple[str, Number]]:
    """Yield title and number of each figure of a *key* that no family summarizes."""
    for labels, cell in to_cells(value).items():
        name = LOG_ONLY.get(key, key)
        title = f"{name}:{labels!r}" if labels else name
        if not isinstance(cell, list):
            yield title, cell
        elif merge.how == "bucketed":
            yield f"{title}_count", sum(cell[:-1])
            yield f"{title}_sum", sum(cell[-1:])
        else:
            yield f"{title}_count", len(cell)
            yield f"{title}_sum", sum(cell)


def _mean(numbers: list[Number]) -> Number:
    return sum(numbers) / len(numbers) if numbers else 0


def _p90(numbers: list[Number]) -> Number:
    """Return the 90th percentile of *numbers*, interpolated between two of them."""
    if not numbers:
        return 0
    ranked = sorted(numbers)
    place = _P90 * (len(ranked) - 1)
    low, high = ranked[floor(place)], ranked[ceil(place)]
    return low + (high - low) * (place - floor(place))


_REDUCTIONS: Final[Mapping[str, Callable[[list[Number]], Number]]] = {
    "count": len,
    "sum": sum,
    "mean": _mean,
    "p90": _p90,
}
