"""Workers that count and are killed, compactors that are killed, readers that watch it all.

``make soak`` runs it for minutes, the suite for seconds. What each worker has counted it notes in
shared memory, before and after each step; so the true total is known, to the step in which a
worker was killed. Every other worker is killed between two steps: there it is known exactly.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import mpmetrics
from tests.workers import environment

WORKERS = 8
SLOT = struct.Struct("qq")

WORK = """
import mmap, os, signal, struct, sys
from prometheus_client import Counter, Gauge, Histogram, Summary
path, slot = sys.argv[1], int(sys.argv[2])
jobs = Counter("jobs", "", ["kind"]).labels("a")
parts = Counter("parts", "")
size = Histogram("size", "", buckets=[1, 2])
wait = Summary("wait", "")
shares = Gauge("shares", "", multiprocess_mode="sum")
live = Gauge("live", "", multiprocess_mode="livesum")
live.set(1)
with open(path, "r+b") as file:
    shared = mmap.mmap(file.fileno(), 0)
parking = []
signal.signal(signal.SIGUSR1, lambda *_: parking.append(True))
step, place = 0, slot * 16
while not parking:
    step += 1
    # Not pack_into, which for a moment leaves a zero.
    shared[place : place + 8] = struct.pack("q", step)
    jobs.inc(); parts.inc(0.1); size.observe(1); wait.observe(0.1); shares.inc()
    shared[place + 8 : place + 16] = struct.pack("q", step)
os.write(1, b"parked")
signal.pause()
"""

COMPACT = """
import sys
from mpmetrics import CompactionError
from mpmetrics.compaction import Compactor
compactor = Compactor(sys.argv[1])
while True:
    compactor.compact()
"""

READ = """
import json, signal, sys
import mpmetrics
from mpmetrics.collector import DirectoryView
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
view, seen, scrapes, wrong = DirectoryView(sys.argv[1]), {}, 0, []
sys.stdout.write("ready\\n"); sys.stdout.flush()
while not stopped:
    collection = view.collect() if sys.argv[2] == "again" else mpmetrics.collect(sys.argv[1])
    scrapes += 1
    wrong += map(str, collection.problems)
    for family in collection.families:
        if family.type == "gauge" and family.name != "shares":
            continue
        for sample in family.samples:
            key = str((sample.name, sample.labels))
            if sample.value < seen.get(key, 0.0):
                wrong.append(f"{key} fell from {seen[key]!r} to {sample.value!r}")
            seen[key] = sample.value
print(json.dumps([scrapes, wrong[:9]]))
"""


class Outcome(NamedTuple):
    """What a storm has shown: kills, compactions that were committed, scrapes, and the totals.

    *counted* lies between *done* and *begun*, the steps that workers ended and began; *wrong* is
    what readers did not like.
    """

    kills: int
    generation: int
    scrapes: int
    done: int
    begun: int
    counted: dict[str, float]
    files: list[str]
    wrong: list[str]


class Storm:
    """A storm over the empty directory *path*."""

    def __init__(self, path: Path, seed: int) -> None:
        """Prepare; nothing runs yet."""
        self._path = path
        self._random = random.Random(seed)  # noqa: S311 - not for secrets
        self._stack = ExitStack()
        self._slots = 0
        self._kills = 0
        descriptor, self._shared = tempfile.mkstemp()
        os.truncate(descriptor, 1 << 22)
        os.close(descriptor)

    def run(self, seconds: float) -> Outcome:
        """Let it storm for so many *seconds*."""
        with self._stack:
            self._stack.callback(os.unlink, self._shared)
            workers = [self._worker() for _ in range(WORKERS)]
            readers = [self._python(READ, how) for how in ("again", "anew")]
            for reader in readers:
                assert reader.stdout is not None
                assert reader.stdout.readline() == b"ready\n"
            compactor = self._python(COMPACT)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                self._kill_one(workers)
                if self._random.random() < 0.05:
                    _kill(compactor)
                    compactor = self._python(COMPACT)
            for process in [*workers, compactor]:
                _kill(process)
            return self._outcome([_stopped(reader) for reader in readers])

    def _outcome(self, reports: list[tuple[int, list[str]]]) -> Outcome:
        wrong = [line for _, lines in reports for line in lines]
        done = self._compacted()
        families = mpmetrics.collect(self._path).families
        samples = {each.name: each.value for family in families for each in family.samples}
        names = ("jobs_total", "parts_total", "size_count", "wait_count", "shares")
        with Path(self._shared).open("r+b") as file, mmap.mmap(file.fileno(), 0) as shared:
            steps = [SLOT.unpack_from(shared, 16 * slot) for slot in range(self._slots)]
        return Outcome(
            self._kills,
            done.generation,
            sum(scrapes for scrapes, _ in reports),
            sum(ended for _, ended in steps),
            sum(begun for begun, _ in steps),
            {name: samples[name] for name in names},
            sorted(each.name for each in self._path.iterdir()),
            wrong,
        )

    def _compacted(self) -> mpmetrics.Compaction:
        """Compact until nothing is left to fold: the kernel may let go of files a bit late."""
        for _ in range(100):
            done = mpmetrics.compact(self._path)
            if not done.skipped:
                break
            time.sleep(0.02)
        return done

    def _kill_one(self, workers: list[subprocess.Popen[bytes]]) -> None:
        """Kill a worker, every other time between two steps, and replace it."""
        index = self._random.randrange(WORKERS)
        if self._random.random() < 0.5:
            time.sleep(self._random.random() * 0.02)  # anywhere in a step, that is the point
        else:
            self._park(workers[index])
        _kill(workers[index])
        self._kills += 1
        workers[index] = self._worker()

    def _park(self, worker: subprocess.Popen[bytes]) -> None:
        """Have a worker stop between two steps."""
        assert worker.stdout is not None
        worker.send_signal(signal.SIGUSR1)
        # A worker that has not got so far yet dies of the signal.
        assert worker.stdout.read(6) in {b"parked", b""}

    def _worker(self) -> subprocess.Popen[bytes]:
        self._slots += 1
        return self._start(WORK, self._shared, str(self._slots - 1))

    def _python(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        return self._start(program, str(self._path), *arguments)

    def _start(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            env=environment(self._path),
            stdout=subprocess.PIPE,
        )
        self._stack.enter_context(process)
        self._stack.callback(process.kill)
        return process


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _stopped(reader: subprocess.Popen[bytes]) -> tuple[int, list[str]]:
    """Have a *reader* stop; return how often it has read, and what was wrong."""
    reader.terminate()
    stdout, _ = reader.communicate()
    scrapes, wrong = json.loads(stdout)
    return int(scrapes), wrong


def main() -> int:
    """Storm for as long as was asked for; return 1 if something was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=time.time_ns())
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mpmetrics-soak-") as directory:
        outcome = Storm(Path(directory), given.seed).run(given.seconds)
    sys.stdout.write(f"seed {given.seed}: {outcome}\n")
    low, high = outcome.done, outcome.begun
    exact = [value for name, value in outcome.counted.items() if name != "parts_total"]
    return int(bool(outcome.wrong) or not all(low <= value <= high for value in exact))


if __name__ == "__main__":
    sys.exit(main())
