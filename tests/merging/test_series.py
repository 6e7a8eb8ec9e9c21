"""The index of series: which places of values belong together, and which files they come from."""

from __future__ import annotations

from mpmetrics.merging.series import Kind, index_series
from tests.database import counter, gauge
from tests.merging.segments import make_segments

COUNTER, ALL = Kind("counter", ""), Kind("gauge", "all")


def test_series_have_the_places_of_all_segments() -> None:
    """A series has the places of its values in file order, whatever their keys look like."""
    segments, keys, _ = make_segments(
        {
            "counter_1.db": [counter("c", 0), counter("c", 0, {"a": "b"})],
            "counter_2.db": [counter("c", 0)._replace(help="other"), counter("d", 0)],
            "gauge_all_2.db": [gauge("g", 0)],
        }
    )
    index = index_series(segments, keys)
    assert index.families == {
        "c": {COUNTER: {("c_total", (), None): (0, 2), ("c_total", (("a", "b"),), None): (1,)}},
        "d": {COUNTER: {("d_total", (), None): (3,)}},
        "g": {ALL: {("g", (("pid", "2"),), None): (4,)}},
    }
    assert index.helps == {("c", COUNTER): "help", ("d", COUNTER): "help", ("g", ALL): "help"}


def test_a_place_has_the_file_that_it_comes_from() -> None:
    """Every place is that of a value of one segment, also beside segments without values."""
    segments, keys, _ = make_segments(
        {
            "counter_1.db": [],
            "counter_2.db": [counter("c", 0), counter("d", 0)],
            "counter_3.db": [counter("c", 0)],
        }
    )
    origins = index_series(segments, keys).origins
    assert [origins.segment_number(place) for place in range(3)] == [1, 1, 2]
    assert [origins.file(place).path for place in range(3)] == [
        *("counter_2.db", "counter_2.db", "counter_3.db")
    ]


def test_two_helps_in_one_file_are_two_histograms() -> None:
    """Values of one series under two HELP texts are told apart, even in one segment."""
    segments, keys, _ = make_segments(
        {"counter_1.db": [counter("c", 0), counter("d", 0), counter("c", 0)._replace(help="x")]}
    )
    origins = index_series(segments, keys).origins
    assert [origins.histogram_key(place) for place in range(3)] == [(0, ""), (0, ""), (0, "x")]


def test_an_odd_process_name_becomes_a_label() -> None:
    """A lone surrogate in the id of a file is U+FFFD in the label `pid`."""
    segments, keys, _ = make_segments({"gauge_all_x\udcff.db": [gauge("g", 0)]})
    assert index_series(segments, keys).families == {
        "g": {ALL: {("g", (("pid", "x\ufffd"),), None): (0,)}}
    }
