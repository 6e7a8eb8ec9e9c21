"""The space that is kept for compaction."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from mpmetrics.directory import atomic
from mpmetrics.directory.files import list_directory
from mpmetrics.directory.reserve import refill_reserve, release_reserve
from mpmetrics.system.mounts import Space

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    not hasattr(os, "posix_fallocate"), reason="this system cannot allocate space"
)

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def test_the_reserve_takes_space_and_gives_it_back(tmp_path: Path) -> None:
    """The reserve takes space and inodes, is no metrics file, and is given back as a whole."""
    directory = str(tmp_path)
    assert release_reserve(directory) is False
    kept = refill_reserve(directory, lambda _: Space(GIB, GIB, 1000, 900))
    assert kept == 64 * KIB
    files = sorted(tmp_path.iterdir())
    assert len(files) == 8
    assert files[0].stat().st_blocks * 512 >= kept
    listing = list_directory(directory)
    assert (listing.files, listing.problems) == ([], [])
    assert refill_reserve(directory, lambda _: Space(GIB, 0, 1000, 0)) >= kept
    assert release_reserve(directory) is True
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("archived", "space", "expected"),
    [
        pytest.param(MIB, Space(GIB, GIB), 2 * MIB, id="twice-the-archives"),
        pytest.param(0, Space(MIB, MIB), 64 * KIB, id="a-sixteenth"),
        pytest.param(0, Space(256 * KIB, 256 * KIB), 16 * KIB, id="tiny"),
        pytest.param(40 * KIB, Space(MIB, 60 * KIB), 56 * KIB, id="little-is-left"),
        pytest.param(40 * KIB, Space(MIB, 50 * KIB), 0, id="too-little-is-left"),
        pytest.param(0, Space(MIB, 0), 0, id="full"),
        pytest.param(0, None, 0, id="unknown"),
    ],
)
def test_the_size_of_the_reserve(
    tmp_path: Path, archived: int, space: Space | None, expected: int
) -> None:
    """The reserve is as large as the next archives may be, and leaves half to the workers."""
    with (tmp_path / "counter_mpmetrics-archive-1.db").open("wb") as file:
        file.truncate(archived)
    try:
        assert refill_reserve(str(tmp_path), lambda _: space) == expected
    finally:
        release_reserve(str(tmp_path))


def test_other_things_with_such_names_stay(tmp_path: Path) -> None:
    """A link or a pipe with the name of a reserve file is neither written to nor removed."""
    target = tmp_path / "target"
    target.write_bytes(b"x")
    (tmp_path / ".mpmetrics-reserve-0").symlink_to(target)
    os.mkfifo(tmp_path / ".mpmetrics-reserve-1")
    assert refill_reserve(str(tmp_path), lambda _: Space(GIB, GIB)) == 0
    assert release_reserve(str(tmp_path)) is False
    assert target.read_bytes() == b"x"


def test_a_write_without_space_takes_the_reserve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new file that finds no space is written after the reserve has been released, only then."""
    write = os.write

    def write_if_there_is_room(descriptor: int, data: bytes) -> int:
        if (tmp_path / ".mpmetrics-reserve-0").exists() or full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    full = False
    monkeypatch.setattr(os, "write", write_if_there_is_room)
    refill_reserve(str(tmp_path), lambda _: Space(GIB, GIB))
    atomic.write_new_file(str(tmp_path / "new"), b"data")
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("new", b"data")]
    full = True
    with pytest.raises(OSError, match="No space"):
        atomic.write_new_file(str(tmp_path / "other"), b"data")
    assert [each.name for each in tmp_path.iterdir()] == ["new"]
