"""A plan merges and folds the values of segments, and has what contradicts what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from mpmetrics.errors import Problem
from mpmetrics.merging import make_plan
from mpmetrics.merging.plan import FoldedSeries
from tests.database import Entry, counter, gauge, histogram, summary
from tests.merging.segments import make_segments

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mpmetrics.merging.plan import Plan

    Lines = list[str]


def plan(files: Mapping[str, Sequence[Entry]], *, accumulate: bool = True) -> tuple[Plan, Lines]:
    """Return the plan for *files*, and the samples that it merges their values to."""
    segments, keys, flat = make_segments(files)
    made = make_plan(segments, keys, accumulate=accumulate)
    return made, [
        f"{family.type} {sample.name} {sample.labels} {sample.value}"
        for family in made.merge(flat)
        for sample in family.samples
    ]


class Case(NamedTuple):
    """Files, the samples that they merge to, and the problems of the plan."""

    files: Mapping[str, Sequence[Entry]]
    lines: Lines
    problems: Sequence[Problem] = ()


CASES: Final = {
    "no segments": Case({}, []),
    "a segment without keys": Case({"counter_1.db": []}, []),
    "counters are added up": Case(
        {"counter_1.db": [counter("c", 1)], "counter_2.db": [counter("c", 2)]},
        ["counter c_total {} 3.0"],
    ),
    "families are sorted by name, series by labels and sample": Case(
        {
            "summary_1.db": [*summary("s", 1, 2, {"a": "2"}), *summary("s", 3, 4, {"a": "1"})],
            "counter_1.db": [counter("z", 5), counter("a", 6)],
        },
        [
            "counter a_total {} 6.0",
            "summary s_count {'a': '1'} 3.0",
            "summary s_sum {'a': '1'} 4.0",
            "summary s_count {'a': '2'} 1.0",
            "summary s_sum {'a': '2'} 2.0",
            "counter z_total {} 5.0",
        ],
    ),
    "series of different processes join in one family": Case(
        {
            "gauge_max_1.db": [gauge("g", 1, {"a": "x"}), gauge("g", 5)],
            "gauge_max_2.db": [gauge("g", 7)],
        },
        ["gauge g {} 7.0", "gauge g {'a': 'x'} 1.0"],
    ),
    "series of one process have its id": Case(
        {"gauge_all_a_1.db": [gauge("g", 1)], "gauge_all_2.db": [gauge("g", 2, {"x": "y"})]},
        ["gauge g {'pid': '2', 'x': 'y'} 2.0", "gauge g {'pid': 'a_1'} 1.0"],
    ),
    "an unset gauge has no sample": Case(
        {
            "gauge_mostrecent_1.db": [gauge("g", 1), gauge("h", 2, timestamp=9)],
            "gauge_mostrecent_2.db": [gauge("h", 3, timestamp=8), gauge("h", 4, {"a": "b"})],
        },
        ["gauge h {} 2.0"],
    ),
    "one series under two keys of one file is added up": Case(
        {"counter_1.db": [counter("c", 1), counter("c", 2)._replace(help="another")]},
        ["counter c_total {} 3.0"],
    ),
    "a counter without its suffix": Case(
        {"counter_1.db": [Entry("c", "c", {}, 1), counter("c", 2), Entry("d_total", "d", {}, 3)]},
        ["counter c_total {} 3.0", "counter d_total {} 3.0"],
    ),
    "two types": Case(
        {"counter_1.db": [counter("x", 1)], "gauge_sum_1.db": [gauge("x", 2)]},
        ["counter x_total {} 1.0"],
        [
            Problem(
                "gauge_sum_1.db",
                "type_conflict",
                "family 'x' is 'gauge' here but 'counter' in other files; left out here",
            )
        ],
    ),
    "two modes": Case(
        {"gauge_max_1.db": [gauge("g", 5)], "gauge_min_2.db": [gauge("g", 2)]},
        ["gauge g {} 5.0"],
        [
            Problem(
                "gauge_min_2.db",
                "mode_conflict",
                "family 'g' is 'min' here but 'max' in other files; left out here",
            )
        ],
    ),
    "two families with one sample name": Case(
        {"histogram_1.db": histogram("h", {"+Inf": 1}, 1), "gauge_sum_1.db": [gauge("h_sum", 2)]},
        [
            "histogram h_sum {} 1.0",
            "histogram h_bucket {'le': '+Inf'} 1.0",
            "histogram h_count {} 1.0",
        ],
        [
            Problem(
                "h_sum",
                "name_clash",
                "families 'h_sum' and 'h' both expose 'h_sum'; 'h_sum' is left out",
            )
        ],
    ),
    "a sample of another type": Case(
        {"counter_1.db": [counter("c", 1), Entry("c", "c_sum", {}, 2)]},
        ["counter c_total {} 1.0"],
        [Problem("counter_1.db", "odd_sample", "a counter 'c' has no sample 'c_sum'; left out")],
    ),
    "two processes with one label pid": Case(
        {
            "gauge_all_1.db": [gauge("g", 1, {"pid": "x"})],
            "gauge_all_2.db": [gauge("g", 2, {"pid": "x"})],
        },
        ["gauge g {'pid': 'x'} 2.0"],
        [Problem("gauge_all_2.db", "duplicate_series", 'g{pid="x"} is written by 1, 2')],
    ),
    "two bucket layouts, and a bound that is no number": Case(
        {
            "histogram_1.db": histogram("h", {"1.0": 1, "many": 7, "+Inf": 2}, None),
            "histogram_2.db": histogram("h", {"2.0": 10, "+Inf": 20}, None),
        },
        ["histogram h_bucket {'le': '+Inf'} 33.0"],
        [
            Problem(
                "histogram_1.db",
                "odd_sample",
                "histogram 'h': the bucket bound 'many' is not a number; left out",
            ),
            Problem(
                "histogram_2.db",
                "bucket_conflict",
                "histogram 'h': not every process has the bounds 1.0, 2.0; left out",
            ),
        ],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_plan_merges_segments(name: str) -> None:
    """A plan merges all values to samples, and its problems are all that it leaves out."""
    files, lines, problems = CASES[name]
    made, merged = plan(files)
    assert merged == lines
    assert made.problems == tuple(problems)


def test_a_plan_serves_for_other_values() -> None:
    """The same plan merges other values of the same segments, into the same template."""
    segments, keys, flat = make_segments(
        {"counter_1.db": [counter("c", 1)], "counter_2.db": [counter("c", 2)]}
    )
    made = make_plan(segments, keys)
    (first,), (second,) = made.merge(flat), made.merge([10.0, 20.0])
    assert [family.samples[0].value for family in (first, second)] == [3.0, 30.0]
    assert made.families[0].template.names() == [("c_total", ())]


@pytest.mark.parametrize("prefix", ["gauge_sum", "gauge_all"])
def test_the_first_help_in_file_order_is_kept(prefix: str) -> None:
    """Of several HELP texts, a family has that of the first segment."""
    files = {
        f"{prefix}_{number}.db": [gauge("g", 1)._replace(help=f"help {number}")]
        for number in (1, 2)
    }
    segments, keys, flat = make_segments(files)
    (family,) = make_plan(segments, keys).merge(flat)
    assert family.documentation == "help 1"


def test_a_family_without_values_is_left_out() -> None:
    """A merge returns no family whose gauges are all unset."""
    segments, keys, flat = make_segments(
        {"gauge_mostrecent_1.db": [gauge("g", 1), gauge("h", 2, timestamp=9)]}
    )
    assert [family.name for family in make_plan(segments, keys).merge(flat)] == ["h"]


def test_segments_that_share_their_keys_merge_like_others() -> None:
    """Segments with one and the same tuple of keys merge as those with equal tuples do."""
    entries = [counter("c", 1, {"n": str(number)}) for number in range(3)]
    segments, keys, flat = make_segments({f"counter_{pid}.db": entries for pid in (1, 2, 3)})
    shared = [segment._replace(keys=segments[0].keys) for segment in segments]
    expected = [("c_total", {"n": str(number)}, 3.0) for number in range(3)]
    assert segments[0].keys is not segments[1].keys
    for each in (segments, shared):
        (family,) = make_plan(each, keys).merge(flat)
        assert [sample[:3] for sample in family.samples] == expected


def test_folding_keeps_the_order_of_the_first_segment() -> None:
    """Folded series stand in the order in which segments have them, whatever their family."""
    files = {
        "counter_1.db": [counter("z", 1, {"b": "1"}), counter("a", 2), counter("z", 3)],
        "counter_2.db": [counter("new", 4), counter("a", 5)],
    }
    segments, keys, flat = make_segments(files)
    assert make_plan(segments, keys, accumulate=False).fold(flat) == [
        FoldedSeries("z", "z_total", (("b", "1"),), "help", 1.0, 0.0),
        FoldedSeries("a", "a_total", (), "help", 7.0, 0.0),
        FoldedSeries("z", "z_total", (), "help", 3.0, 0.0),
        FoldedSeries("new", "new_total", (), "help", 4.0, 0.0),
    ]


def test_folding_keeps_what_rounding_takes_away() -> None:
    """The second number of a sum is its rest, so that value and rest are the exact sum."""
    files = {"counter_1.db": [counter("c", 2.0**53)], "counter_2.db": [counter("c", 1.0)]}
    segments, keys, flat = make_segments(files)
    (series,) = make_plan(segments, keys, accumulate=False).fold(flat)
    assert (series.value, series.second) == (2.0**53, 1.0)


def test_folding_keeps_timestamps() -> None:
    """The second number of a gauge that was set last is the time at which it was set."""
    files = {
        "gauge_mostrecent_1.db": [gauge("g", 1, timestamp=7)],
        "gauge_mostrecent_2.db": [gauge("g", 2, timestamp=6)],
    }
    segments, keys, flat = make_segments(files)
    (series,) = make_plan(segments, keys, accumulate=False).fold(flat)
    assert (series.value, series.second) == (1.0, 7)


def test_folding_histograms_of_several_layouts() -> None:
    """Folded counts are those between shared bounds; they have no rest, but their sum has one."""
    files = {
        "histogram_1.db": histogram("h", {"1.0": 1, "5.0": 2, "+Inf": 3}, 2.0**53),
        "histogram_2.db": histogram("h", {"2.0": 10, "5.0": 20, "+Inf": 30}, 1.0),
    }
    segments, keys, flat = make_segments(files)
    assert make_plan(segments, keys, accumulate=False).fold(flat) == [
        FoldedSeries("h", "h_sum", (), "help", 2.0**53, 1.0),
        FoldedSeries("h", "h_bucket", (("le", "5.0"),), "help", 33.0, 0.0),
        FoldedSeries("h", "h_bucket", (("le", "+Inf"),), "help", 33.0, 0.0),
    ]
