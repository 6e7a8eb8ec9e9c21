"""Histograms: how the samples of a family are put together from merged buckets.

Files hold the count of each bucket alone; a page shows cumulative counts and `_count`. While all
processes use the same bounds, the rule merges bucket by bucket. Where they do not, the page shows
only the bounds that every contributing process has, so that each count is true.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics.exposition import BUCKET, COUNT, SUM, format_value
from mpmetrics.format import BUCKET_LABEL, with_bound
from mpmetrics.merging.buckets import counts_between, cumulative, parse_bound, shared_bounds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mpmetrics.exposition import LinePrefixes
    from mpmetrics.format import Labels
    from mpmetrics.merging.series import Flat, Origins, Places, Series

    Buckets = dict[float, Places]
    Part = Mapping[float, Sequence[int]]


# Stands for the bound while everything around it is written; no label can contain it as such.
_HOLE: Final = "\n"


class Child(NamedTuple):
    """One histogram of a family: its *labels* and ascending *bounds*, and which totals it has.

    *parts* is None while all processes have the same bounds: then the rule merges the buckets.
    Otherwise it has, for each process, the places of its buckets in *flat* by bound, and
    `HistogramShape.values` merges them.
    """

    labels: Labels
    bounds: tuple[float, ...]
    has_sum: bool
    has_count: bool
    parts: Sequence[Part] | None


class HistogramShape:
    """The children of a histogram family, in page order: their names, and how values fill them."""

    def __init__(self, family: str, children: Sequence[Child], *, accumulate: bool) -> None:
        """Take the *children* of a *family*. With *accumulate*, counts become cumulative."""
        self._sum, self._bucket, self._count = family + SUM, family + BUCKET, family + COUNT
        self._children = children
        self._accumulate = accumulate

    def names(self) -> list[tuple[str, Labels]]:
        """Return the names of all series, in the order of `values`."""
        names: list[tuple[str, Labels]] = []
        for labels, bounds, has_sum, has_count, _ in self._children:
            if has_sum:
                names.append((self._sum, labels))
            names += [(self._bucket, with_bound(labels, format_value(bound))) for bound in bounds]
            if has_count:
                names.append((self._count, labels))
        return names

    def prefixes(self, prefixes: LinePrefixes) -> list[str]:
        """Return what stands before the value of each series, in the order of `values`."""
        texts: list[str] = []
        written: dict[tuple[float, ...], list[str]] = {}
        for labels, bounds, has_sum, has_count, _ in self._children:
            pairs = prefixes.split(labels, BUCKET_LABEL)
            if has_sum:
                texts.append(prefixes.join(self._sum, *pairs))
            if bounds not in written:
                written[bounds] = [f'{BUCKET_LABEL}="{format_value(bound)}"' for bound in bounds]
            start, end = prefixes.join(self._bucket, pairs[0], _HOLE, pairs[1]).split(_HOLE)
            texts += [f"{start}{bound}{end}" for bound in written[bounds]]
            if has_count:
                texts.append(prefixes.join(self._count, *pairs))
        return texts

    def values(self, merged: Sequence[float], flat: Flat) -> list[float]:
        """Return the value of every series from its *merged* slots, or from its parts in *flat*."""
        return self._fill(merged, lambda bounds, parts: _merge_parts(bounds, parts, flat))

    def rests(self, merged: Sequence[float]) -> list[float]:
        """Return the second number of every series, which an archive holds beside the value.

        Counts that were merged from parts have no rest: they are whole numbers.
        """
        return self._fill(merged, lambda bounds, _: [0.0] * len(bounds))

    def _fill(
        self,
        merged: Sequence[float],
        merge_parts: Callable[[Sequence[float], Sequence[Part]], list[float]],
    ) -> list[float]:
        """Return the numbers of all series: those *merged*, and what *merge_parts* returns."""
        values: list[float] = []
        position = 0
        for _, bounds, has_sum, has_count, parts in self._children:
            if has_sum:
                values.append(merged[position])
                position += 1
            if parts is None:
                counts = merged[position : position + len(bounds)]
                position += len(bounds)
            else:
                counts = merge_parts(bounds, parts)
            if self._accumulate:
                counts = cumulative(counts)
            values += counts
            if has_count:
                values.append(counts[-1])
        return values


class HistogramPlan(NamedTuple):
    """The plan for the histograms of one family.

    *slots* are the places that the rule has to merge for the *shape*. *firsts* has, for each
    series, the place of the first part of its child. *hidden* are the bounds that not all
    processes have, *unreadable* the texts that are no bound; both with places as examples.
    """

    shape: HistogramShape
    slots: Sequence[Places]
    firsts: Sequence[int]
    hidden: Mapping[float, Places]
    unreadable: Mapping[str, Places]


def plan_histograms(
    family: str, series: Series, origins: Origins, *, accumulate: bool
) -> HistogramPlan:
    """Plan the histograms that the *series* of a *family* are; *origins* has their writers."""
    by_labels, unreadable = _collect_buckets(family, series)
    children: list[Child] = []
    slots: list[Places] = []
    firsts: list[int] = []
    hidden: dict[float, Places] = {}
    for labels, buckets in sorted(by_labels.items()):
        sums = series.get((family + SUM, labels, None))
        child = _make_child(labels, buckets, sums, origins, accumulate=accumulate)
        bounds, has_sum, has_count = child.bounds, child.has_sum, child.has_count
        if sums is not None and has_sum:
            slots.append(sums)
        if child.parts is None:
            slots += [buckets[bound] for bound in bounds]
        else:
            hidden |= {bound: buckets[bound] for bound in buckets.keys() - set(bounds)}
        first = min(at[0] for at in (*buckets.values(), *([sums] if sums else [])))
        firsts += [first] * (has_sum + len(bounds) + has_count)
        children.append(child)
    shape = HistogramShape(family, children, accumulate=accumulate)
    return HistogramPlan(shape, slots, firsts, hidden, unreadable)


def _collect_buckets(
    family: str, series: Series
) -> tuple[dict[Labels, Buckets], dict[str, Places]]:
    """Return the buckets of each child, by bound, and the places of bounds that are no number.

    A child without buckets has at least a count: that is what +Inf would have.
    """
    children: dict[Labels, Buckets] = defaultdict(dict)
    unreadable: dict[str, Places] = {}
    bounds: dict[str | None, float | None] = {}
    bucket_name, count_name = family + BUCKET, family + COUNT
    for (sample, labels, text), at in series.items():
        if sample == bucket_name:
            if text not in bounds:
                bounds[text] = parse_bound(text)
            bound = bounds[text]
            if bound is None:
                unreadable[text or ""] = at
            else:
                buckets = children[labels]
                known = buckets.setdefault(bound, at)
                if known is not at:
                    buckets[bound] = tuple(sorted(known + at))
    for (sample, labels, _), at in series.items():
        if sample == count_name and labels not in children:
            children[labels][math.inf] = at
    return children, unreadable


def _make_child(
    labels: Labels, buckets: Buckets, sums: Places | None, origins: Origins, *, accumulate: bool
) -> Child:
    """Find out which bounds and totals a child shows, and whether the rule merges its buckets."""
    bounds = tuple(sorted(buckets))
    # The sum of observations that may be negative can fall. OpenMetrics forbids it, and
    # prometheus_client leaves it out, too, while it is not in multiprocess mode.
    has_sum = sums is not None and (bounds[0] >= 0 or not accumulate)
    # In OpenMetrics a count without a sum is incomplete, unless a bound is negative.
    has_count = accumulate and (has_sum or bounds[0] < 0)
    places = [buckets[bound] for bound in bounds]
    if bounds[-1] == math.inf and _is_uniform(places, origins):
        return Child(labels, bounds, has_sum, has_count, None)
    parts = _split_by_process(buckets, origins)
    shared = tuple(shared_bounds([sorted(part) for part in parts]))
    return Child(labels, shared, has_sum, has_count, parts)


def _is_uniform(places: Sequence[Places], origins: Origins) -> bool:
    """Return whether every process that has one of several buckets has each of them once."""
    first, last = places[0], places[-1]
    if len(set(map(len, places))) > 1:
        return False
    # prometheus_client makes the buckets of a child one after the other, so this is the rule.
    if {end - start for start, end in zip(first, last, strict=True)} == {len(places) - 1}:
        return True
    owners = [origins.segment_number(place) for place in first]
    return len(set(owners)) == len(owners) and all(
        [origins.segment_number(place) for place in at] == owners for at in places[1:]
    )


def _split_by_process(buckets: Buckets, origins: Origins) -> list[Part]:
    """Return the places of *buckets* for each process that wrote some of them.

    One process with two HELP texts counts as two: it has two histograms.
    """
    parts: dict[tuple[int, str], dict[float, list[int]]] = defaultdict(dict)
    for bound, at in buckets.items():
        for place in at:
            parts[origins.histogram_key(place)].setdefault(bound, []).append(place)
    return [parts[histogram] for histogram in sorted(parts)]


def _merge_parts(bounds: Sequence[float], parts: Sequence[Part], flat: Flat) -> list[float]:
    """Add up what each of the *parts* counted between the *bounds* that all of them have."""
    columns = []
    for part in parts:
        histogram = {bound: sum(flat[place] for place in places) for bound, places in part.items()}
        columns.append(counts_between(bounds, histogram))
    return [sum(column) for column in zip(*columns, strict=True)]
