"""The keeper of a server's directory."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mpmetrics.directory import make_run_directory, take_run_directory
from mpmetrics.errors import RunDirectoryError
from mpmetrics.supervisor import launch
from mpmetrics.supervisor.account import Account
from mpmetrics.supervisor.keeper import DirectoryKeeper, list_writers
from mpmetrics.system import Process, list_descendants
from tests.workers import spawn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

IS_ROOT = hasattr(os, "getuid") and os.getuid() == 0  # Windows has no such function

pytestmark = pytest.mark.skipif(not launch.IS_SUPPORTED, reason="run needs Linux")

FORKS = """
import os, sys
pids = [os.fork() for _ in range(1)]
print(flush=True)
sys.stdin.read()
"""


@pytest.fixture
def processes() -> Iterator[Sequence[Process]]:
    """Return a server with a worker, as descendants of this process."""
    with spawn([sys.executable, "-c", FORKS], stdin=-1, stdout=-1) as server:
        assert server.stdout is not None
        server.stdout.readline()
        server.stdout.readline()
        below = list_descendants(server.pid)
        mine = [each for each in list_descendants(os.getpid()) if each.pid == server.pid]
        yield [*mine, *below]
        server.communicate(b"")


class Clock:
    """A clock that stands still unless it is set."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_a_directory_that_stays_away_is_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A directory that was removed is made again, but not at once, and one line says so."""
    given, clock = tmp_path / "given", Clock()
    with_claim = take_run_directory(str(given))
    keeper = DirectoryKeeper(with_claim, clock=clock)
    keeper.look([])
    for _ in range(2):
        given.rmdir()
        keeper.look([])
        clock.now += 4.9
        keeper.look([])
        assert not given.exists()
        clock.now += 0.1
        keeper.look([])
        assert given.is_dir()
        keeper.look([])
    with pytest.raises(RunDirectoryError, match="another mpmetrics run uses it"):
        take_run_directory(str(given))
    with_claim.close()
    line = f"{given} was removed, with what was counted there, and has been made again"
    assert caplog.messages == [line] * 2


def test_a_directory_that_comes_back_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A server may remove its directory and make it again, any time, without a line about it."""
    made, clock = make_run_directory(str(tmp_path), "run-"), Clock()
    keeper = DirectoryKeeper(made, clock=clock)
    for _ in range(3):
        shutil.rmtree(made.path)
        keeper.look([])
        Path(made.path).mkdir()
        clock.now += 100
        keeper.look([])
    assert caplog.messages == []
    assert made.release(keep=False) == ""


@pytest.mark.skipif(not IS_ROOT, reason="needs root to give a directory to another user")
def test_a_directory_is_given_to_the_one_who_writes(
    tmp_path: Path, processes: Sequence[Process], caplog: pytest.LogCaptureFixture
) -> None:
    """The first user that may not write gets the directory, also after the server has wiped it.

    A second one does not; one line says so.
    """
    users = {process.pid: uid for process, uid in zip(processes, (0, 65533), strict=True)}
    # pytest's own directories are for one user: what is above the home must not matter here.
    for parent in tmp_path, *tmp_path.parents[:3]:
        if parent.name.startswith(("pytest-", "popen-")):
            parent.chmod(0o711)
    tmp_path.chmod(0o711)
    made = make_run_directory(str(tmp_path), "run-")
    keeper = DirectoryKeeper(made, read_account=lambda pid: Account(users[pid], 7))
    path = Path(made.path)
    for _ in range(2):
        keeper.look(processes)
        status = path.stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (65533, 7, 0o700)
        assert path.parent.stat().st_mode & 0o777 == 0o711
        shutil.rmtree(path)
        path.mkdir(mode=0o755)
    keeper.look(processes)
    assert caplog.messages == []
    users = dict.fromkeys(users, 65532)
    keeper.look(processes)
    (line,) = caplog.messages
    assert "runs as user 65532, who may not write metrics to" in line
    assert made.release(keep=False) == ""


@pytest.mark.skipif(not IS_ROOT, reason="needs root to give a directory to another user")
def test_a_link_is_not_given_away(tmp_path: Path) -> None:
    """What a server puts in the place of its directory does not change its owner."""
    made = make_run_directory(str(tmp_path), "run-")
    target = tmp_path / "target"
    target.mkdir()
    Path(made.path).rmdir()
    Path(made.path).symlink_to(target)
    with pytest.raises(NotADirectoryError):
        made.hand_over(65533, 7)
    assert target.stat().st_uid == 0
    made.close()


def test_who_is_likely_to_write(processes: Sequence[Process]) -> None:
    """Workers are likely to write, and a main process; not the programs that a server calls."""
    main, worker = processes
    below_this = [main._replace(parent=os.getpid()), worker]
    assert [each.pid for each in list_writers(below_this)] == [worker.pid, main.pid]
    with spawn(["cat"], stdin=-1) as cat:
        helpers = [each for each in list_descendants(os.getpid()) if each.pid == cat.pid]
        called = [each._replace(parent=main.pid) for each in helpers]
        found = [each.pid for each in list_writers([*below_this, *called])]
        assert found == [worker.pid, main.pid]
        cat.communicate(b"")
