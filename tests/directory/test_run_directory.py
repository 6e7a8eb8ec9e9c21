"""The run directory: making, taking, releasing and sweeping it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from mpmetrics.directory import liveness, prove_leases
from mpmetrics.directory.run_directory import (
    RunDirectory,
    make_private_directory,
    make_run_directory,
    sweep_below,
    take_run_directory,
)
from mpmetrics.errors import RunDirectoryError
from tests.cli.directories import fill
from tests.database import Entry, counter

IS_ROOT = hasattr(os, "getuid") and os.getuid() == 0  # Windows has no such function

PREFIX = "test-run-"

pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="runs need POSIX")

needs_leases = pytest.mark.skipif(
    not liveness.HAS_LEASES, reason="this system has no file leases (Linux has them)"
)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Return a directory in which dead workers are told from live ones."""
    if not prove_leases(str(tmp_path)):
        pytest.skip("the file system of the temporary directory does not tell open from closed")
    return tmp_path


def make(base: Path, *, keep: bool = False) -> tuple[RunDirectory, Path]:
    """Make a run directory with a worker's file in it; return it and that file."""
    made = make_run_directory(str(base), PREFIX, keep=keep)
    fill(Path(made.path), {"counter_7.db": counter("jobs", 1)})
    return made, Path(made.path, "counter_7.db")


def test_a_directory_that_was_made_is_private_and_ours(tmp_path: Path) -> None:
    """A new run directory has the prefix, is locked, and is for its user alone."""
    made = make_run_directory(str(tmp_path), PREFIX)
    path = Path(made.path)
    assert (path.parent, path.name.startswith(PREFIX), made.is_private) == (tmp_path, True, True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert made.lock.is_locked
    with pytest.raises(RunDirectoryError, match="another mpmetrics run uses it"):
        take_run_directory(made.path)
    assert made.release(keep=False) is False
    assert not path.exists()


def test_a_private_directory_is_removed_when_it_is_released() -> None:
    """A directory of `mpmetrics run` is made where there is room, and removed with its lock."""
    made = make_private_directory()
    assert Path(made.path).name.startswith("mpmetrics-run-")
    assert made.release(keep=False) is False
    assert not Path(made.path).exists()


def test_a_base_that_does_not_exist(tmp_path: Path) -> None:
    """Making a directory below a missing one raises the error of run directories."""
    with pytest.raises(RunDirectoryError, match="No such file"):
        make_run_directory(str(tmp_path / "missing"), PREFIX)


@needs_leases
def test_a_directory_stays_while_a_worker_uses_it(base: Path) -> None:
    """A released directory stays while a file in it is open, except for files of one id."""
    made, file = make(base)
    with file.open("rb"):
        assert made.count_files_in_use() == 1
        assert made.count_files_in_use(besides="7") == 0
        assert made.release(keep=False) is True
        assert file.exists()
    again = take_run_directory(made.path)
    assert again.release(keep=False) is True  # it was not made by this taker
    assert [*sweep_below(str(base), PREFIX)] == [made.path]


@needs_leases
def test_a_directory_is_removed_although_its_own_worker_uses_it(base: Path) -> None:
    """A released directory is removed if the only open files have the id that is excepted."""
    made, file = make(base)
    with file.open("rb"):
        assert made.release(keep=False, besides="7") is False
    assert not file.exists()


@needs_leases
def test_only_unused_directories_are_swept(base: Path) -> None:
    """Sweeping removes a directory that is unlocked, unused and not to be kept; no other."""
    locked, _ = make(base)
    kept, _ = make(base, keep=True)
    kept.release(keep=True)
    left, _ = make(base)
    left.release(keep=True)
    (base / f"{PREFIX}foreign").mkdir(mode=0o700)  # it has no lock file
    assert [*sweep_below(str(base), PREFIX)] == [left.path]
    assert {path.name for path in base.iterdir()} == {
        *(Path(locked.path).name, Path(kept.path).name, f"{PREFIX}foreign"),
    }
    locked.release(keep=False)


def test_a_missing_base_has_nothing_to_sweep(tmp_path: Path) -> None:
    """Sweeping below a directory that does not exist removes nothing and raises nothing."""
    assert [*sweep_below(str(tmp_path / "missing"), PREFIX)] == []


def test_a_directory_is_made_when_it_is_taken(tmp_path: Path) -> None:
    """A directory that is taken is made if it is missing, and stays when it is released."""
    taken = take_run_directory(str(tmp_path / "a" / "b"))
    assert (taken.path, taken.is_private) == (str(tmp_path / "a" / "b"), False)
    assert taken.release(keep=False) is True
    assert Path(taken.path).is_dir()


def test_a_file_cannot_be_taken(tmp_path: Path) -> None:
    """A path that is not a directory raises the error of run directories."""
    (tmp_path / "file").touch()
    with pytest.raises(RunDirectoryError, match="File exists"):
        take_run_directory(str(tmp_path / "file"))


@needs_leases
def test_a_fresh_directory_has_no_metrics(base: Path) -> None:
    """A directory that is taken fresh loses files, archives, MANIFEST and quarantine only."""
    metrics: dict[str, Entry | bytes] = {
        "counter_7.db": counter("jobs", 1),
        "counter_mpmetrics-archive-1.db": counter("jobs", 1),
        "counter_9.db.quarantined": b"",
        "MANIFEST": b"{",
    }
    fill(base, {**metrics, "README": b""})
    taken = take_run_directory(str(base), fresh=True)
    left = {path.name for path in base.iterdir()}
    assert left == {"README", Path(taken.lock.lock_file).name}
    taken.release(keep=True)


@needs_leases
def test_a_directory_in_use_is_not_emptied(base: Path) -> None:
    """A fresh start is refused while a worker has a file open; nothing is removed or locked."""
    fill(base, {"counter_7.db": counter("jobs", 1), "counter_8.db": counter("jobs", 1)})
    with (base / "counter_7.db").open("rb"), pytest.raises(RunDirectoryError, match="1 file may"):
        take_run_directory(str(base), fresh=True)
    assert {path.name for path in base.glob("*.db")} == {"counter_7.db", "counter_8.db"}
    take_run_directory(str(base)).release(keep=True)


@pytest.mark.skipif(not IS_ROOT, reason="needs root to give a directory to another user")
def test_directories_of_another_user_are_not_swept(tmp_path: Path) -> None:
    """Sweeping leaves another user's directory alone, and what only links to a directory."""
    made = make_run_directory(str(tmp_path), PREFIX)
    made.release(keep=True)
    os.chown(made.path, 65534, 65534)
    (tmp_path / f"{PREFIX}link").symlink_to(made.path)
    assert [*sweep_below(str(tmp_path), PREFIX)] == []
    assert Path(made.path).is_dir()
