"""Histograms: which bounds and totals their children show, and how values fill them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from mpmetrics.exposition import Format, LinePrefixes, format_value
from mpmetrics.merging.histograms import HistogramPlan, plan_histograms
from mpmetrics.merging.series import Kind, index_series
from tests.database import Entry, histogram
from tests.merging.segments import make_segments

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

INF = math.inf


class Histograms(NamedTuple):
    """The *plan* for the family `h` of some files, and the values of all files (*flat*)."""

    plan: HistogramPlan
    flat: list[float]

    def lines(self) -> list[str]:
        """Return the series with their values, the slots merged by addition."""
        merged = [sum(self.flat[place] for place in at) for at in self.plan.slots]
        values = self.plan.shape.values(merged, self.flat)
        return [
            f"{name.removeprefix('h_')}{dict(labels) or ''} {format_value(value)}"
            for (name, labels), value in zip(self.plan.shape.names(), values, strict=True)
        ]


def plan(files: Sequence[Sequence[Entry]], *, accumulate: bool = True) -> Histograms:
    """Plan the histograms of the family `h` in files with these entries."""
    segments, keys, flat = make_segments(
        {f"histogram_{number}.db": entries for number, entries in enumerate(files)}
    )
    index = index_series(segments, keys)
    series = index.families["h"][Kind("histogram", "")]
    return Histograms(plan_histograms("h", series, index.origins, accumulate=accumulate), flat)


class Case(NamedTuple):
    """Entries of files, the lines of the page, and the bounds that are missing from it."""

    files: Sequence[Sequence[Entry]]
    lines: Sequence[str]
    hidden: Mapping[float, tuple[int, ...]] = {}
    unreadable: Mapping[str, tuple[int, ...]] = {}


COUNT: Final = Entry("h", "h_count", {}, 5)

CASES: Final = {
    "one process": Case(
        [histogram("h", {"1.0": 1, "2.5": 2, "+Inf": 3}, 9)],
        [
            *("sum 9.0", "bucket{'le': '1.0'} 1.0", "bucket{'le': '2.5'} 3.0"),
            *("bucket{'le': '+Inf'} 6.0", "count 6.0"),
        ],
    ),
    "two processes with the same bounds": Case(
        [histogram("h", {"1.0": 1, "+Inf": 3}, 9), histogram("h", {"1.0": 10, "+Inf": 0}, 1)],
        ["sum 10.0", "bucket{'le': '1.0'} 11.0", "bucket{'le': '+Inf'} 14.0", "count 14.0"],
    ),
    "one bound less, and another spelling": Case(
        [histogram("h", {"1.0": 1, "2": 2, "+Inf": 3}, 9), histogram("h", {"inf": 30, "2.0": 20})],
        ["sum 9.0", "bucket{'le': '2.0'} 23.0", "bucket{'le': '+Inf'} 56.0", "count 56.0"],
        {1.0: (1,)},
    ),
    "buckets in another order": Case(
        [
            histogram("h", {"1.0": 1, "2.0": 2, "+Inf": 3}, 9),
            histogram("h", {"+Inf": 30, "2.0": 20, "1.0": 10}, 1),
        ],
        [
            *("sum 10.0", "bucket{'le': '1.0'} 11.0", "bucket{'le': '2.0'} 33.0"),
            *("bucket{'le': '+Inf'} 66.0", "count 66.0"),
        ],
    ),
    "different bounds": Case(
        [
            histogram("h", {"1.0": 1, "5.0": 2, "+Inf": 3}, 9),
            histogram("h", {"2.0": 10, "5.0": 20, "+Inf": 30}, 1),
        ],
        ["sum 10.0", "bucket{'le': '5.0'} 33.0", "bucket{'le': '+Inf'} 66.0", "count 66.0"],
        {1.0: (1,), 2.0: (5,)},
    ),
    "an incomplete histogram": Case(
        [histogram("h", {"1.0": 1, "2.0": 2, "+Inf": 3}, 9), histogram("h", {"1.0": 0}, 0)],
        [
            *("sum 9.0", "bucket{'le': '1.0'} 1.0", "bucket{'le': '2.0'} 3.0"),
            *("bucket{'le': '+Inf'} 6.0", "count 6.0"),
        ],
    ),
    "no bucket +Inf": Case(
        [histogram("h", {"1.0": 2}, 9)],
        ["sum 9.0", "bucket{'le': '1.0'} 2.0", "bucket{'le': '+Inf'} 2.0", "count 2.0"],
    ),
    "a count alone": Case([[COUNT]], ["bucket{'le': '+Inf'} 5.0"]),
    "a sum and a count": Case(
        [[Entry("h", "h_sum", {}, 3), COUNT]],
        ["sum 3.0", "bucket{'le': '+Inf'} 5.0", "count 5.0"],
    ),
    "a count beside buckets": Case(
        [[*histogram("h", {"+Inf": 3}, 9), COUNT]],
        ["sum 9.0", "bucket{'le': '+Inf'} 3.0", "count 3.0"],
    ),
    "a sum alone": Case([[Entry("h", "h_sum", {}, 3)]], []),
    "buckets without a sum": Case(
        [histogram("h", {"+Inf": 3}, None)], ["bucket{'le': '+Inf'} 3.0"]
    ),
    "a negative bound": Case(
        [histogram("h", {"-1.0": 2, "+Inf": 1}, -7)],
        ["bucket{'le': '-1.0'} 2.0", "bucket{'le': '+Inf'} 3.0", "count 3.0"],
    ),
    "bounds that are no numbers": Case(
        [histogram("h", {"NaN": 1, "much": 2, "": 3, "+Inf": 4}, 9)],
        ["sum 9.0", "bucket{'le': '+Inf'} 4.0", "count 4.0"],
        unreadable={"NaN": (1,), "much": (2,), "": (3,)},
    ),
    "two helps in one file are two histograms": Case(
        [
            [
                *histogram("h", {"1.0": 1, "+Inf": 2}, None),
                *(
                    each._replace(help="other")
                    for each in histogram("h", {"1.0": 10, "2.0": 20, "+Inf": 30}, None)
                ),
            ]
        ],
        ["bucket{'le': '1.0'} 11.0", "bucket{'le': '+Inf'} 63.0"],
        {2.0: (3,)},
    ),
    "children are sorted by their labels": Case(
        [
            [
                *histogram("h", {"+Inf": 2}, 1, {"z": "1"}),
                *histogram("h", {"1.0": 3, "+Inf": 4}, None, {"a": "1"}),
            ]
        ],
        [
            "bucket{'a': '1', 'le': '1.0'} 3.0",
            "bucket{'a': '1', 'le': '+Inf'} 7.0",
            "sum{'z': '1'} 1.0",
            "bucket{'le': '+Inf', 'z': '1'} 2.0",
            "count{'z': '1'} 2.0",
        ],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_histograms_show_true_counts(name: str) -> None:
    """A family shows the bounds that all processes have, and names those that it does not show."""
    files, lines, hidden, unreadable = CASES[name]
    made = plan(files)
    assert made.lines() == lines
    assert (made.plan.hidden, made.plan.unreadable) == (hidden, unreadable)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("form", [Format(), Format(labels=(("a", "x"), ("m", "y")))])
def test_prefixes_are_those_of_the_names(name: str, form: Format) -> None:
    """The prefixes of a family are the names and labels of its series, as any line has them."""
    shape = plan(CASES[name].files).plan.shape
    assert shape.prefixes(LinePrefixes(form)) == LinePrefixes(form).samples(shape.names())


def test_without_accumulation_counts_are_those_of_files() -> None:
    """A family for an archive has the count of each bucket alone, any sum, and no total count."""
    made = plan([histogram("h", {"-1.0": 2, "1.0": 3, "+Inf": 1}, -7)], accumulate=False)
    assert made.lines() == [
        *("sum -7.0", "bucket{'le': '-1.0'} 2.0", "bucket{'le': '1.0'} 3.0"),
        "bucket{'le': '+Inf'} 1.0",
    ]


def test_counts_from_parts_have_no_rest() -> None:
    """The rests are those of the slots; counts that are merged from parts have a rest of 0."""
    made = plan(
        [
            [
                *histogram("h", {"1.0": 1, "+Inf": 2}, 1, {"of": "all"}),
                *histogram("h", {"1.0": 1, "+Inf": 2}, 1, {"of": "two"}),
            ],
            histogram("h", {"2.0": 1, "+Inf": 2}, 1, {"of": "two"}),
        ],
        accumulate=False,
    )
    assert len(made.plan.slots) == 4
    assert made.plan.shape.rests([0.25, 0.5, 0.75, 0.125]) == [0.25, 0.5, 0.75, 0.125, 0.0]


def test_every_series_knows_where_its_child_was_first_met() -> None:
    """All series of a child have the place of the first value that any of them has."""
    made = plan(
        [
            [
                *histogram("h", {"+Inf": 2}, 1, {"z": "1"}),
                *histogram("h", {"1.0": 3, "+Inf": 4}, 5, {"a": "1"}),
            ]
        ]
    )
    assert made.plan.firsts == [2, 2, 2, 2, 0, 0, 0]
