"""File names, listings, and the reading of bytes."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from mpmetrics.directory.buffer import ReadBuffer
from mpmetrics.directory.files import FileName, list_directory
from mpmetrics.errors import DamagedError, NotAMetricsFileError
from tests.database import counter, encode, write

NAMES = {
    "counter_1.db": FileName("counter", "", "1"),
    "summary_1.db": FileName("summary", "", "1"),
    "histogram_worker_2.db": FileName("histogram", "", "worker_2"),
    "gauge_all_1.db": FileName("gauge", "all", "1"),
    "gauge_livemostrecent_rust-17.db": FileName("gauge", "livemostrecent", "rust-17"),
    "counter_a.db.db": FileName("counter", "", "a.db"),
    "counter__.db": FileName("counter", "", "_"),
}


@pytest.mark.parametrize("text", NAMES)
def test_a_name_says_type_mode_and_id(text: str) -> None:
    """Everything behind the type and mode is the id; formatting gives the name again."""
    name = FileName.parse(text)
    assert name == NAMES[text]
    assert name is not None
    assert name.format() == text


@pytest.mark.parametrize(
    "text",
    [
        *("backup.db", "counter_.db", "counter.db", "gauge_1.db", "gauge_most_1.db"),
        *(
            "gauge_all.db",
            "info_1.db",
            "counter_1.db-journal",
            "counter_1.db.bak",
            "MANIFEST",
            "Counter_1.db",
        ),
    ],
)
def test_other_names_are_nobodys(text: str) -> None:
    """No writer names a file so."""
    assert FileName.parse(text) is None


def test_only_live_modes_are_live() -> None:
    """The values of live gauges end with their process."""
    live = {text for text, name in NAMES.items() if name.is_live}
    assert live == {"gauge_livemostrecent_rust-17.db"}


def test_a_listing_is_sorted_and_says_what_is_strange(tmp_path: Path) -> None:
    """Strangers become problems, in the order of their names."""
    for name in ("counter_2.db", "counter_10.db", "gauge_all_1.db", "backup.db"):
        write(tmp_path / name, [])
    (tmp_path / "x.db").mkdir()
    (tmp_path / "counter_3.db").mkdir()
    os.mkfifo(tmp_path / "counter_4.db")
    (tmp_path / "counter_5.db").symlink_to(tmp_path / "counter_2.db")
    (tmp_path / "counter_6.db").symlink_to(tmp_path / "nowhere")
    listing = list_directory(str(tmp_path))
    assert [Path(file.path).name for file in listing.files] == [
        *("counter_10.db", "counter_2.db", "counter_5.db", "gauge_all_1.db"),
    ]
    assert [(Path(path).name, reason) for path, reason, _ in listing.problems] == [
        *(("backup.db", "stranger"), ("counter_3.db", "stranger"), ("counter_4.db", "stranger")),
        *(("counter_6.db", "stranger"), ("x.db", "stranger")),
    ]


def test_the_used_bytes_are_read_whatever_was_expected(tmp_path: Path) -> None:
    """The size at the last reading is a hint, no more."""
    entries = [counter(f"c{number}", number) for number in range(2_000)]
    path = write(tmp_path / "counter_1.db", entries)
    expected = encode(entries)
    for hint in (0, 8, 100, len(expected), len(expected) * 3):
        buffer = ReadBuffer()
        used, _ = buffer.load(str(path), hint)
        assert used == len(expected)
        assert buffer.data[:used] == expected


def test_an_empty_file_has_no_entries(tmp_path: Path) -> None:
    """A worker was killed between creating its file and preallocating it."""
    path = tmp_path / "counter_1.db"
    path.touch()
    assert ReadBuffer().load(str(path))[0] == 8


@pytest.mark.parametrize("size", [4, 8, 16, 70_000])
def test_a_file_that_ends_before_its_used_bytes_is_damaged(tmp_path: Path, size: int) -> None:
    """The rest is lost, and with it the file."""
    path = tmp_path / "counter_1.db"
    path.write_bytes(struct.pack("ii", 1 << 20, 0).ljust(size, b"\0")[:size])
    with pytest.raises(DamagedError, match="1048576 bytes are used"):
        ReadBuffer().load(str(path))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """It is no regular file, and that is said at once."""
    path = tmp_path / "counter_1.db"
    os.mkfifo(path)
    with pytest.raises(NotAMetricsFileError) as caught:
        ReadBuffer().load(str(path))
    assert caught.value.filename == str(path)


def test_the_identity_changes_when_a_file_is_written_to(tmp_path: Path) -> None:
    """Replacing, truncating and writing all show; reading does not."""
    path = write(tmp_path / "counter_1.db", [counter("a", 1)])
    buffer = ReadBuffer()
    _, before = buffer.load(str(path))
    assert buffer.load(str(path))[1] == before
    os.utime(path, ns=(1, 1))
    assert buffer.load(str(path))[1] != before
