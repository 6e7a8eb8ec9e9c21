"""The reading of a worker's file into a buffer."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import pytest

from mpmetrics.directory.buffer import ReadBuffer
from mpmetrics.errors import DamagedError, NotAMetricsFileError
from tests.database import counter, encode, write

if TYPE_CHECKING:
    from pathlib import Path


def test_the_used_bytes_are_read_whatever_was_expected(tmp_path: Path) -> None:
    """The expected number of bytes is a hint: all used bytes are read whatever it is."""
    entries = [counter(f"c{number}", number) for number in range(2_000)]
    path = write(tmp_path / "counter_1.db", entries)
    expected = encode(entries)
    for hint in (0, 8, 100, len(expected), len(expected) * 3):
        buffer = ReadBuffer()
        used, _ = buffer.load(str(path), hint)
        assert used == len(expected)
        assert buffer.data[:used] == expected


def test_an_empty_file_has_no_entries(tmp_path: Path) -> None:
    """A file of a worker that was killed before it preallocated it has no entries."""
    path = tmp_path / "counter_1.db"
    path.touch()
    assert ReadBuffer().load(str(path))[0] == 8


@pytest.mark.parametrize("size", [4, 8, 16, 70_000])
def test_a_file_that_ends_before_its_used_bytes_is_damaged(tmp_path: Path, size: int) -> None:
    """A file that is shorter than its used bytes is damaged, whatever is left of it."""
    path = tmp_path / "counter_1.db"
    path.write_bytes(struct.pack("ii", 1 << 20, 0).ljust(size, b"\0")[:size])
    with pytest.raises(DamagedError, match="1048576 bytes are used"):
        ReadBuffer().load(str(path))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """A named pipe is refused at once, as every file that is not regular."""
    path = tmp_path / "counter_1.db"
    os.mkfifo(path)
    with pytest.raises(NotAMetricsFileError) as caught:
        ReadBuffer().load(str(path))
    assert caught.value.filename == str(path)


def test_the_identity_changes_when_a_file_is_written_to(tmp_path: Path) -> None:
    """A change of the change time makes another identity; reading the file does not."""
    path = write(tmp_path / "counter_1.db", [counter("a", 1)])
    buffer = ReadBuffer()
    _, before = buffer.load(str(path))
    assert buffer.load(str(path))[1] == before
    os.utime(path, ns=(1, 1))
    assert buffer.load(str(path))[1] != before
