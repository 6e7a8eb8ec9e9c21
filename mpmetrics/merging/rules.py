"""The rules: how the values of one series from several processes become one value.

A rule works on *columns*: each column holds one process's values of many series, and all columns
have the same series in the same order, so that the loops over series and processes run in C.
Every rule is commutative and associative: the merge of merged values equals the merge of all
values at once. This makes an archive of dead workers possible.

Floating-point sums need care. In another order they differ in the last digit, and Prometheus
takes a counter that falls by one digit for a counter that started again. So a sum is that of the
exact numbers, rounded once, and an archive keeps the rest, which the rounding took away, beside
the sum (as "double-double" arithmetic does; Dekker 1971, https://doi.org/10.1007/BF01397083).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mpmetrics.exposition import METRIC_TYPES, TOTAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    Column = Sequence[Any]
    Merge = Callable[[Sequence[Column]], list[Any]]
    Pairs = list[tuple[float, float]]
    Fold = Callable[[Sequence[Column]], Pairs]


def total(columns: Sequence[Column]) -> list[float]:
    """Add up: the sum over all processes, for each series."""
    try:
        return list(map(math.fsum, zip(*columns, strict=True)))
    except (OverflowError, ValueError):  # infinities of both signs, or a sum too large for a float
        return [exact_sum(row) for row in zip(*columns, strict=True)]


def exact_sum(numbers: Iterable[float]) -> float:
    """Return the sum of *numbers* rounded once, so that their order does not matter."""
    numbers = tuple(numbers)
    try:
        return math.fsum(numbers)
    except (OverflowError, ValueError):
        return sum(numbers)


def fold_total(columns: Sequence[Column]) -> Pairs:
    """Add up, and return each sum with its rest: what the rounding took away."""
    pairs = []
    for row in zip(*columns, strict=True):
        rounded = exact_sum(row)
        rest = exact_sum((*row, -rounded)) if math.isfinite(rounded) else 0.0
        pairs.append((rounded, rest if math.isfinite(rest) else 0.0))
    return pairs


def smallest(columns: Sequence[Column]) -> list[float]:
    """Take the smallest number; NaN only if all values are NaN."""
    return _skip_nan(min, columns)


def largest(columns: Sequence[Column]) -> list[float]:
    """Take the largest number; NaN only if all values are NaN."""
    return _skip_nan(max, columns)


def newest(columns: Sequence[Column]) -> list[float | None]:
    """Take the value with the latest timestamp from (timestamp, value) pairs.

    Of two values with the same timestamp, take the larger one, so that the order does not matter.
    A timestamp of 0 means that no process has set the gauge: the series has no value (None).
    """
    latest = map(max, zip(*columns, strict=True))
    return [value if timestamp > 0 else None for timestamp, value in latest]


def fold_newest(columns: Sequence[Column]) -> Pairs:
    """Take the value with the latest timestamp, as `newest` does, and return it with that."""
    latest = map(max, zip(*columns, strict=True))
    return [(value, timestamp) for timestamp, value in latest]


def last(columns: Sequence[Column]) -> list[float]:
    """Take the value of the last process in file order."""
    return list(columns[-1])


def _skip_nan(choose: Callable[..., float], columns: Sequence[Column]) -> list[float]:
    """Apply *choose* (min or max) to the values of each series that are not NaN."""
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


def _fold_by(merge: Merge) -> Fold:
    """Return a function that folds as *merge* merges, with 0.0 for the second number."""

    def fold(columns: Sequence[Column]) -> Pairs:
        return [(value, 0.0) for value in merge(columns)]

    return fold


class Rule(NamedTuple):
    """The rule by which one type of metric is merged.

    *merge* turns the columns of all processes into one list, the values of the page. *fold* does
    the same for an archive, which can be merged again: it returns (value, second number) pairs,
    which fill both numbers of an entry. *name* and *meaning* describe the rule in words, *dead*
    what becomes of a dead process's values. *per_process* series have the id of their process in
    the label `pid`. *stamped* columns hold (timestamp, value) pairs. With *has_rests*, the second
    number of an archive's entry is a rest, to be added to the value.
    """

    name: str
    merge: Merge
    fold: Fold
    meaning: str
    dead: str
    per_process: bool = False
    stamped: bool = False
    has_rests: bool = False


KEPT: Final = "kept"
GONE: Final = "gone"
_IN_TOTALS: Final = "kept in the totals"
_UNTIL_FOLDED: Final = "kept until it is folded"

_SUM: Final = Rule(
    "sum", total, fold_total, "the sum over all processes", _IN_TOTALS, has_rests=True
)
_ALL: Final = Rule(
    "all",
    last,
    _fold_by(last),
    "one series for each process, told apart by `pid`",
    _UNTIL_FOLDED,
    per_process=True,
)
_MIN: Final = Rule("min", smallest, _fold_by(smallest), "the smallest value of any process", KEPT)
_MAX: Final = Rule("max", largest, _fold_by(largest), "the largest value of any process", KEPT)
_NEWEST: Final = Rule(
    "mostrecent",
    newest,
    fold_newest,
    "the value that was set last, by timestamp",
    KEPT,
    stamped=True,
)

RULES: Final[Mapping[tuple[str, str], Rule]] = {
    ("counter", ""): _SUM,
    ("summary", ""): _SUM._replace(meaning="`_sum` and `_count` are added up"),
    ("histogram", ""): _SUM._replace(
        meaning="`_sum` and each bucket are added up; buckets and `_count` are then cumulative"
    ),
    ("gauge", "all"): _ALL,
    ("gauge", "liveall"): _ALL._replace(dead=GONE),
    ("gauge", "min"): _MIN,
    ("gauge", "livemin"): _MIN._replace(dead=GONE),
    ("gauge", "max"): _MAX,
    ("gauge", "livemax"): _MAX._replace(dead=GONE),
    ("gauge", "sum"): _SUM._replace(dead=KEPT),
    ("gauge", "livesum"): _SUM._replace(dead=GONE),
    ("gauge", "mostrecent"): _NEWEST,
    ("gauge", "livemostrecent"): _NEWEST._replace(dead=GONE),
}
"""The rule for each metric type and gauge mode ("" for types without one)."""

FILE_SAMPLES: Final[Mapping[str, Mapping[str, str]]] = {
    kind: {suffix: suffix for suffix in METRIC_TYPES[kind].samples}
    for kind in dict.fromkeys(kind for kind, _ in RULES)
} | {"counter": {TOTAL: TOTAL, "": TOTAL}}
"""The sample name suffixes that each type has in files, and the suffix that each is exposed with.

The sample of a counter may also have the name of the family itself.
"""
