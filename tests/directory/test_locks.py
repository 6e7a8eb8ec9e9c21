"""The locks on a directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mpmetrics.directory.locks import make_compaction_lock, make_lock
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
