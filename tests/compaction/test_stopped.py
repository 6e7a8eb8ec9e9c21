"""A compactor that is stopped, wherever that happens, neither keeps workers waiting nor scrapes."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

import mpmetrics
from mpmetrics import compact
from mpmetrics.directory import liveness
from mpmetrics.directory.locks import make_compaction_lock
from tests.database import counter, write
from tests.generations import ours, totals
from tests.operations import watched
from tests.workers import PATIENCE, fork

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    not liveness.HAS_LEASES, reason="this system has no file leases (Linux has them)"
)

_WORKERS = (1, 2)


def _start_and_stop(path: Path, point: int) -> int:
    """Start a compactor of *path* that is stopped before the operation *point*; return its pid."""

    def stop(number: int, _name: str, _arguments: tuple[Any, ...]) -> None:
        if number == point:
            os.kill(os.getpid(), signal.SIGSTOP)

    child = fork()
    if child == 0:
        status = 1
        try:
            with watched(stop):
                compact(path)
            status = 0
        finally:
            os._exit(status)
    return child


def _open_all(path: Path) -> None:
    """Open the files of all workers as prometheus_client does: make those that are not there."""
    for number in _WORKERS:
        with (path / f"counter_{number}.db").open("a+b"):
            pass


def test_a_stopped_compactor_is_in_no_ones_way(tmp_path: Path) -> None:
    """While a compactor is stopped before any operation, files can be opened and scraped.

    Where it has a lease at that moment, the kernel makes it go on for the opener.
    """
    point = 0
    has_stopped = True
    woken = 0
    while has_stopped:
        point += 1
        path = tmp_path / str(point)
        path.mkdir()
        if not liveness.prove_leases(str(path)):
            pytest.skip("leases do not work on the file system of the temporary directory")
        for number in _WORKERS:
            write(path / f"counter_{number}.db", [counter("c", number)], size=4096)
        child = _start_and_stop(path, point)
        has_stopped = os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1])
        if not has_stopped:
            break
        try:
            assert totals(mpmetrics.collect(path).families) == {("c_total", ()): 3}, point
            opener = threading.Thread(target=_open_all, args=[path], daemon=True)
            opener.start()
            opener.join(PATIENCE / 10)  # far less than it takes until the kernel breaks a lease
            assert not opener.is_alive(), f"an opener waits, point {point}"
            assert totals(mpmetrics.collect(path).families) == {("c_total", ()): 3}, point
        finally:
            ended, status = os.waitpid(child, os.WNOHANG | os.WCONTINUED)
            woken += ended != 0
            os.kill(child, signal.SIGCONT)
            if not ended or os.WIFCONTINUED(status):
                _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0, point
        compact(path)
        assert ours(path) == {("c_total", ()): 3}, point
    assert point > 50, f"there were only {point} points"
    assert woken, "no lease was held at any point"


def _start_workers(path: Path) -> None:
    """Make files of workers that begin and end, as fast as possible, for ever."""
    number = 0
    while True:
        number += 1
        (path / f"counter_{number}.db").touch()
        if number > 1000:
            (path / f"counter_{number - 1000}.db").unlink()


def test_scrapes_do_without_the_lock_of_a_stopped_compactor(tmp_path: Path) -> None:
    """A scrape is right while a compactor has the lock and is stopped, and files come and go."""
    for number in range(300):  # so that reading takes longer than the next file to come
        write(tmp_path / f"counter_x{number}.db", [counter("c", 1)], size=4096)
    child = fork()
    if child == 0:
        _start_workers(tmp_path)
    try:
        with make_compaction_lock(str(tmp_path)):
            assert totals(mpmetrics.collect(tmp_path).families) == {("c_total", ()): 300}
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
