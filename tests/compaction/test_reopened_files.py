"""A new worker with the pid of a dead one may open the dead one's file at any moment."""

from __future__ import annotations

import fcntl
import os
import select
import time
from typing import TYPE_CHECKING, Any

import pytest

from mpmetrics import compact
from mpmetrics.directory import liveness
from tests.database import counter, summary, write
from tests.generations import ours, theirs
from tests.operations import watched
from tests.workers import Worker

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    not liveness.HAS_LEASES, reason="this system has no file leases (Linux has them)"
)

# What prometheus_client does in a process whose pid is 2.
OPEN = """
import os
from prometheus_client.values import MultiProcessValue
os.environ["PROMETHEUS_MULTIPROC_DIR"] = {path!r}
value = MultiProcessValue(lambda: 2)("counter", "c", "c_total", (), (), "help")
value.inc(1000)
"""
CLOSE = "value.close_all_files()"

_SHORT = 5.0
"""Seconds: far less than the 45 after which the kernel breaks a lease by force."""


class Intruder:
    """Has a worker open its file when a compactor reaches an operation."""

    def __init__(self, worker: Worker, statements: str, point: int) -> None:
        """Have *worker* run *statements* at the *point*; odd points are before an operation."""
        self._worker = worker
        self._statements = statements
        self._point = point
        self._leased: set[int] = set()
        self.has_begun = False
        self.has_waited = False

    def before(self, number: int, _name: str, _arguments: tuple[Any, ...]) -> None:
        """Start the worker here, if this is the point."""
        if self._point == 2 * number - 1:
            self._begin()

    def after(self, number: int, _name: str, arguments: tuple[Any, ...]) -> None:
        """Start the worker here, if this is the point."""
        if arguments[1:2] == (fcntl.F_SETLEASE,):
            self._leased.discard(arguments[0])
            if _is_whole(arguments[0]):  # it was granted
                self._leased.add(arguments[0])
        if self._point == 2 * number:
            self._begin()

    def _begin(self) -> None:
        """Start the worker; return when it is done, or waits for a lease."""
        self.has_begun = True
        self._worker.begin(self._statements)
        give_up = time.monotonic() + _SHORT
        while not self._is_done(0.001):
            assert time.monotonic() < give_up
            if not all(map(_is_whole, self._leased)):
                self.has_waited = True
                return

    def _is_done(self, timeout: float) -> bool:
        stdout = self._worker._process.stdout
        assert stdout is not None
        return bool(select.select([stdout], [], [], timeout)[0])

    def finish(self) -> None:
        """Check that the worker is done, now that no lease is held."""
        if not self.has_begun:
            self._worker.begin(self._statements)
        assert self._is_done(_SHORT), f"the worker still waits, point {self._point}"
        self._worker.finish()


def _is_whole(descriptor: int) -> bool:
    try:
        return fcntl.fcntl(descriptor, fcntl.F_GETLEASE) != fcntl.F_UNLCK
    except OSError:  # it is closed
        return True


def fill(path: Path, *, again: bool) -> float:
    """Write files of three dead workers to *path*, *again* beside an archive; return the total."""
    path.mkdir()
    for number in (1, 2, 3):
        write(path / f"counter_{number}.db", [counter("c", number)], size=4096)
        write(path / f"summary_{number}.db", summary("s", 1, number), size=4096)
    if not liveness.prove_leases(str(path)):
        pytest.skip("leases do not work on the file system of the temporary directory")
    if not again:
        return 6.0
    compact(path)
    for number in (2, 3):
        write(path / f"counter_{number}.db", [counter("c", number)], size=4096)
    return 11.0


@pytest.mark.parametrize("again", [False, True], ids=["first", "second"])
@pytest.mark.parametrize("stays", [False, True], ids=["leaves", "stays"])
def test_a_worker_opens_a_file_that_is_being_folded(
    tmp_path: Path, *, again: bool, stays: bool
) -> None:
    """A value is neither lost nor counted twice if its file is opened at any operation.

    The worker opens the file before or after each operation of a compactor, and closes it or not.
    """
    waited = point = 0
    begun = True
    with Worker(tmp_path) as worker:
        while begun:
            point += 1
            path = tmp_path / str(point)
            total = fill(path, again=again) + 1000
            statements = OPEN.format(path=os.fspath(path)) + (CLOSE if not stays else "")
            intruder = Intruder(worker, statements, point)
            with watched(intruder.before, intruder.after):
                compact(path)
            intruder.finish()
            begun, waited = intruder.has_begun, waited + intruder.has_waited
            assert ours(path)["c_total", ()] == total, point
            compact(path)
            assert ours(path)["c_total", ()] == total, point
            if stays:
                worker.do(f"value.inc(1); {CLOSE}")
                total += 1
            compact(path)
            assert ours(path) == {("c_total", ()): total, ("s_count", ()): 3, ("s_sum", ()): 6}
            assert theirs(path) == ours(path), point
            assert not list(path.glob("*_2*")), "the worker's file is still there"
    assert point > 60, f"there were only {point} points"
    assert waited <= 4, f"the worker met a lease {waited} times"
