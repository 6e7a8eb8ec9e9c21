"""The rules: how the values of one series from several processes become one value.

A rule works on *columns*: each column holds one process's values of many series, all columns the
same series in the same order, so that the loops over series and processes run in C. Every rule
is commutative and associative (sums up to rounding), so merging what was merged before gives
what merging everything at once gives. That is what makes an archive of dead workers possible.
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    Column = Sequence[Any]
    Merge = Callable[[Sequence[Column]], list[Any]]


def total(columns: Sequence[Column]) -> list[float]:
    """Add up: the sum over all processes, for each series."""
    return list(map(sum, zip(*columns, strict=True)))


def smallest(columns: Sequence[Column]) -> list[float]:
    """Take the smallest number; NaN only where there is no number at all."""
    return _skipping_nan(min, columns)


def largest(columns: Sequence[Column]) -> list[float]:
    """Take the largest number; NaN only where there is no number at all."""
    return _skipping_nan(max, columns)


def newest(columns: Sequence[Column]) -> list[float | None]:
    """Take the value with the latest timestamp from (timestamp, value) pairs.

    Of two values with one timestamp the larger is taken, so that the order does not matter.
    A timestamp of 0 means that the gauge was never set: such a series has no value (None).
    """
    latest = map(max, zip(*columns, strict=True))
    return [value if timestamp > 0 else None for timestamp, value in latest]


def last(columns: Sequence[Column]) -> list[float]:
    """Take the value of the last process in file order."""
    return list(columns[-1])


def _skipping_nan(choose: Callable[..., float], columns: Sequence[Column]) -> list[float]:
    """Apply *choose* (min or max) to each series, as if NaN were not there."""
    if len(columns) == 1:
        return list(columns[0])
    rows = list(zip(*columns, strict=True))
    # A comparison with NaN is false, so NaN can only win from the first place.
    chosen = list(map(choose, rows))
    for index, value in enumerate(chosen):
        if math.isnan(value):
            numbers = [number for number in rows[index] if not math.isnan(number)]
            chosen[index] = choose(numbers, default=math.nan)
    return chosen


class Rule(NamedTuple):
    """How one type of metric is merged.

    *merge* takes the columns of all processes to one list; *name* and *meaning* say it in words;
    *dead* says what becomes of a dead process's values. *per_process* series carry the id of
    their process in the label `pid`; *stamped* columns hold (timestamp, value) pairs.
    """

    name: str
    merge: Merge
    meaning: str
    dead: str
    per_process: bool = False
    stamped: bool = False


_KEPT: Final = "kept in the totals"
_KEPT_GAUGE: Final = "kept"
_GONE: Final = "gone"

_SUM: Final = Rule("sum", total, "the sum over all processes", _KEPT)
_ALL: Final = Rule(
    "all", last, "one series for each process, told apart by `pid`", _KEPT_GAUGE, per_process=True
)
_MIN: Final = Rule("min", smallest, "the smallest value of any process", _KEPT_GAUGE)
_MAX: Final = Rule("max", largest, "the largest value of any process", _KEPT_GAUGE)
_NEWEST: Final = Rule(
    "mostrecent", newest, "the value that was set last, by timestamp", _KEPT_GAUGE, stamped=True
)

RULES: Final[Mapping[tuple[str, str], Rule]] = {
    ("counter", ""): _SUM,
    ("summary", ""): _SUM._replace(meaning="`_sum` and `_count` are added up"),
    ("histogram", ""): _SUM._replace(
        meaning="`_sum` and each bucket are added up; buckets and `_count` are then cumulative"
    ),
    ("gauge", "all"): _ALL,
    ("gauge", "liveall"): _ALL._replace(dead=_GONE),
    ("gauge", "min"): _MIN,
    ("gauge", "livemin"): _MIN._replace(dead=_GONE),
    ("gauge", "max"): _MAX,
    ("gauge", "livemax"): _MAX._replace(dead=_GONE),
    ("gauge", "sum"): _SUM._replace(dead=_KEPT_GAUGE),
    ("gauge", "livesum"): _SUM._replace(dead=_GONE),
    ("gauge", "mostrecent"): _NEWEST,
    ("gauge", "livemostrecent"): _NEWEST._replace(dead=_GONE),
}
"""The rule for each metric type and gauge mode ("" for types without one)."""

SAMPLES: Final[Mapping[str, Mapping[str, str]]] = {
    "counter": {"_total": "_total", "": "_total"},
    "gauge": {"": ""},
    "summary": {"_count": "_count", "_sum": "_sum"},
    "histogram": {"_bucket": "_bucket", "_sum": "_sum", "_count": "_count"},
}
"""The sample name suffixes that each type has in files, and how each is exposed."""


def cumulative(counts: Iterable[float]) -> list[float]:
    """Turn the counts of buckets, in the order of their bounds, into cumulative counts."""
    return list(accumulate(counts))


def shared_bounds(layouts: Sequence[Sequence[float]]) -> list[float]:
    """Return the bucket bounds at which every one of the *layouts* has a true count.

    Each layout is the ascending bounds of one process's histogram. A layout with +Inf has a count
    at exactly its own bounds. One without is still being made (prometheus_client makes buckets
    in order, before the first observation): beyond its last bound it counts everything it has.
    +Inf itself is always shared.
    """
    candidates = sorted({bound for layout in layouts for bound in layout} | {math.inf})
    sets = [(frozenset(layout), layout[-1] if layout else -math.inf) for layout in layouts]
    return [
        bound
        for bound in candidates
        if all(bound in bounds or bound > highest for bounds, highest in sets)
    ]


def counts_between(bounds: Sequence[float], histogram: Mapping[float, float]) -> list[float]:
    """Return how much of *histogram* (bound to count) lies between each two of *bounds*."""
    counts = dict.fromkeys(bounds, 0.0)
    for bound, count in histogram.items():
        counts[min(shared for shared in bounds if shared >= bound)] += count
    return list(counts.values())
