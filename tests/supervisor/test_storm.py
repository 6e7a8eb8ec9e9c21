"""Two runs at a time, and at random: starts, wipes, kills of wrappers and of servers.

`make soak-runs` goes on for minutes.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil
import pytest

from mpmetrics import collect
from mpmetrics.supervisor import launch
from tests.cli.processes import command, run
from tests.servers import eventually
from tests.wrapped import Wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.skipif(not launch.IS_SUPPORTED, reason="run needs Linux"),
    pytest.mark.timeout(0 if os.environ.get("MPMETRICS_SOAK_RUNS") else 600),
]

SECONDS: Final = float(os.environ.get("MPMETRICS_SOAK_RUNS", "0"))
STEPS: Final = 10
"""How many steps a storm has at least."""

# It appends to its log: "." after each increment as long as directory and file are there, else "!".
SERVER: Final = """
import os, shutil, signal, sys, time
path, kind, log = os.environ["PROMETHEUS_MULTIPROC_DIR"], sys.argv[1], sys.argv[2]
if "stubborn" in kind:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "wiping" in kind:
    shutil.rmtree(path)
    os.mkdir(path)
out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
if "idle" in kind:
    file, inc = path, lambda: None
else:
    from prometheus_client import Counter
    file, inc = os.path.join(path, f"counter_{os.getpid()}.db"), Counter("jobs", "help").inc
while True:
    inc()
    os.write(out, b"." if os.path.exists(file) else b"!")
    time.sleep(0.005)
"""

KINDS: Final = ("plain", "stubborn", "wiping", "wiping stubborn", "idle stubborn", "given")


class Storm:
    """A storm in the directory *base*, where *given* is for all runs that are given a directory."""

    def __init__(self, base: Path, chance: random.Random) -> None:
        """Start with no run."""
        self.base, self.given, self.chance = base, base / "given", chance
        self.runs: list[tuple[Wrapped, str]] = []
        self.logs: dict[Path, str] = {}
        self.mains: list[psutil.Process] = []
        self.homes: set[Path] = set()

    def step(self) -> None:
        """Do one thing at random."""
        if len(self.runs) < 2:
            self.start()
        else:
            self.chance.choice([self.end_wrapper, self.end_server, self.sweep])()

    def start(self) -> None:
        """Start a run, and wait until its server counts."""
        used = {kind for _, kind in self.runs}
        kind = self.chance.choice([kind for kind in KINDS if kind != "given" or kind not in used])
        log = self.base / f"{len(self.logs)}.log"
        options = ["--dir", str(self.given)] if kind == "given" else []
        line = [sys.executable, "-c", SERVER, kind, str(log)]
        wrapped = Wrapped(*line, options=[*options, "--compact-interval", "0.5"])
        wrapped.__enter__()
        self.runs.append((wrapped, kind))
        self.logs[log] = kind
        eventually(log.exists, "a server that counts")
        (main,) = wrapped.children()
        self.mains.append(psutil.Process(main))
        if kind != "given":
            self.homes.add(wrapped.directory.parent)

    def end_wrapper(self) -> None:
        """Kill a wrapper, or ask its server to end; a stubborn one goes on without it."""
        wrapped, kind = self.runs.pop(self.chance.randrange(len(self.runs)))
        is_killed = "stubborn" in kind or self.chance.random() < 0.5
        wrapped.process.send_signal(signal.SIGKILL if is_killed else signal.SIGTERM)
        wait_for_end(wrapped)

    def end_server(self) -> None:
        """Kill a server, whose wrapper has to end then."""
        wrapped, _ = self.runs.pop(self.chance.randrange(len(self.runs)))
        for pid in wrapped.children():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for_end(wrapped)

    def sweep(self) -> None:
        """Have another run sweep."""
        ended = run(command("run", "--listen", "127.0.0.1:0", "--", "true"))
        assert (ended.status, ended.stdout) == (0, "")

    def stop(self) -> None:
        """Kill all that is left."""
        for wrapped, _ in self.runs:
            wrapped.process.kill()
            wait_for_end(wrapped)
        for main in self.mains:
            with suppress(psutil.NoSuchProcess):  # also if its pid is used again
                main.kill()

    def count(self, kind: str) -> int:
        """Return how many increments servers of a *kind* have logged."""
        return sum(log.read_text().count(".") for log, each in self.logs.items() if each == kind)


def wait_for_end(wrapped: Wrapped) -> None:
    """Wait for the end of a wrapper, whose server may go on."""
    wrapped.process.wait()
    assert wrapped.process.stderr is not None
    wrapped.process.stderr.close()


@pytest.fixture
def foreign(tmp_path: Path) -> Iterator[list[Path]]:
    """Return files in directories that are called like those of runs."""
    bases = [tmp_path, *(base for base in [Path("/dev/shm")] if os.access(base, os.W_OK))]  # noqa: S108 - a mount point
    homes = [Path(tempfile.mkdtemp(prefix="mpmetrics-run-", dir=base)) for base in bases]
    files = [home / name for home in homes for name in ("README", "counter_7.db")]
    for file in files:
        file.write_bytes(b"mine")
    yield files
    for home in homes:
        shutil.rmtree(home)


def test_nothing_is_lost_in_a_storm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, foreign: list[Path]
) -> None:
    """No file of a living server and none of a user goes; all is counted; no home is left."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    seed = random.randrange(1 << 30)
    storm = Storm(tmp_path, random.Random(seed))
    end = time.monotonic() + SECONDS
    steps = 0
    try:
        while steps < STEPS or time.monotonic() < end:
            storm.step()
            steps += 1
            lost = [log for log in storm.logs if "!" in log.read_text()]
            assert not lost, (seed, steps, [storm.logs[log] for log in lost])
            assert all(file.read_bytes() == b"mine" for file in foreign), (seed, steps)
    finally:
        storm.stop()
    # The last words of those that were killed now.
    lost = [log for log in storm.logs if "!" in log.read_text()]
    assert not lost, (seed, steps, [storm.logs[log] for log in lost])
    if storm.count("given"):
        totals = [
            sample.value
            for family in collect(str(storm.given)).families
            for sample in family.samples
            if sample.name == "jobs_total"
        ]
        counted, servers = storm.count("given"), [*storm.logs.values()].count("given")
        assert counted <= sum(totals) <= counted + servers, seed

    def is_swept() -> bool:
        storm.sweep()
        return not any(home.exists() for home in storm.homes)

    # It polls: a process of another test may look like a user of a home for a moment.
    eventually(is_swept, "the end of all homes")
    assert all(file.read_bytes() == b"mine" for file in foreign)
