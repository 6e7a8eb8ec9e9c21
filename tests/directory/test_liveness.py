"""The liveness of a file's process: real processes, and every way to hold a file open."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import mpmetrics
from mpmetrics import Liveness, is_alive
from mpmetrics.directory import LeaseProver, liveness
from mpmetrics.directory.files import list_directory
from tests.database import counter, write
from tests.workers import PATIENCE, Worker, environment, run_python, spawn

if TYPE_CHECKING:
    from collections.abc import Callable

IS_ROOT = hasattr(os, "getuid") and os.getuid() == 0  # Windows has no such function

pytestmark = pytest.mark.skipif(
    not liveness.HAS_LEASES, reason="this system has no file leases (Linux has them)"
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file that no process has open, where leases are proven to work."""
    path = write(tmp_path / "counter_1.db", [counter("c", 1)])
    if not liveness.prove_leases(str(tmp_path)):
        pytest.skip("the file system of the temporary directory does not tell open from closed")
    return path


def test_a_worker_is_alive_until_it_is_killed(tmp_path: Path, file: Path) -> None:
    """A worker is alive from its first metric to SIGKILL, whatever its files are called."""
    with Worker(tmp_path) as worker:
        worker.do("Counter('jobs', '').inc()")
        own = tmp_path / f"counter_{worker.pid}.db"
        assert [is_alive(own), is_alive(file)] == [Liveness.ALIVE, Liveness.DEAD]
        worker.kill()
        assert is_alive(own) is Liveness.DEAD


def test_a_zombie_is_dead(file: Path) -> None:
    """A zombie has closed its files, so it is dead before its parent waits for it."""
    program = f"f = open({str(file)!r}, 'r+b'); print(); input()"
    with spawn(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        assert is_alive(file) is Liveness.ALIVE
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert is_alive(file) is Liveness.DEAD


def test_a_pid_that_is_used_again_proves_nothing(tmp_path: Path, file: Path) -> None:
    """A dead worker's file is dead although another process, this one, has its pid."""
    assert is_alive(file.rename(tmp_path / f"counter_{os.getpid()}.db")) is Liveness.DEAD


def test_a_forked_child_keeps_its_parents_file_alive(tmp_path: Path, file: Path) -> None:
    """A child that has touched no metric since the fork has its parent's files open: alive."""
    assert is_alive(file) is Liveness.DEAD
    with Worker(tmp_path) as worker:
        worker.do("Counter('jobs', '').inc(); import os, signal")
        child = worker.ask("os.fork() or signal.alarm(60) or signal.pause()")
        own = tmp_path / f"counter_{worker.pid}.db"
        watched = os.pidfd_open(child)
        try:
            worker.kill()
            assert is_alive(own) is Liveness.ALIVE
        finally:
            os.kill(child, signal.SIGKILL)
            ended, _, _ = select.select([watched], [], [], PATIENCE)
            os.close(watched)
        assert ended
        assert is_alive(own) is Liveness.DEAD


@pytest.mark.parametrize(
    "hold",
    [
        pytest.param("f = open(path, 'rb')", id="open for reading"),
        pytest.param("f = open(path, 'r+b')", id="open for writing"),
        pytest.param(
            "f = open(path, 'r+b'); m = mmap.mmap(f.fileno(), 0); f.close()", id="a map alone"
        ),
    ],
)
def test_an_open_file_is_alive(file: Path, hold: str) -> None:
    """A file is alive while a process has it open or mapped, and dead once that has ended."""
    program = f"import mmap, sys; path = {str(file)!r}; {hold}; print(); sys.stdin.read()"
    with spawn(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        assert is_alive(file) is Liveness.ALIVE
        process.communicate()
    assert is_alive(file) is Liveness.DEAD


def test_this_process_counts_too(file: Path) -> None:
    """A file that the asking process itself has open is alive."""
    with file.open("rb"):
        assert is_alive(file) is Liveness.ALIVE
    assert is_alive(file) is Liveness.DEAD


def test_a_process_in_another_pid_namespace_is_seen(file: Path) -> None:
    """A file that a process in another pid namespace has open is alive."""
    program = f"import sys; f = open({str(file)!r}, 'rb'); print(); sys.stdin.read()"
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", program]
    with spawn(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        if not process.stdout.readline():
            pytest.skip("pid namespaces cannot be made here")
        assert is_alive(file) is Liveness.ALIVE
        process.communicate()
    assert is_alive(file) is Liveness.DEAD


@pytest.mark.skipif(not IS_ROOT, reason="needs root to become another user")
def test_a_file_of_another_user_is_unknown() -> None:
    """The kernel grants a lease to the owner of a file only: to others it is unknown."""
    program = """
import os, sys
from mpmetrics.directory.liveness import prove_leases, is_alive
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
print(prove_leases(os.path.dirname(sys.argv[1])), is_alive(sys.argv[1]).value)
"""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        path = write(Path(directory, "counter_1.db"), [counter("c", 1)])
        assert run_python(program, str(path), env=environment(None)) == "True unknown\n"


def _linked(path: Path) -> Path:
    (path / "link.db").symlink_to(path / "counter_1.db")
    return path / "link.db"


def _pipe(path: Path) -> Path:
    os.mkfifo(path / "pipe.db")
    return path / "pipe.db"


NOT_FILES: dict[str, Callable[[Path], Path]] = {
    "nothing": lambda path: path / "counter_2.db",
    "a directory": lambda path: path,
    "a link": _linked,
    "a pipe": _pipe,
    "a file that no disk has": lambda _: Path("/proc/stat"),
}


@pytest.mark.parametrize("name", NOT_FILES)
def test_what_is_not_a_regular_file_is_unknown(tmp_path: Path, file: Path, name: str) -> None:
    """A missing file, a link, a pipe and the like are unknown, and none of them is waited for."""
    assert file.exists()
    assert is_alive(NOT_FILES[name](tmp_path)) is Liveness.UNKNOWN


def _refuse(_: int) -> None:
    raise BlockingIOError


@pytest.mark.parametrize(
    "prover",
    [
        pytest.param(LeaseProver(has_leases=False), id="no leases"),
        pytest.param(LeaseProver(take_lease=lambda _: None), id="leases on open files"),
        pytest.param(LeaseProver(take_lease=_refuse), id="no lease on a closed file"),
    ],
)
def test_without_a_proof_nothing_is_known(file: Path, prover: LeaseProver) -> None:
    """A file is unknown on a system without leases, and on a file system that fails the test."""
    assert prover.examine(str(file)) is Liveness.UNKNOWN
    assert not prover.prove(str(file.parent))


def test_a_file_system_is_tested_once(file: Path) -> None:
    """A prover asks for two leases to test a file system, and then for one per file."""
    taken = []

    def take_and_count(descriptor: int) -> None:
        taken.append(descriptor)
        liveness.take_lease(descriptor)

    prover = LeaseProver(take_lease=take_and_count)
    assert prover.prove(str(file.parent))
    assert len(taken) == 2
    assert prover.examine(str(file)) is Liveness.DEAD
    assert prover.examine(str(file)) is Liveness.DEAD
    assert len(taken) == 4


def test_a_lease_does_no_harm(tmp_path: Path, file: Path) -> None:
    """A holder survives when its lease is broken, and asking leaves no descriptor and no file."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        liveness.take_lease(descriptor)
        assert fcntl.fcntl(descriptor, fcntl.F_GETLEASE) == fcntl.F_WRLCK
        # This makes the kernel send the harmless signal: another opener wants the file.
        with pytest.raises(BlockingIOError):
            os.open(file, os.O_RDWR | os.O_NONBLOCK)
        assert fcntl.fcntl(descriptor, fcntl.F_GETLEASE) == fcntl.F_UNLCK
        assert is_alive(file) is Liveness.UNKNOWN
    finally:
        os.close(descriptor)
    assert is_alive(file) is Liveness.DEAD
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        is_alive(file)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert list(tmp_path.iterdir()) == [file]


def test_a_scratch_file_is_not_a_stranger(tmp_path: Path, file: Path) -> None:
    """A listing during the test of a file system has the workers' files, and no problem."""
    (tmp_path / ".mpmetrics-probe-x").touch()
    listing = list_directory(str(tmp_path))
    assert [each.path for each in listing.files] == [str(file)]
    assert listing.problems == []
    assert mpmetrics.collect(tmp_path).problems == []
