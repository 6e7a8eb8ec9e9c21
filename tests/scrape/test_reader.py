"""A reader, and a view, that remember what cannot change and notice what has."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

import pytest

from mpmetrics.directory import list_files
from mpmetrics.format.layout import Layout
from mpmetrics.scrape.reader import SegmentReader
from mpmetrics.scrape.view import DirectoryView, collect
from tests.database import Entry, counter, encode, gauge, histogram, write

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Change = Callable[[Path], object]


def fill(path: Path, workers: Sequence[int] = (1, 2)) -> None:
    """Write the files of *workers*."""
    for worker in workers:
        write(path / f"counter_{worker}.db", [counter("c", worker), counter("d", 1, {"a": "x"})])
        write(path / f"histogram_{worker}.db", histogram("h", {"1.0": worker, "+Inf": 1}, 2))
        write(path / f"gauge_mostrecent_{worker}.db", [gauge("g", worker, {}, worker)])


def test_a_second_collection_parses_no_key_twice(tmp_path: Path) -> None:
    """A view parses each key once: later values cost no parsing, a new key costs its own."""
    fill(tmp_path, workers=[1])
    view = DirectoryView(str(tmp_path))

    def meanings() -> dict[bytes, object]:
        return dict(view._scraper._reader.meanings)

    def kept(before: dict[bytes, object], after: dict[bytes, object]) -> list[bytes]:
        """Return the keys whose meaning is the very object that it was before."""
        return [raw for raw, meaning in after.items() if meaning is before.get(raw)]

    assert b"c_total 1.0" in view.collect().render()
    first = meanings()
    fill(tmp_path, workers=[2])  # which has the same keys
    assert b"c_total 3.0" in view.collect().render()
    assert kept(first, meanings()) == list(meanings()) == list(first)
    with (tmp_path / "counter_1.db").open("r+b") as file:
        file.write(encode([counter("c", 7), counter("d", 8, {"a": "x"})]))
    assert b"c_total 9.0" in view.collect().render()
    assert kept(first, meanings()) == list(meanings()) == list(first)
    entries = [counter("c", 7), counter("d", 8, {"a": "x"}), counter("e", 1)]
    write(tmp_path / "counter_1.db", entries)
    assert b"e_total 1.0" in view.collect().render()
    assert kept(first, meanings()) == list(first)
    assert [raw[4:] for raw in meanings().keys() - first.keys()] == [entries[-1].key()]


def test_workers_that_look_alike_share_a_layout(tmp_path: Path) -> None:
    """Files that look alike, or have grown alike, share one layout, which costs memory once."""
    view = DirectoryView(str(tmp_path))
    for size in (1, 5):
        for worker in range(4):
            entries = [counter(f"c{number}", 1) for number in range(size)]
            write(tmp_path / f"counter_{worker}.db", entries)
        assert b"c0_total 4.0" in view.collect().render()
        assert len(set(view._scraper._reader.layouts.values())) == 1


def replace(path: Path) -> None:
    """Put another file of the same name, size and keys in another order in the place of one."""
    target = path / "counter_1.db"
    entries = [counter("d", 5, {"a": "x"}), counter("c", 6)]
    target.unlink()
    write(target, entries)


CHANGES: dict[str, Change] = {
    "nothing": lambda _: None,
    "a value": lambda path: write(
        path / "counter_1.db", [counter("c", 9), counter("d", 1, {"a": "x"})]
    ),
    "a new key": lambda path: write(
        path / "counter_1.db", [counter("c", 1), counter("d", 1, {"a": "x"}), counter("e", 1)]
    ),
    "a new file": lambda path: write(path / "counter_3.db", [counter("c", 5)]),
    "a file of another type": lambda path: write(path / "gauge_max_3.db", [gauge("c", 5)]),
    "a file that went away": lambda path: (path / "counter_1.db").unlink(),
    "a file that was replaced": replace,
    "other keys in place": lambda path: write(
        path / "counter_1.db", [counter("d", 5), counter("f", 6)]
    ),
    "fewer keys": lambda path: write(path / "counter_1.db", [counter("c", 5)]),
    "no keys": lambda path: write(path / "counter_1.db", []),
    "a file that was emptied": lambda path: (path / "counter_1.db").write_bytes(b""),
    "damage": lambda path: write(path / "counter_1.db", [Entry("", "", raw_key=b"junk")]),
    "a file that was cut": lambda path: os.truncate(path / "counter_1.db", 60),
    "other buckets": lambda path: write(
        path / "histogram_2.db", histogram("h", {"1.0": 1, "2.0": 2, "+Inf": 1}, 2)
    ),
    "a newer value": lambda path: write(path / "gauge_mostrecent_1.db", [gauge("g", 8, {}, 99.0)]),
    "never set": lambda path: [
        write(path / f"gauge_mostrecent_{worker}.db", [gauge("g", 8)]) for worker in (1, 2)
    ],
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_view_with_a_memory_sees_what_a_fresh_one_sees(tmp_path: Path, name: str) -> None:
    """A view returns what a new one returns, after any change and after its reversal."""
    fill(tmp_path)
    view = DirectoryView(str(tmp_path))
    view.collect().render()
    CHANGES[name](tmp_path)
    for _ in range(2):
        before, fresh = view.collect(), collect(tmp_path)
        assert before.render() == fresh.render()
        assert before.render(openmetrics=True) == fresh.render(openmetrics=True)
        assert before.problems == fresh.problems
    fill(tmp_path)
    assert view.collect().render() == collect(tmp_path).render()


def test_a_collection_does_not_change_when_the_directory_does(tmp_path: Path) -> None:
    """A collection that is written later still has the values of its own moment."""
    fill(tmp_path)
    view = DirectoryView(str(tmp_path))
    first = view.collect()
    page = collect(tmp_path).render()
    write(tmp_path / "counter_1.db", [counter("c", 100)])
    assert view.collect().render() != page
    assert first.render() == page
    assert [sample.value for sample in first.families[0].samples] == [3.0]


def test_keys_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    """The memory of a view follows the keys in the directory, not all that it ever had."""
    view = DirectoryView(str(tmp_path))
    for generation in range(6):
        names = [f"c{generation}_{number}" for number in range(500)]
        write(tmp_path / "counter_1.db", [counter(name, 1) for name in names])
        view.collect()
        reader = view._scraper._reader
        assert len(reader._raws) <= 3_000
        assert set(reader.meanings) <= set(reader._raws)


def test_damaged_files_leave_nothing_behind(tmp_path: Path) -> None:
    """Keys of damaged files, other ones at each scrape, do not pile up in memory."""
    view = DirectoryView(str(tmp_path))
    for number in range(5):
        junk = [Entry("", "", raw_key=b"%d" % (number * 1_000 + each)) for each in range(1_000)]
        write(tmp_path / "counter_1.db", junk)
        assert [problem.reason for problem in view.collect().problems] == ["damaged"]
        assert len(view._scraper._reader._raws) <= 2_000


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_left_as_it_was(tmp_path: Path, *, enabled: bool) -> None:
    """A first scrape leaves the garbage collector on if it was on, and off if it was off."""
    fill(tmp_path)
    was_enabled = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        collect(tmp_path)
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if was_enabled else gc.disable)()


def test_an_archive_gives_two_columns_if_its_sums_have_rests(tmp_path: Path) -> None:
    """What the rounding of sums took away is a segment of its own, behind that of the sums."""
    rest = Entry("c", "c_total", {}, 1e16, 1.0)
    # The second number of a worker's entry is no rest, whatever it is.
    worker = write(tmp_path / "counter_1.db", [rest])
    exact = write(tmp_path / "counter_mpmetrics-archive-1.db", [counter("c", 2), counter("d", 3)])
    rounded = write(tmp_path / "counter_mpmetrics-archive-2.db", [rest, counter("d", 3)])
    files = list_files([worker, exact, rounded]).files
    reading = SegmentReader().read(files)
    assert [(segment.file, segment.has_rests) for segment in reading.segments] == [
        *((file, False) for file in files),
        (files[-1], True),
    ]
    assert reading.values == [1e16, 2.0, 3.0, 1e16, 3.0, 1.0, 0.0]


def test_a_layout_without_keys_fits_every_file() -> None:
    """An empty layout matches every file, since every file has grown from an empty one."""
    assert Layout().matches(encode([counter("c", 1)]), 64)


def test_there_is_room_for_so_many_keys(tmp_path: Path) -> None:
    """A file with which all would have too many distinct keys is left out until there is room."""
    reader = SegmentReader(most_keys=100)

    def read() -> dict[str, str]:
        reading = reader.read(list_files(sorted(tmp_path.glob("*.db"))).files)
        reader.forget_files(besides=reading.segments)
        reader.forget_unused_keys(reading.segments)
        assert len(reader.meanings) <= 100
        return {problem.path.rpartition("/")[2]: problem.reason for problem in reading.problems}

    for worker in (1, 2, 3):
        own = [counter(f"of_{worker}_{number}", 1) for number in range(40)]
        write(tmp_path / f"counter_{worker}.db", own)
        write(tmp_path / f"counter_{worker}0.db", own)  # shares all its keys with the other
    for _ in range(2):
        assert read() == {"counter_3.db": "too_large", "counter_30.db": "too_large"}
    for name in ("counter_1.db", "counter_10.db"):
        (tmp_path / name).unlink()
    assert read() == {"counter_3.db": "too_large", "counter_30.db": "too_large"}
    assert read() == {}
