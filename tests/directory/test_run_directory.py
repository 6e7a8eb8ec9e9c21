"""The run directory: making, taking, releasing and sweeping it."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mpmetrics.directory import OPENING, liveness, prove_leases
from mpmetrics.directory.locks import lock_descriptor
from mpmetrics.directory.run_directory import (
    RunDirectory,
    make_private_directory,
    make_run_directory,
    sweep_below,
    take_run_directory,
)
from mpmetrics.directory.run_home import MARK, RunHome
from mpmetrics.errors import RunDirectoryError
from tests.cli.directories import fill
from tests.database import Entry, counter
from tests.servers import eventually
from tests.workers import spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

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


def make_with(path: Path, files: Mapping[str, Entry | bytes]) -> None:
    """Make a directory with *files*, as a user has."""
    path.mkdir(mode=0o700)
    fill(path, files)


def leave(base: Path, *, keep: bool = False) -> RunHome:
    """Make a home as a run that is killed leaves it."""
    home = RunHome.make(str(base), PREFIX, keep=keep)
    home.close()
    return home


def wait_for_sweep(base: Path, expected: Collection[str]) -> None:
    """Sweep until the homes *expected* are gone, and check that no other one is.

    It polls: a process of another test may look like a user of a home for a moment.
    """
    removed: set[str] = set()

    def is_done() -> bool:
        removed.update(sweep_below(str(base), PREFIX))
        return removed >= {*expected}

    eventually(is_done, "the end of unused homes")
    assert removed == {*expected}


def start(program: str, *arguments: str, **options: Any) -> subprocess.Popen[Any]:
    """Start a Python *program*; return it when it has printed a line."""
    process = spawn([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, **options)
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


IDLE = "import signal; print(flush=True); signal.pause()"


def test_a_directory_that_was_made_is_private_and_ours(tmp_path: Path) -> None:
    """A new run directory lies in a home with the prefix, is locked, and is for its user alone."""
    made = make_run_directory(str(tmp_path), PREFIX)
    path = Path(made.path)
    home = path.parent
    assert (home.parent, home.name.startswith(PREFIX), made.is_private) == (tmp_path, True, True)
    assert [stat.S_IMODE(each.stat().st_mode) for each in (home, path)] == [0o700, 0o700]
    for place in path, home:
        with pytest.raises(RunDirectoryError, match="another mpmetrics run uses it"):
            take_run_directory(str(place))
    assert made.release(keep=False) == ""
    assert [*tmp_path.iterdir()] == []


def test_a_private_directory_is_removed_when_it_is_released() -> None:
    """A directory of `mpmetrics run` is made where there is room, and removed with its lock."""
    made = make_private_directory()
    home = Path(made.path).parent
    assert home.name.startswith("mpmetrics-run-")
    assert made.release(keep=False) == ""
    assert not home.exists()


def test_a_base_that_does_not_exist(tmp_path: Path) -> None:
    """Making a directory below a missing one raises the error of run directories."""
    with pytest.raises(RunDirectoryError, match="No such file"):
        make_run_directory(str(tmp_path / "missing"), PREFIX)


@needs_leases
def test_a_directory_stays_while_a_worker_uses_it(base: Path) -> None:
    """A released directory stays while a file in it is open, except for files of one id.

    Once it has been taken by its path, it is the user's, and is not swept any more.
    """
    made, file = make(base)
    with file.open("rb"):
        assert made.count_files_in_use() == 1
        assert made.count_files_in_use(besides="7") == 0
        assert made.release(keep=False) == "because a process still has files in it open"
        assert sweep_below(str(base), PREFIX) == []
    again = take_run_directory(made.path)
    assert again.release(keep=False) == "because you have chosen it"
    assert sweep_below(str(base), PREFIX) == []
    assert file.exists()


@needs_leases
def test_a_directory_is_removed_although_its_own_worker_uses_it(base: Path) -> None:
    """A released directory is removed if the only open files have the id that is excepted."""
    made, file = make(base)
    with file.open("rb"):
        assert made.release(keep=False, besides="7") == ""
    assert not file.exists()


@needs_leases
def test_only_unused_directories_are_swept(base: Path) -> None:
    """Sweeping removes a home that is unlocked, unused and not to be kept; no other."""
    locked, _ = make(base)
    kept, _ = make(base, keep=True)
    kept.close()
    left, _ = make(base)
    left.close()
    wait_for_sweep(base, [str(Path(left.path).parent)])
    assert {*base.iterdir()} == {Path(locked.path).parent, Path(kept.path).parent}
    locked.release(keep=False)


FOREIGN: Mapping[str, Callable[[Path, RunHome], object]] = {
    "empty": lambda base, _: (base / f"{PREFIX}notes").mkdir(),
    "with notes": lambda base, _: make_with(base / f"{PREFIX}notes", {"README": b"mine"}),
    "with metrics": lambda base, _: make_with(
        base / f"{PREFIX}old", {"counter_7.db": counter("jobs", 1), ".mpmetrics-run.lock": b""}
    ),
    "a file": lambda base, _: (base / f"{PREFIX}file").touch(),
    "a link": lambda base, home: (base / f"{PREFIX}link").symlink_to(home.path),
    "a copied mark": lambda base, home: shutil.copytree(home.path, base / f"{PREFIX}copy"),
    "a mark of others": lambda base, _: make_with(base / f"{PREFIX}other", {MARK: b"{}"}),
    "an empty mark": lambda base, _: make_with(base / f"{PREFIX}other", {MARK: b""}),
}
"""What a user may call like a home."""


@needs_leases
@pytest.mark.parametrize("make_foreign", FOREIGN.values(), ids=FOREIGN)
def test_what_only_has_such_a_name_is_not_swept(
    base: Path, make_foreign: Callable[[Path, RunHome], object]
) -> None:
    """Sweeping leaves alone whatever no run has marked, even if its name has the prefix."""
    home = leave(base)
    make_foreign(base, home)
    wait_for_sweep(base, [home.path])
    assert [path.name.startswith(PREFIX) for path in base.iterdir()] == [True]


def replace_by_link(metrics: Path) -> None:
    """Replace a directory by a link to another one."""
    metrics.rmdir()
    metrics.symlink_to(metrics.parent)


STRANGE: Mapping[str, Callable[[Path], object]] = {
    "a file": lambda metrics: fill(metrics, {"notes.txt": b"mine"}),
    "a file beside": lambda metrics: fill(metrics.parent, {"notes.txt": b"mine"}),
    "a directory": lambda metrics: (metrics / "counter_7.db").mkdir(),
    "a file in our directory": lambda metrics: make_with(metrics / OPENING, {"notes.txt": b"mine"}),
    "a link in the place of our directory": lambda metrics: (metrics / OPENING).symlink_to("/"),
    "a link": lambda metrics: (metrics / "counter_7.db").symlink_to(__file__),
    "a link in its place": replace_by_link,
    "another directory": lambda metrics: metrics.rename(metrics.with_name("old")),
}
"""What a server may do to the directory that it was given."""


@needs_leases
def test_what_a_killed_compactor_has_left_is_removed(base: Path) -> None:
    """A directory that a compactor needs, with the name of a file in it, goes with the others."""
    made = make_run_directory(str(base), PREFIX)
    inner = Path(made.path, OPENING, "3-0", "d0")
    inner.mkdir(parents=True)
    fill(inner, {"counter_7.db": counter("jobs", 1)})
    assert made.release(keep=False) == ""
    assert list(base.iterdir()) == []


@needs_leases
@pytest.mark.parametrize("do", STRANGE.values(), ids=STRANGE)
def test_what_a_server_has_left_there_is_not_removed(
    base: Path, do: Callable[[Path], object]
) -> None:
    """A home with anything else than metrics stays as it is, at the end of the run and later."""
    made = make_run_directory(str(base), PREFIX)
    do(Path(made.path))
    before = sorted(base.rglob("*"))
    assert "an entry that is not of mpmetrics" in made.release(keep=False)
    assert sweep_below(str(base), PREFIX) == []
    assert sorted(base.rglob("*")) == before


@needs_leases
@pytest.mark.parametrize("how", ["environment", "argument", "place"])
def test_a_directory_that_a_process_was_started_with_is_not_removed(base: Path, how: str) -> None:
    """A home stays while a living process was started with its path, though it has no file open.

    So it is after the server has wiped the directory, and no matter how the run has ended.
    """
    made = make_run_directory(str(base), PREFIX)
    path = Path(made.path)
    arguments = [made.path] if how == "argument" else []
    options: dict[str, dict[str, Any]] = {
        "environment": {"env": {**os.environ, "PROMETHEUS_MULTIPROC_DIR": made.path}},
        "argument": {},
        "place": {"cwd": made.path},
    }
    with start(IDLE, *arguments, **options[how]) as process:
        if how != "place":
            shutil.rmtree(path)
            path.mkdir()
        why = made.release(keep=False)
        assert why == "because a process that still runs may have been started with it"
        assert sweep_below(str(base), PREFIX) == []
        assert path.is_dir()
        process.kill()
    wait_for_sweep(base, [str(path.parent)])


WIPE = """
import os, shutil, sys
from mpmetrics.directory.run_directory import make_run_directory
made = make_run_directory(sys.argv[1], sys.argv[2])
shutil.rmtree(made.path)
os.mkdir(made.path)
print(made.path, flush=True)
sys.stdin.read()
"""


@needs_leases
def test_the_directory_of_a_living_run_is_not_swept_after_a_wipe(base: Path) -> None:
    """Another run leaves a directory alone that its server has removed and made once more."""
    with start(WIPE, str(base), PREFIX, stdin=subprocess.PIPE) as process:
        assert sweep_below(str(base), PREFIX) == []
        assert {path.name for path in base.glob("*/*")} == {MARK, "metrics"}
        process.kill()
    wait_for_sweep(base, [str(path) for path in base.iterdir()])


@needs_leases
def test_a_directory_from_another_container_loses_dead_files_only(base: Path) -> None:
    """From another pid namespace, users without an open file cannot be seen: directories stay."""
    home = leave(base)
    fill(Path(home.metrics), {"counter_7.db": counter("jobs", 1)})
    mark = Path(home.path, MARK)
    mark.write_bytes(home.mark._replace(pid_namespace=1).format())
    assert sweep_below(str(base), PREFIX) == []
    assert [*Path(home.path).rglob("*.db")] == []
    assert Path(home.metrics).is_dir()


@needs_leases
def test_two_that_sweep_do_not_disturb_each_other(base: Path) -> None:
    """What another process is removing right now is left to that process."""
    home = RunHome.take(leave(base).path)
    assert home is not None
    assert sweep_below(str(base), PREFIX) == []
    home.close()
    wait_for_sweep(base, [home.path])


@needs_leases
def test_a_directory_that_others_may_write_to_is_not_swept(base: Path) -> None:
    """A home stays if other users may have put anything into it."""
    home = leave(base)
    Path(home.path).chmod(0o777)
    assert sweep_below(str(base), PREFIX) == []


@needs_leases
def test_many_directories_are_swept(base: Path) -> None:
    """Sweeping has a bounded number of directories open at once, and removes all of them."""
    homes = {leave(base).path for _ in range(150)}
    wait_for_sweep(base, homes)


def test_a_missing_base_has_nothing_to_sweep(tmp_path: Path) -> None:
    """Sweeping below a directory that does not exist removes nothing and raises nothing."""
    assert sweep_below(str(tmp_path / "missing"), PREFIX) == []


def test_a_directory_is_made_when_it_is_taken(tmp_path: Path) -> None:
    """A directory that is taken is made if it is missing, and stays when it is released."""
    taken = take_run_directory(str(tmp_path / "a" / "b"))
    assert (taken.path, taken.is_private) == (str(tmp_path / "a" / "b"), False)
    assert taken.release(keep=False) == "because you have chosen it"
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
    assert {path.name for path in base.iterdir()} == {"README"}
    taken.close()


@needs_leases
def test_a_directory_in_use_is_not_emptied(base: Path) -> None:
    """A fresh start is refused while a worker has a file open; nothing is removed or locked."""
    fill(base, {"counter_7.db": counter("jobs", 1), "counter_8.db": counter("jobs", 1)})
    with (base / "counter_7.db").open("rb"), pytest.raises(RunDirectoryError, match="1 file may"):
        take_run_directory(str(base), fresh=True)
    assert {path.name for path in base.glob("*.db")} == {"counter_7.db", "counter_8.db"}
    take_run_directory(str(base)).close()


@pytest.mark.skipif(not IS_ROOT, reason="needs root to give a directory to another user")
def test_directories_of_another_user_are_not_swept(base: Path) -> None:
    """Sweeping leaves alone what another user has marked."""
    home = leave(base)
    for path in Path(home.path), Path(home.path, MARK):
        os.chown(path, 65534, 65534)
    assert sweep_below(str(base), PREFIX) == []


NAMES: Mapping[str, Callable[[Path], str]] = {
    "as it is": str,
    "with dots": lambda path: str(path / ".." / path.name),
    "by a link": lambda path: str(link(path)),
}


def link(path: Path) -> Path:
    """Return a symbolic link to *path*, beside it."""
    if not (path.parent / "link").is_symlink():
        (path.parent / "link").symlink_to(path)
    return path.parent / "link"


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("is_wiped", [False, True], ids=["untouched", "wiped"])
def test_a_directory_has_one_run_by_all_of_its_names(
    tmp_path: Path, name: Callable[[Path], str], *, is_wiped: bool
) -> None:
    """Two runs do not share a directory, whatever they call it, also after the server wiped it."""
    given = tmp_path / "given"
    taken = take_run_directory(str(given))
    if is_wiped:
        shutil.rmtree(given)
        given.mkdir()
    with pytest.raises(RunDirectoryError, match="another mpmetrics run uses it"):
        take_run_directory(name(given))
    taken.close()
    again = take_run_directory(name(given))
    again.close()
    assert {path.name for path in tmp_path.iterdir()} <= {"given", "link"}


def test_a_directory_that_was_replaced_is_locked_again(tmp_path: Path) -> None:
    """A run notices once that another directory has the name, and locks that one by itself."""
    given = tmp_path / "given"
    taken = take_run_directory(str(given))
    assert not taken.has_been_replaced()
    given.rename(tmp_path / "old")
    assert not taken.has_been_replaced()  # there is none at all
    given.mkdir()
    assert [taken.has_been_replaced(), taken.has_been_replaced()] == [True, False]
    given.rename(tmp_path / "moved")
    with pytest.raises(RunDirectoryError, match="another mpmetrics run uses it"):
        take_run_directory(str(tmp_path / "moved"))
    taken.close()


@pytest.mark.skipif(IS_ROOT, reason="root may write everywhere")
def test_a_lock_beside_is_not_needed(tmp_path: Path) -> None:
    """Where nothing can be made beside the directory, it is locked all the same."""
    given = tmp_path / "given"
    given.mkdir()
    tmp_path.chmod(0o500)
    try:
        taken = take_run_directory(str(given))
        with pytest.raises(RunDirectoryError, match="another mpmetrics run uses it"):
            take_run_directory(str(given))
        taken.close()
    finally:
        tmp_path.chmod(0o700)


def test_another_users_lock_beside_counts_for_nothing(tmp_path: Path) -> None:
    """What another user has put beside the directory, as in `/tmp`, hinders no run."""
    given = tmp_path / "given"
    (tmp_path / ".mpmetrics-given.run.lock").mkdir()
    taken = take_run_directory(str(given))
    with pytest.raises(RunDirectoryError, match="another mpmetrics run uses it"):
        take_run_directory(str(given))
    taken.close()


def test_a_users_file_with_the_name_of_the_lock_beside_stays(tmp_path: Path) -> None:
    """A file that no run has made is neither locked nor removed, whenever it came there."""
    given, beside = tmp_path / "given", tmp_path / ".mpmetrics-given.run.lock"
    beside.write_text("mine")
    for _ in range(2):
        taken = take_run_directory(str(given))
        with beside.open() as file:
            assert lock_descriptor(file.fileno())
        taken.close()
        assert beside.read_text() == "mine"
    beside.unlink()
    taken = take_run_directory(str(given))
    beside.unlink()
    beside.touch()
    taken.close()
    assert beside.exists()
    beside.unlink()
    taken = take_run_directory(str(given))
    beside.write_text("mine")
    taken.close()
    assert beside.read_text() == "mine"
    beside.unlink()
    take_run_directory(str(given)).close()
    assert not beside.exists()


@needs_leases
@pytest.mark.parametrize("at", ["home", "metrics"])
def test_a_directory_of_a_run_that_a_user_names_is_the_users(base: Path, at: str) -> None:
    """What is given with its path is not swept any more, though an earlier run has made it."""
    home = leave(base)
    path = {"home": home.path, "metrics": home.metrics}[at]
    take_run_directory(path).close()
    assert sweep_below(str(base), PREFIX) == []
    assert Path(home.metrics).is_dir()
