"""Files that are made to cost memory or time: each costs little, and itself only."""

from __future__ import annotations

import json
import os
import struct
from typing import TYPE_CHECKING

import pytest

import mpmetrics
from mpmetrics.directory import MANIFEST, FileName, Manifest, ReadBuffer, list_directory
from mpmetrics.errors import DamagedError, Problem
from mpmetrics.format import LARGEST_FILE, LARGEST_KEY, MOST_ENTRIES
from mpmetrics.format.layout import Layout
from mpmetrics.format.layout import encode as encode_keys
from mpmetrics.scrape import DirectoryView, Scraper, SegmentReader, take_snapshot
from tests.cli.directories import fill
from tests.database import Entry, counter, encode, gauge

if TYPE_CHECKING:
    from pathlib import Path

    from mpmetrics.directory import Listing
    from mpmetrics.scrape.part import Part

MIB = 1 << 20

GOOD = [counter("jobs", 1, {"n": str(number)}) for number in range(100)]


def sparse(path: Path, used: int, start: bytes = b"") -> Path:
    """Write a file of *used* bytes that has only its header and *start* on the disk."""
    path.write_bytes(struct.pack("ii", used, 0) + start)
    os.truncate(path, used)
    return path


def raw(key: bytes) -> Entry:
    """Return an entry with these bytes for its key."""
    return Entry("", "", raw_key=key, value=1.0)


SPARSE = {
    "largest-number": ((1 << 31) - 8, b"", "too_large"),
    "too-large": (LARGEST_FILE + 8, b"", "too_large"),
    "hole": (LARGEST_FILE, b"", "damaged"),
    "hole-behind-entries": (LARGEST_FILE, encode(GOOD)[8:], "damaged"),
    "hole-in-a-key": (LARGEST_FILE, struct.pack("i", LARGEST_KEY) + b'["jobs"', "damaged"),
    "key-as-large-as-the-file": (
        LARGEST_FILE,
        struct.pack("i", LARGEST_FILE - 40) + b'["jobs"',
        "too_large",
    ),
}


@pytest.mark.parametrize(("used", "start", "reason"), SPARSE.values(), ids=SPARSE)
def test_a_hole_is_not_read(tmp_path: Path, used: int, start: bytes, reason: str) -> None:
    """A file that takes no space on the disk takes none in memory, and one problem reports it."""
    fill(tmp_path, {"counter_7.db": counter("jobs", 3)})
    path = sparse(tmp_path / "counter_1.db", used, start)
    buffer = ReadBuffer()
    reading = SegmentReader(buffer).read(list_directory(str(tmp_path)).files)
    assert [(each.path, each.reason) for each in reading.problems] == [(str(path), reason)]
    assert reading.values == [3]
    assert len(buffer.data) <= 2 * MIB


BAD = {
    "long-key": [raw(b'["a","a",{},"' + b"x" * LARGEST_KEY + b'"]')],
    "deep-list": [raw(b"[" * 200_000)],
    "deep-object": [raw(b'{"a":' * 50_000)],
    "deep-label": [raw(b'["a","a",{"l":' + b"[" * 100_000 + b"]" * 100_000 + b'},""]')],
    "long-number": [raw(b'["a","a",{},' + b"7" * 100_000 + b"]")],
    "number-of-4300-digits": [raw(b'["a","a",{},' + b"7" * 4300 + b"]")],
    "infinite-number": [raw(b'["a","a",{"l":1e999},""]')],
    "no-number": [raw(b'["a","a",{"l":NaN},""]')],
    "no-utf-8": [raw(b'["a\xff","a",{},""]')],
    "utf-8-surrogate": [raw(b'["a\xed\xa0\x80","a",{},""]')],
    "null-byte": [raw(b'["a","a\0",{},""]')],
    "bad-behind-many": [*(counter("a", 1, {"n": str(n)}) for n in range(40_000)), raw(b"[1]")],
}


@pytest.mark.parametrize("entries", BAD.values(), ids=BAD)
def test_a_hostile_key_costs_its_file_only(tmp_path: Path, entries: list[Entry]) -> None:
    """Whatever is in a key, the file is one short problem, the same one at the next scrape."""
    fill(tmp_path, {"counter_1.db": entries, "counter_7.db": counter("jobs", 3)})
    view = DirectoryView(str(tmp_path))
    first, second = view.collect(), view.collect()
    assert len(first.problems) == 1
    assert len(str(first.problems[0])) < 300 + len(str(tmp_path))
    assert first.problems == second.problems
    assert first.render() == second.render()
    assert first.render().splitlines()[2:] == [b"jobs_total 3.0"]


def test_a_damaged_file_that_is_written_again_is_read_again(tmp_path: Path) -> None:
    """What is remembered of a damaged file ends when the file changes."""
    path = tmp_path / "counter_1.db"
    fill(tmp_path, {path.name: BAD["bad-behind-many"]})
    view = DirectoryView(str(tmp_path))
    assert [problem.reason for problem in view.collect().problems] == ["damaged"]
    path.unlink()
    fill(tmp_path, {path.name: [*BAD["bad-behind-many"][:-1], counter("b", 1)]})
    collection = view.collect()
    assert collection.problems == []
    assert b"b_total 1.0\n" in collection.render()


def test_odd_keys_that_are_legal(tmp_path: Path) -> None:
    """Many labels, lone surrogates, repeated keys and other spellings of JSON are read."""
    many = {f"label_{number}": "x" for number in range(5000)}
    spellings = [raw(b'["c",' + b" " * n + b'"c_total",{},""]') for n in range(1, 2001)]
    again = [counter("r", 1)] * 2000
    surrogates = [raw(b'["s","s_total",{"l":"\\ud800"},""]'), raw(b'["s","s_total",{"l":"x"},""]')]
    fill(tmp_path, {"counter_1.db": [counter("m", 1, many), *spellings, *again, *surrogates]})
    collection = mpmetrics.collect(tmp_path)
    page = collection.render().decode()
    assert collection.problems == []
    assert "c_total 2000.0\n" in page
    assert "r_total 2000.0\n" in page
    assert 's_total{l="�"} 1.0\n' in page
    assert page.count("label_") == 5000


def test_a_file_with_too_many_entries_is_too_large(tmp_path: Path) -> None:
    """A file may have so many entries and no more; an archive is not written with more either."""
    entry = encode([counter("a", 1)])[8:]
    for count, reasons in ((MOST_ENTRIES, []), (MOST_ENTRIES + 1, ["too_large"])):
        used = struct.pack("ii", 8 + count * len(entry), 0)
        fill(tmp_path, {"counter_1.db": used + entry * count})
        reading = SegmentReader().read(list_directory(str(tmp_path)).files)
        assert [problem.reason for problem in reading.problems] == reasons
    with pytest.raises(OverflowError, match="entries are more than a file can have"):
        encode_keys((b"key", 1.0, 0.0) for _ in range(MOST_ENTRIES + 1))


def test_a_large_file_is_read_in_pieces(tmp_path: Path) -> None:
    """A file of several megabytes has the same layout, however many pieces it is parsed in."""
    entries = [
        counter("a", n, {"n": str(n), "text": "x" * (n % 977) * (n % 7)}) for n in range(20_000)
    ]
    data = encode(entries)
    assert len(data) > 8 * MIB
    fill(tmp_path, {"counter_1.db": data})
    layout = Layout().extend(data, len(data), {})
    assert [json.loads(key[4:])[2]["n"] for key in layout.keys] == [str(n) for n in range(20_000)]
    reader = SegmentReader()
    reading = reader.read(list_directory(str(tmp_path)).files)
    assert reading.values == list(range(20_000))
    assert next(iter(reader.layouts.values())).offsets == layout.offsets


def test_the_memory_of_a_large_file_is_given_back(tmp_path: Path) -> None:
    """The buffer is as large as the files that are there, not as those that have been there."""
    fill(tmp_path, {"counter_1.db": [raw(b'["a","a",{},"' + b"x" * (MIB // 2) + b'"]')] * 20})
    buffer = ReadBuffer()
    reader = SegmentReader(buffer)
    reader.read(list_directory(str(tmp_path)).files)
    assert len(buffer.data) > 10 * MIB
    fill(tmp_path, {"counter_1.db": GOOD})
    reading = reader.read(list_directory(str(tmp_path)).files)
    assert len(buffer.data) < MIB
    assert reading.values == [1] * 100


class ShortBuffer(ReadBuffer):
    """A buffer of a process that has no memory for the file of worker 1."""

    def load(self, path: str, expected: int = 0) -> tuple[int, object]:  # type: ignore[override]  # only an identity is less than an object
        """Fail for that file."""
        if path.endswith("_1.db"):
            raise MemoryError
        return super().load(path, expected)


def test_a_lack_of_memory_costs_one_file(tmp_path: Path) -> None:
    """A file for which there is no memory is a problem, and the others are read."""
    fill(tmp_path, {"counter_1.db": GOOD, "counter_7.db": counter("jobs", 3)})
    reading = SegmentReader(ShortBuffer()).read(list_directory(str(tmp_path)).files)
    detail = "this process has not enough memory to read it"
    assert reading.problems == [Problem(str(tmp_path / "counter_1.db"), "unreadable", detail)]
    assert reading.values == [3]


# -- several names of one file ---------------------------------------------------------------------


def link(name: Path, target: Path, kind: str) -> None:
    """Make *name* another name of *target*."""
    if kind == "symbolic":
        name.symlink_to(target)
    else:
        name.hardlink_to(target)


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
@pytest.mark.parametrize(("real", "other"), [(1, 2), (2, 1)])
def test_a_file_with_two_names_counts_once(
    kind: str, real: int, other: int, tmp_path: Path
) -> None:
    """A file counts once, under its real name if the other is a link, and the other is reported."""
    fill(tmp_path, {f"counter_{real}.db": counter("jobs", 3), "counter_7.db": counter("jobs", 4)})
    link(tmp_path / f"counter_{other}.db", tmp_path / f"counter_{real}.db", kind)
    left_out = max(real, other) if kind == "hard" else other
    view = DirectoryView(str(tmp_path))
    for collection in (view.collect(), view.collect(), mpmetrics.collect(tmp_path)):
        assert b"jobs_total 7.0\n" in collection.render()
        (problem,) = collection.problems
        assert (problem.path, problem.reason) == (
            str(tmp_path / f"counter_{left_out}.db"),
            "linked",
        )
        assert len(collection.files) == 2
    files = [str(path) for path in tmp_path.glob("*.db")]
    (family,) = mpmetrics.MultiProcessCollector.merge(files)
    assert [sample.value for sample in family.samples] == [7]
    (shown,) = take_snapshot(tmp_path, by_process=True).families
    assert shown.processes.keys() == {str(min(1, 2) if kind == "hard" else real), "7"}


def test_a_gauge_is_that_of_the_process_with_the_real_name(tmp_path: Path) -> None:
    """The label pid is that of the real name, although the link comes first."""
    fill(tmp_path, {"gauge_all_2.db": gauge("load", 3)})
    (tmp_path / "gauge_all_1.db").symlink_to("gauge_all_2.db")
    page = mpmetrics.collect(tmp_path).render()
    assert page.splitlines()[2:] == [b'load{pid="2"} 3.0']


def test_a_link_to_another_directory_counts(tmp_path: Path) -> None:
    """A link whose file has no other name in the directory counts, once for two links."""
    elsewhere, directory = tmp_path / "elsewhere", tmp_path / "directory"
    elsewhere.mkdir()
    directory.mkdir()
    fill(elsewhere, {"counter_9.db": counter("jobs", 3)})
    for number in (1, 2):
        (directory / f"counter_{number}.db").symlink_to(elsewhere / "counter_9.db")
    collection = mpmetrics.collect(directory)
    assert b"jobs_total 3.0\n" in collection.render()
    assert [problem.path for problem in collection.problems] == [str(directory / "counter_2.db")]


def test_a_directory_may_be_a_link(tmp_path: Path) -> None:
    """A symbolic link to a directory is the directory."""
    directory = tmp_path / "directory"
    directory.mkdir()
    fill(directory, {"counter_1.db": counter("jobs", 3)})
    (tmp_path / "link").symlink_to(directory)
    collection = mpmetrics.collect(tmp_path / "link")
    assert b"jobs_total 3.0\n" in collection.render()
    assert collection.problems == []


class CountingScraper(Scraper):
    """A scraper that counts how often it reads."""

    readings = 0

    def read(self, listing: Listing, directory: str = "") -> Part:
        """Count, and read."""
        self.readings += 1
        return super().read(listing, directory)


def test_an_archive_that_is_lost_is_looked_for_twice(tmp_path: Path) -> None:
    """A MANIFEST that names an archive in vain costs a second reading, at no scrape more."""
    lost = FileName.parse("counter_mpmetrics-archive-3.db")
    assert lost is not None
    fill(tmp_path, {"counter_7.db": counter("jobs", 3)})
    (tmp_path / MANIFEST).write_bytes(Manifest(3, (lost.format(),)).format())
    scraper = CountingScraper()
    view = DirectoryView(str(tmp_path), scraper)
    for readings in (2, 4):
        collection = view.collect()
        assert b"jobs_total 3.0\n" in collection.render()
        assert [problem.reason for problem in collection.problems] == ["vanished"]
        assert scraper.readings == readings


def test_a_hole_behind_many_entries_is_found_before_the_rest_is_read(tmp_path: Path) -> None:
    """A hole costs the memory of what is before it, and a step more, also in a smaller file."""
    start = encode([counter("a", 1, {"n": str(n)}) for n in range(20_000)])[8:]
    path = sparse(tmp_path / "counter_1.db", 12 * MIB, start)
    buffer = ReadBuffer()
    with pytest.raises(DamagedError):
        buffer.load(str(path))
    assert len(buffer.data) <= 4 * MIB
