"""From files to families: what is merged, what is shown, what is reported."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from mpmetrics.scrape.view import collect
from tests.database import Entry, counter, gauge, histogram, summary, write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Files = dict[str, "list[Entry]"]


def page_of(path: Path, files: Mapping[str, Sequence[Entry]]) -> tuple[list[str], list[str]]:
    """Write *files*, collect them; return the lines of the page and the reasons of problems."""
    for name, entries in files.items():
        write(path / name, entries)
    collection = collect(path)
    lines = [line for line in collection.render().decode().splitlines() if "# HELP" not in line]
    return lines, [problem.reason for problem in collection.problems]


PAGES: dict[str, tuple[Files, list[str], list[str]]] = {
    "counters add up": (
        {"counter_1.db": [counter("c", 1)], "counter_2.db": [counter("c", 2.5)]},
        ["# TYPE c_total counter", "c_total 3.5"],
        [],
    ),
    "a counter without the usual suffix": (
        {"counter_1.db": [Entry("c", "c", {}, 1)], "counter_2.db": [Entry("c_total", "c_total")]},
        ["# TYPE c_total counter", "c_total 1.0"],
        [],
    ),
    "a counter whose name is a suffix": (
        {"counter_1.db": [Entry("_total", "_total", {}, 1)]},
        ["# TYPE _total_total counter", "_total_total 1.0"],
        [],
    ),
    "summaries add up": (
        {"summary_1.db": summary("s", 2, 0.5), "summary_2.db": summary("s", 3, 1.5)},
        ["# TYPE s summary", "s_count 5.0", "s_sum 2.0"],
        [],
    ),
    "histograms add up and become cumulative": (
        {
            "histogram_1.db": histogram("h", {"1.0": 1, "+Inf": 2}, 9),
            "histogram_2.db": histogram("h", {"1.0": 3, "+Inf": 4}, 1),
        },
        [
            *("# TYPE h histogram", "h_sum 10.0", 'h_bucket{le="1.0"} 4.0'),
            *('h_bucket{le="+Inf"} 10.0', "h_count 10.0"),
        ],
        [],
    ),
    "bounds are compared as numbers": (
        {
            "histogram_1.db": histogram("h", {"1": 1, "1e6": 2, "inf": 0}),
            "histogram_2.db": histogram("h", {"1.0": 1, "1000000.0": 2, "+Inf": 0}),
        },
        [
            *("# TYPE h histogram", "h_sum 0.0", 'h_bucket{le="1.0"} 2.0'),
            *('h_bucket{le="1e+06"} 6.0', 'h_bucket{le="+Inf"} 6.0', "h_count 6.0"),
        ],
        [],
    ),
    "bounds that not all processes have are hidden": (
        {
            "histogram_1.db": histogram("h", {"1.0": 1, "2.0": 2, "+Inf": 4}, 5),
            "histogram_2.db": histogram("h", {"1.0": 8, "3.0": 16, "+Inf": 32}, 5),
        },
        [
            *("# TYPE h histogram", "h_sum 10.0", 'h_bucket{le="1.0"} 9.0'),
            *('h_bucket{le="+Inf"} 63.0', "h_count 63.0"),
        ],
        ["bucket_conflict"],
    ),
    "a histogram that is still being made hides nothing": (
        {
            "histogram_1.db": histogram("h", {"1.0": 1, "2.0": 2, "+Inf": 4}, 5),
            "histogram_2.db": histogram("h", {"1.0": 0}, 0),
            "histogram_3.db": histogram("h", {}, 0),
        },
        [
            *("# TYPE h histogram", "h_sum 5.0", 'h_bucket{le="1.0"} 1.0'),
            *('h_bucket{le="2.0"} 3.0', 'h_bucket{le="+Inf"} 7.0', "h_count 7.0"),
        ],
        [],
    ),
    "a histogram with negative bounds has no sum": (
        {"histogram_1.db": histogram("h", {"-1.0": 1, "+Inf": 0}, -3)},
        ["# TYPE h histogram", 'h_bucket{le="-1.0"} 1.0', 'h_bucket{le="+Inf"} 1.0', "h_count 1.0"],
        [],
    ),
    "a bound that is no number": (
        {"histogram_1.db": histogram("h", {"x": 1, "nan": 1, "+Inf": 2}, 5)},
        ["# TYPE h histogram", "h_sum 5.0", 'h_bucket{le="+Inf"} 2.0', "h_count 2.0"],
        ["odd_sample", "odd_sample"],
    ),
    "gauges of every process carry its id": (
        {
            "gauge_all_1.db": [gauge("g", 1)],
            "gauge_all_worker_2.db": [gauge("g", 2)],
            "gauge_liveall_1.db": [gauge("l", 3, {"a": "x"})],
        },
        [
            *("# TYPE g gauge", 'g{pid="1"} 1.0', 'g{pid="worker_2"} 2.0'),
            *("# TYPE l gauge", 'l{a="x",pid="1"} 3.0'),
        ],
        [],
    ),
    "a label pid of the user's own is kept": (
        {
            "gauge_all_1.db": [gauge("g", 1, {"pid": "a"})],
            "gauge_all_2.db": [gauge("g", 2, {"pid": "b"})],
            "gauge_sum_1.db": [gauge("s", 1, {"pid": "a"})],
            "gauge_sum_2.db": [gauge("s", 2, {"pid": "b"})],
        },
        [
            *("# TYPE g gauge", 'g{pid="a"} 1.0', 'g{pid="b"} 2.0'),
            *("# TYPE s gauge", 's{pid="a"} 1.0', 's{pid="b"} 2.0'),
        ],
        [],
    ),
    "two processes with the same label pid": (
        {
            "gauge_all_1.db": [gauge("g", 1, {"pid": "a"})],
            "gauge_all_2.db": [gauge("g", 2, {"pid": "a"})],
        },
        ["# TYPE g gauge", 'g{pid="a"} 2.0'],
        ["duplicate_series"],
    ),
    "numbers that are none pass through": (
        {
            "gauge_sum_1.db": [gauge("s", math.inf), gauge("t", -1), gauge("u", math.nan)],
            "gauge_max_1.db": [gauge("m", -math.inf)],
        },
        [
            *("# TYPE m gauge", "m -Inf", "# TYPE s gauge", "s +Inf"),
            *("# TYPE t gauge", "t -1.0", "# TYPE u gauge", "u NaN"),
        ],
        [],
    ),
    "a gauge that was never set is not shown": (
        {
            "gauge_mostrecent_1.db": [gauge("g", 0), gauge("h", 0, {"a": "x"})],
            "gauge_mostrecent_2.db": [gauge("h", 7, {"a": "y"}, 5.0)],
        },
        ["# TYPE h gauge", 'h{a="y"} 7.0'],
        [],
    ),
    "different help texts make one family": (
        {
            "counter_1.db": [Entry("c", "c_total", {}, 1, help="old")],
            "counter_2.db": [Entry("c", "c_total", {}, 2, help="new")],
        },
        ["# TYPE c_total counter", "c_total 3.0"],
        [],
    ),
    "one family of two types": (
        {"counter_1.db": [counter("x", 1)], "gauge_sum_1.db": [gauge("x", 2)]},
        ["# TYPE x_total counter", "x_total 1.0"],
        ["type_conflict"],
    ),
    "one gauge of two modes": (
        {"gauge_max_1.db": [gauge("x", 1)], "gauge_min_2.db": [gauge("x", 2)]},
        ["# TYPE x gauge", "x 1.0"],
        ["mode_conflict"],
    ),
    "two families that expose one name": (
        {"counter_1.db": [counter("x", 1)], "gauge_sum_1.db": [gauge("x_total", 2)]},
        ["# TYPE x_total counter", "x_total 1.0"],
        ["name_clash"],
    ),
    "a sample that the type does not have": (
        {"counter_1.db": [Entry("x", "x_created", {}, 1), counter("x", 2), Entry("y", "z", {}, 1)]},
        ["# TYPE x_total counter", "x_total 2.0"],
        ["odd_sample", "odd_sample"],
    ),
    "a gauge with a label le": (
        {"gauge_max_1.db": [gauge("g", 1, {"le": "x", "a": "b", "z": "y"})]},
        ["# TYPE g gauge", 'g{a="b",le="x",z="y"} 1.0'],
        [],
    ),
    "families and series are sorted": (
        {
            "counter_1.db": [
                counter("b", 1),
                counter("a", 2, {"x": "2"}),
                counter("a", 1, {"x": "1"}),
            ]
        },
        [
            *("# TYPE a_total counter", 'a_total{x="1"} 1.0', 'a_total{x="2"} 2.0'),
            *("# TYPE b_total counter", "b_total 1.0"),
        ],
        [],
    ),
    "text is escaped": (
        {"counter_1.db": [counter("c", 1, {"a": 'x"\\\n'})]},
        ["# TYPE c_total counter", 'c_total{a="x\\"\\\\\\n"} 1.0'],
        [],
    ),
    "names beyond the classic ones": (
        {"counter_1.db": [counter("ü:c.d", 1, {"é": "1", "è": "2", "éé": "3"})]},
        ["# TYPE _:c_d_total counter", '_:c_d_total{U___e8_="2",U___e9_="1",U___e9__e9_="3"} 1.0'],
        [],
    ),
    "nothing": ({"counter_1.db": []}, [], []),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_directory_becomes_a_page(tmp_path: Path, name: str) -> None:
    """The page of a directory, and its problems, are exactly those of the table."""
    files, lines, reasons = PAGES[name]
    assert page_of(tmp_path, files) == (lines, reasons)


def test_an_undamaged_file_is_not_touched_by_a_damaged_one(tmp_path: Path) -> None:
    """A damaged file is left out as a whole, and reported with the offset of the damage."""
    write(tmp_path / "counter_1.db", [counter("c", 1)])
    bad = write(tmp_path / "counter_2.db", [counter("c", 2), Entry("", "", raw_key=b"junk")])
    collection = collect(tmp_path)
    assert b"c_total 1.0" in collection.render()
    [problem] = collection.problems
    assert (problem.path, problem.reason) == (str(bad), "damaged")
    assert f"at offset {8 + len(counter('c', 2).encode())}" in problem.detail


def test_problems_name_the_file_and_what_contradicts(tmp_path: Path) -> None:
    """A problem names the file, by which an operator finds the process, and the contradiction."""
    write(tmp_path / "histogram_1.db", histogram("h", {"1.0": 1, "2.0": 2, "+Inf": 4}))
    write(tmp_path / "histogram_2.db", histogram("h", {"1.0": 1, "3.0": 2, "+Inf": 4}))
    [problem] = collect(tmp_path).problems
    assert problem == (
        str(tmp_path / "histogram_2.db"),
        "bucket_conflict",
        "histogram 'h': not every process has the bounds 2.0, 3.0; left out",
    )
