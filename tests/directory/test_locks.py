"""The locks on a directory."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest
from filelock import UnixFileLock

from mpmetrics import CompactionError, compact
from mpmetrics.directory.locks import make_compaction_lock, make_lock, try_lock
from mpmetrics.errors import NotAMetricsFileError
from tests.workers import environment, run_python

if TYPE_CHECKING:
    from pathlib import Path


def test_a_lock_is_for_one_holder(tmp_path: Path) -> None:
    """A second lock on the same file is refused until the first one is released."""
    first, second = make_lock(str(tmp_path / "lock")), make_lock(str(tmp_path / "lock"))
    with first, pytest.raises(TimeoutError):
        second.acquire(timeout=0)
    with second:
        assert second.is_locked


def test_the_lock_file_of_compaction_is_not_a_stranger(tmp_path: Path) -> None:
    """The lock of compaction is a file of mpmetrics' own, which stays."""
    with make_compaction_lock(str(tmp_path)):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".mpmetrics-compaction.lock"]


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs symbolic links")
def test_a_lock_does_not_truncate_what_a_link_leads_to(tmp_path: Path) -> None:
    """A lock whose name is a symbolic link is refused; the file behind the link keeps its bytes."""
    precious = tmp_path / "precious"
    precious.write_text("bytes")
    (tmp_path / ".mpmetrics-compaction.lock").symlink_to(precious)
    with pytest.raises(NotAMetricsFileError):
        make_compaction_lock(str(tmp_path))
    with pytest.raises(CompactionError, match="not a regular file"):
        compact(tmp_path)
    assert precious.read_text() == "bytes"


def test_a_lock_does_not_make_its_directory(tmp_path: Path) -> None:
    """There is no lock for a directory that is missing, and the directory stays missing."""
    with pytest.raises(FileNotFoundError):
        make_compaction_lock(str(tmp_path / "missing"))
    assert not (tmp_path / "missing").exists()


def test_readers_do_not_load_locks(tmp_path: Path) -> None:
    """Neither importing the packages of a reader nor a scrape loads filelock."""
    program = """
import sys
import mpmetrics.directory, mpmetrics.scrape
mpmetrics.collect(sys.argv[1])
print("filelock" in sys.modules)
"""
    assert run_python(program, str(tmp_path), env=environment(None)) == "False\n"


def test_a_lock_is_taken_or_not(tmp_path: Path) -> None:
    """A lock that another holder has is not taken; a server that does not answer is an error."""
    first, second = make_lock(str(tmp_path / "lock")), make_lock(str(tmp_path / "lock"))
    assert try_lock(first)
    assert not try_lock(second)
    first.release()
    assert try_lock(second)
    second.release()
    late = TimedOutLock(str(tmp_path / "late"))
    with pytest.raises(OSError, match="timed out"):
        try_lock(late)


class TimedOutLock(UnixFileLock):
    """A lock on a file server that does not answer."""

    def _acquire(self) -> None:
        raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
