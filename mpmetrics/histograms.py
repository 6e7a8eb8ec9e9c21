"""How the samples of a histogram family are put together from merged buckets.

Files hold the count of each bucket alone; a page shows cumulative counts and `_count`. That is
easy while all processes use the same bounds. Where they do not, only the bounds that every
contributing process has are shown, so that each exposed count is true.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from mpmetrics.kernel import format_value
from mpmetrics.merging import counts_between, cumulative, shared_bounds
from mpmetrics.series import BUCKET_LABEL, with_bound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mpmetrics.exposition import Prefixes
    from mpmetrics.series import Labels

    Part = tuple[tuple[int, ...], str, str]
    Parts = tuple[Part, ...]
    Series = dict[tuple[str, Labels, str | None], Parts]
    Buckets = dict[float, Parts]
    Owner = Callable[[int], int]

# A *part* of a series is one distinct key that names it: where its values stand in *flat*, its
# HELP, and the process when that tells series apart. Nearly every series has one part.


def joined(parts: Parts) -> tuple[int, ...]:
    """Return the places of all *parts* of one series, in file order."""
    if len(parts) == 1:
        return parts[0][0]
    return tuple(sorted(place for at, _, _ in parts for place in at))


class _Child(NamedTuple):
    """One histogram of a family: its *labels*, its ascending *bounds*, whether it has a `_sum`.

    *parts* is None while all processes have the same bounds and the rule has merged the buckets.
    Otherwise it has, for each process, the places of its buckets in *flat*, and merging is left
    to us.
    """

    labels: Labels
    bounds: list[float]
    has_sum: bool
    parts: list[dict[float, list[int]]] | None


class HistogramShape:
    """The children of a histogram family, in page order, and how their values come about.

    *slots* are the places that the rule has to merge for them. *hidden* are the bounds that not
    all processes have, *hidden_parts* an example; *unreadable* are the buckets whose bound is
    not a number, by label text.
    """

    def __init__(self, family: str, series: Series, owner: Owner, *, accumulate: bool) -> None:
        """Sort out the *series* of a *family*; *owner* tells which file a place belongs to."""
        self.slots: list[tuple[int, ...]] = []
        self.hidden: set[float] = set()
        self.hidden_parts: Parts = ()
        self.unreadable: dict[str, Parts] = {}
        self._sum, self._bucket, self._count = (
            f"{family}{suffix}" for suffix in ("_sum", "_bucket", "_count")
        )
        self._accumulate = accumulate
        self._children: list[_Child] = []
        for labels, buckets in sorted(self._buckets(series).items()):
            self._add_child(labels, buckets, series.get((self._sum, labels, None), ()), owner)

    def _buckets(self, series: Series) -> dict[Labels, Buckets]:
        """Return the buckets, by bound, of each child that has any or has at least a count."""
        children: dict[Labels, Buckets] = defaultdict(dict)
        bounds = _Bounds()
        for (sample, labels, text), parts in series.items():
            if sample == self._bucket:
                bound = bounds[text or ""]
                if bound is None:
                    self.unreadable[text or ""] = parts
                else:
                    buckets = children[labels]
                    buckets[bound] = buckets[bound] + parts if bound in buckets else parts
        for (sample, labels, _), parts in series.items():
            # Without buckets the count is all there is: what +Inf would have.
            if sample == self._count and labels not in children:
                children[labels][math.inf] = parts
        return children

    def _add_child(self, labels: Labels, buckets: Buckets, sums: Parts, owner: Owner) -> None:
        """Add one child and the slots that it needs."""
        bounds = sorted(buckets)
        # The sum of observations that may be negative can fall. OpenMetrics forbids it, and
        # prometheus_client leaves it out, too, while it is not in multiprocess mode.
        has_sum = bool(sums) and (bounds[0] >= 0 or not self._accumulate)
        if has_sum:
            self.slots.append(joined(sums))
        split = None
        parts = [buckets[bound] for bound in bounds]
        if bounds[-1] == math.inf and _is_uniform(parts, owner):
            self.slots += [part[0][0] for part in parts]
        else:
            split = _by_process(buckets, owner)
            bounds = shared_bounds([sorted(part) for part in split])
            for bound in buckets.keys() - set(bounds):
                self.hidden.add(bound)
                self.hidden_parts = buckets[bound]
        self._children.append(_Child(labels, bounds, has_sum, split))

    def names(self) -> list[tuple[str, Labels]]:
        """Return the names of all series, in the order of `values`."""
        names: list[tuple[str, Labels]] = []
        for labels, bounds, has_sum, _ in self._children:
            if has_sum:
                names.append((self._sum, labels))
            names += [
                (self._bucket, with_bound(labels, format_value(bound))) for bound in bounds
            ]
            if self._accumulate:
                names.append((self._count, labels))
        return names

    def prefixes(self, prefixes: Prefixes) -> list[str]:
        """Return what stands before the value of each series, in the order of `values`."""
        texts: list[str] = []
        written = {math.inf: "+Inf"}
        for labels, bounds, has_sum, _ in self._children:
            if has_sum:
                texts.append(prefixes.sample(self._sum, labels))
            before, after = prefixes.around(self._bucket, labels, BUCKET_LABEL)
            for bound in bounds:
                text = written.get(bound) or written.setdefault(bound, format_value(bound))
                texts.append(f"{before}{text}{after}")
            if self._accumulate:
                texts.append(prefixes.sample(self._count, labels))
        return texts

    def values(self, merged: Sequence[float], flat: Sequence[Any]) -> list[float]:
        """Return the value of every series from the *merged* slots and, if need be, *flat*."""
        values: list[float] = []
        position = 0
        for _, bounds, has_sum, parts in self._children:
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
                values.append(counts[-1])
            else:
                values += counts
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


def _is_uniform(buckets: Sequence[Parts], owner: Owner) -> bool:
    """Tell whether every process that has one of the *buckets* has all of them."""
    if any([len(parts) != 1 for parts in buckets]):
        return False
    places = [parts[0][0] for parts in buckets]
    first, last = places[0], places[-1]
    if any([len(at) != len(first) for at in places]):
        return False
    # prometheus_client makes the buckets of a child one after the other, so this is the rule.
    distance = len(places) - 1
    if all([end - start == distance for start, end in zip(first, last, strict=True)]):
        return True
    owners = [owner(place) for place in first]
    return all([owner(place) for place in at] == owners for at in places[1:])


def _by_process(buckets: Buckets, owner: Owner) -> list[dict[float, list[int]]]:
    """Sort the places of *buckets* by who wrote them.

    One process with two HELP texts counts as two: it has two histograms.
    """
    split: dict[tuple[int, str], dict[float, list[int]]] = defaultdict(dict)
    for bound, parts in buckets.items():
        for at, help_text, _ in parts:
            for place in at:
                split[owner(place), help_text].setdefault(bound, []).append(place)
    return [split[key] for key in sorted(split)]


def _merge_parts(
    bounds: Sequence[float], parts: Sequence[Mapping[float, Sequence[int]]], flat: Sequence[Any]
) -> list[float]:
    """Add up what each of the *parts* counted between the *bounds* that all of them have."""
    columns = []
    for part in parts:
        histogram = {
            bound: sum(flat[place] for place in places) for bound, places in part.items()
        }
        columns.append(counts_between(bounds, histogram))
    return [sum(column) for column in zip(*columns, strict=True)]
