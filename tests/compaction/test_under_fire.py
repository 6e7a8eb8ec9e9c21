"""Under fire: workers and compactors are killed and replaced, and two readers read on.

`make soak` does the same for minutes: `MPMETRICS_SOAK` is the number of seconds.
"""

from __future__ import annotations

import itertools
import mmap
import os
import random
import select
import signal
import sys
import time
import traceback
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import pytest
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.values import MultiProcessValue

import mpmetrics
from mpmetrics import compact
from mpmetrics.directory import liveness
from tests.generations import ours, theirs, totals
from tests.workers import VARIABLE, fork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from prometheus_client import Metric

pytestmark = [
    pytest.mark.skipif(
        not liveness.HAS_LEASES, reason="this system has no file leases (Linux has them)"
    ),
    pytest.mark.timeout(0 if "MPMETRICS_SOAK" in os.environ else 600),
]

SECONDS: Final = float(os.environ.get("MPMETRICS_SOAK", "4"))
WORKERS: Final = 8
ENOUGH: Final = 20
"""Kills, and scrapes of each reader, that there are at least."""


class Counts:
    """Numbers in shared memory: a worker raises one before each increment, and another after it."""

    def __init__(self) -> None:
        """Start with zeros."""
        # A number is stored as a whole. `struct.pack_into` would write zeros first.
        self._numbers = memoryview(mmap.mmap(-1, 4096)).cast("q")

    def add(self, place: int) -> None:
        """Add one at *place*; one process at a time may do that."""
        self._numbers[place] += 1

    def at(self, place: int) -> int:
        """Return the number at *place*."""
        return self._numbers[place]

    def total(self, *, done: bool) -> int:
        """Return how many increments were *done*, or else begun."""
        return sum(self.at(2 * slot + done) for slot in range(WORKERS))


STOP: Final = 400
SCRAPES: Final = 401


class Child:
    """A forked process that does *work*, and gets commands over a pipe."""

    def __init__(self, work: Callable[[int, int], object]) -> None:
        """Fork; *work* gets a descriptor to read commands from and one to answer to."""
        commands, self.command = os.pipe()
        self.answers, answer = os.pipe()
        self.pid = fork()
        if self.pid == 0:
            status = 1
            try:
                work(commands, answer)
                status = 0
            except BaseException:  # noqa: BLE001 - nothing may get out of the child
                traceback.print_exc(file=sys.__stderr__)
            finally:
                os._exit(status)
        os.close(commands)
        os.close(answer)
        self.status: int | None = None

    def burst(self) -> None:
        """Have it do a burst of increments; return when they are done."""
        os.write(self.command, b"!")
        assert os.read(self.answers, 1) == b".", "the worker has failed"

    def wait(self) -> int:
        """Wait until it has ended; return its status."""
        if self.status is None:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            os.close(self.command)
            os.close(self.answers)
        return self.status

    def kill(self) -> int:
        """Kill it, if it has not ended; return its status."""
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
        return self.wait()


def increment(path: Path, counts: Counts, slot: int, ident: object, bursts: int) -> Child:
    """Start a worker that increments: *bursts* at each command, or for ever if that is 0."""

    def work(commands: int, answer: int) -> None:
        os.environ[VARIABLE] = os.fspath(path)
        make = MultiProcessValue(lambda: ident)
        values = [
            make("counter", "c", "c_total", (), (), "help"),
            make("summary", "s", "s_sum", (), (), "help"),
            make("histogram", "h", "h_sum", (), (), "help"),
            make("histogram", "h", "h_bucket", ("le",), ("+Inf",), "help"),
        ]
        while bursts == 0 or os.read(commands, 1):
            for _ in range(bursts or 50):
                counts.add(2 * slot)
                for value, amount in zip(values, (1, 0.1, 0.1, 1), strict=True):
                    value.inc(amount)
                counts.add(2 * slot + 1)
            if bursts:
                os.write(answer, b".")

    return Child(work)


def read_on(counts: Counts, scrapes: int, collect: Callable[[], Iterable[Metric]]) -> Child:
    """Start a reader that fails as soon as a value is lower than it was, or missing."""

    def work(_commands: int, _answer: int) -> None:
        before: dict[Any, float] = {}
        while not counts.at(STOP):
            now = totals(collect())
            fallen = {
                key: (value, now.get(key))
                for key, value in before.items()
                if now.get(key, -1.0) < value
            }
            assert not fallen, f"scrape {counts.at(scrapes)}: (before, after) is {fallen}"
            before = now
            counts.add(scrapes)

    return Child(work)


def compact_on(path: Path, counts: Counts) -> Child:
    """Start a process that compacts *path* repeatedly."""

    def work(_commands: int, _answer: int) -> None:
        compactor = mpmetrics.compaction.compactor.Compactor(path)
        while not counts.at(STOP):
            compactor.compact()

    return Child(work)


@pytest.mark.parametrize("stop_first", [True, False], ids=["between bursts", "anywhere"])
def test_nothing_is_lost_and_nothing_falls(tmp_path: Path, *, stop_first: bool) -> None:
    """The totals are what the workers counted, and no reader sees a value fall.

    Workers that are killed between bursts have counted exactly. Of one that is killed anywhere,
    the increment that it had begun may be there or not.
    """
    if not liveness.prove_leases(str(tmp_path)):
        pytest.skip("leases do not work on the file system of the temporary directory")
    seed = random.SystemRandom().randrange(1 << 32) if "MPMETRICS_SOAK" in os.environ else 3
    chance = random.Random(seed)
    counts = Counts()
    bursts = 20 if stop_first else 0
    # Every other worker has the id of its predecessor, as pid 1 of a container does.
    numbers = itertools.count(WORKERS)
    kills = 0
    with ExitStack() as stack:

        def start(child: Child) -> Child:
            stack.callback(child.kill)
            return child

        def worker(slot: int) -> Child:
            ident = slot if slot % 2 else next(numbers)
            return start(increment(tmp_path, counts, slot, ident, bursts))

        workers = [worker(slot) for slot in range(WORKERS)]
        lasting = mpmetrics.MultiProcessCollector(None, tmp_path)
        readers = [
            start(read_on(counts, SCRAPES, lasting.collect)),
            start(read_on(counts, SCRAPES + 1, lambda: mpmetrics.collect(tmp_path).families)),
        ]
        compactor = start(compact_on(tmp_path, counts))
        end = time.monotonic() + SECONDS
        # On a slow machine it goes on until there was something to see.
        while (
            time.monotonic() < end
            or kills < ENOUGH
            or min(counts.at(SCRAPES), counts.at(SCRAPES + 1)) < ENOUGH
        ):
            for slot in chance.sample(range(WORKERS), WORKERS):
                if stop_first:
                    workers[slot].burst()
                else:  # a reader that fails ends the wait
                    select.select([readers[0].answers], [], [], chance.random() * 0.02)
                if chance.random() < 0.3:
                    assert workers[slot].kill() == -signal.SIGKILL, f"seed {seed}"
                    workers[slot] = worker(slot)
                    kills += 1
            if chance.random() < 0.2:
                assert compactor.kill() == -signal.SIGKILL, f"seed {seed}"
                compactor = start(compact_on(tmp_path, counts))
            ended, _, _ = select.select([each.answers for each in readers], [], [], 0)
            assert not ended, f"a reader has failed, seed {seed}"
        for each in workers:
            assert each.kill() == -signal.SIGKILL
        counts.add(STOP)
        assert [each.wait() for each in (*readers, compactor)] == [0, 0, 0], f"seed {seed}"
    sys.stdout.write(f"{counts.total(done=True)} increments, {kills} workers killed\n")
    compact(tmp_path)
    final = ours(tmp_path)
    assert final == theirs(tmp_path)
    # A worker that is killed anywhere may have done with one metric and not with the next.
    lowest, highest = counts.total(done=True), counts.total(done=False)
    assert lowest <= final["c_total", ()] <= highest, f"seed {seed}"
    assert lowest <= final["h_bucket", (("le", "+Inf"),)] <= highest, f"seed {seed}"
    assert lowest == highest or not stop_first


def open_again(path: Path, counts: Counts, slot: int) -> Child:
    """Start a worker that opens its file, increments, and closes the file, for ever."""

    def work(_commands: int, _answer: int) -> None:
        key = mmap_key("c", "c_total", [], [], "help")
        file = os.fspath(path / f"counter_{slot}.db")
        while not counts.at(STOP):
            values: Any = MmapedDict(file)
            counts.add(2 * slot)
            values.write_value(key, values.read_value(key)[0] + 1, 0)
            counts.add(2 * slot + 1)
            values.close()

    return Child(work)


def test_files_are_opened_and_folded_all_the_time(tmp_path: Path) -> None:
    """Openers and a compactor meet at any instruction, and each increment counts once.

    The compactor is killed and replaced, and the openers are not, so that the total is exact.
    """
    if not liveness.prove_leases(str(tmp_path)):
        pytest.skip("leases do not work on the file system of the temporary directory")
    chance = random.Random()
    counts = Counts()
    kills = 0
    with ExitStack() as stack:

        def start(child: Child) -> Child:
            stack.callback(child.kill)
            return child

        openers = [start(open_again(tmp_path, counts, slot)) for slot in range(WORKERS)]
        compactor = start(compact_on(tmp_path, counts))
        end = time.monotonic() + SECONDS / 2
        while time.monotonic() < end or kills < ENOUGH or counts.total(done=True) < 1000:
            # An opener or a compactor that fails ends the wait.
            answers = [each.answers for each in (*openers, compactor)]
            ended, _, _ = select.select(answers, [], [], chance.random() * 0.2)
            assert not ended, "an opener or the compactor has failed"
            assert compactor.kill() == -signal.SIGKILL
            compactor = start(compact_on(tmp_path, counts))
            kills += 1
        counts.add(STOP)
        assert [each.wait() for each in (*openers, compactor)] == [0] * (WORKERS + 1)
    sys.stdout.write(f"{counts.total(done=True)} openings, {kills} compactors killed\n")
    compact(tmp_path)
    compact(tmp_path)
    assert ours(tmp_path) == theirs(tmp_path) == {("c_total", ()): counts.total(done=True)}
    assert not [each.name for each in tmp_path.iterdir() if "opening" in each.name]
