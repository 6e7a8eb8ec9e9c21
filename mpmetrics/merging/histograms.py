"""How the samples of a histogram family are put together from merged buckets.

Files hold the count of each bucket alone; a page shows cumulative counts and `_count`. That is
easy while all processes use the same bounds. Where they do not, only the bounds that every
contributing process has are shown, so that each exposed count is true.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from mpmetrics.exposition import BUCKET, COUNT, SUM
from mpmetrics.format import BUCKET_LABEL, format_value, with_bound
from mpmetrics.merging.rules import counts_between, cumulative, shared_bounds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mpmetrics.exposition import LinePrefixes
    from mpmetrics.format import Labels, SeriesName

    Places = tuple[int, ...]
    Series = dict[SeriesName, Places]
    Buckets = dict[float, Places]


# Stands for the bound while everything around it is written; no label can contain it as such.
_HOLE: Final = "\n"


class Flat(Protocol):
    """The values of all files, behind each other."""

    def __getitem__(self, place: int, /) -> Any:  # noqa: ANN401 - a number, or a pair of numbers
        """Return the value at *place*."""
        ...  # pragma: no cover - a protocol has no body


class Origins(Protocol):
    """Tells where values come from."""

    def owner(self, place: int) -> int:
        """Return the number of the file that the value at *place* in *flat* comes from."""
        ...  # pragma: no cover - a protocol has no body

    def origin(self, place: int) -> tuple[int, str]:
        """Return that and, where one file has the series twice, the HELP to tell them apart."""
        ...  # pragma: no cover - a protocol has no body


class _Child(NamedTuple):
    """One histogram of a family: its *labels* and ascending *bounds*, and which totals it has.

    *parts* is None while all processes have the same bounds and the rule has merged the buckets.
    Otherwise it has, for each process, the places of its buckets in *flat*, and merging is left
    to us.
    """

    labels: Labels
    bounds: tuple[float, ...]
    has_sum: bool
    has_count: bool
    parts: list[dict[float, list[int]]] | None


class HistogramShape:
    """The children of a histogram family, in page order, and how their values come about.

    *slots* are the places that the rule has to merge for them. *firsts* says for each series
    where the first part of its child stands. *hidden* are the bounds that not all processes have,
    *unreadable* the texts that are no bound; both with places as examples.
    """

    def __init__(self, family: str, series: Series, origins: Origins, *, accumulate: bool) -> None:
        """Sort out the *series* of a *family*; *origins* knows where values come from."""
        self.slots: list[Places] = []
        self.firsts: list[int] = []
        self.hidden: dict[float, Places] = {}
        self.unreadable: dict[str, Places] = {}
        self._sum, self._bucket, self._count = (
            f"{family}{suffix}" for suffix in (SUM, BUCKET, COUNT)
        )
        self._accumulate = accumulate
        self._children: list[_Child] = []
        for labels, buckets in sorted(self._buckets(series).items()):
            sums = series.get((self._sum, labels, None))
            self._add_child(labels, buckets, sums, origins)

    def _buckets(self, series: Series) -> dict[Labels, Buckets]:
        """Return the buckets, by bound, of each child that has any or has at least a count."""
        children: dict[Labels, Buckets] = defaultdict(dict)
        bounds = _Bounds()
        for (sample, labels, text), at in series.items():
            if sample == self._bucket:
                bound = bounds[text or ""]
                if bound is None:
                    self.unreadable[text or ""] = at
                else:
                    buckets = children[labels]
                    known = buckets.setdefault(bound, at)
                    if known is not at:
                        buckets[bound] = tuple(sorted(known + at))
        for (sample, labels, _), at in series.items():
            # Without buckets the count is all there is: what +Inf would have.
            if sample == self._count and labels not in children:
                children[labels][math.inf] = at
        return children

    def _add_child(
        self, labels: Labels, buckets: Buckets, sums: Places | None, origins: Origins
    ) -> None:
        """Add one child and the slots that it needs."""
        bounds = tuple(sorted(buckets))
        places = [buckets[bound] for bound in bounds]
        # The sum of observations that may be negative can fall. OpenMetrics forbids it, and
        # prometheus_client leaves it out, too, while it is not in multiprocess mode.
        has_sum = sums is not None and (bounds[0] >= 0 or not self._accumulate)
        if sums is not None and has_sum:
            self.slots.append(sums)
        # A count goes with a sum, or OpenMetrics has it that something is missing.
        has_count = self._accumulate and (has_sum or bounds[0] < 0)
        parts = None
        if bounds[-1] == math.inf and _is_uniform(places, origins):
            self.slots += places
        else:
            parts = _by_process(buckets, origins)
            bounds = tuple(shared_bounds([sorted(part) for part in parts]))
            self.hidden |= {bound: buckets[bound] for bound in buckets.keys() - set(bounds)}
        first = min(at[0] for at in (*places, *([sums] if sums else [])))
        self.firsts += [first] * (has_sum + len(bounds) + has_count)
        self._children.append(_Child(labels, bounds, has_sum, has_count, parts))

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
        """Return the value of every series from the *merged* slots and, if need be, *flat*."""
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
                counts = _merge_parts(bounds, parts, flat)
            if self._accumulate:
                counts = cumulative(counts)
            values += counts
            if has_count:
                values.append(counts[-1])
        return values


class _Bounds(dict[str, "float | None"]):
    """Bucket bounds by their text; None for what is not a number."""

    def __missing__(self, text: str) -> float | None:
        try:
            bound = float(text)
        except ValueError:
            bound = math.nan
        self[text] = None if math.isnan(bound) else bound
        return self[text]


def _is_uniform(places: Sequence[Places], origins: Origins) -> bool:
    """Tell whether every process that has one of several buckets has each of them once."""
    first, last = places[0], places[-1]
    if len(set(map(len, places))) > 1:
        return False
    # prometheus_client makes the buckets of a child one after the other, so this is the rule.
    if {end - start for start, end in zip(first, last, strict=True)} == {len(places) - 1}:
        return True
    owners = [origins.owner(place) for place in first]
    return len(set(owners)) == len(owners) and all(
        [origins.owner(place) for place in at] == owners for at in places[1:]
    )


def _by_process(buckets: Buckets, origins: Origins) -> list[dict[float, list[int]]]:
    """Sort the places of *buckets* by who wrote them.

    One process with two HELP texts counts as two: it has two histograms.
    """
    parts: dict[tuple[int, str], dict[float, list[int]]] = defaultdict(dict)
    for bound, at in buckets.items():
        for place in at:
            parts[origins.origin(place)].setdefault(bound, []).append(place)
    return [parts[origin] for origin in sorted(parts)]


def _merge_parts(
    bounds: Sequence[float], parts: Sequence[Mapping[float, Sequence[int]]], flat: Flat
) -> list[float]:
    """Add up what each of the *parts* counted between the *bounds* that all of them have."""
    columns = []
    for part in parts:
        histogram = {bound: sum(flat[place] for place in places) for bound, places in part.items()}
        columns.append(counts_between(bounds, histogram))
    return [sum(column) for column in zip(*columns, strict=True)]
