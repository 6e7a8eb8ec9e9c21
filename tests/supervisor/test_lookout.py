"""What a wrapper notices of its server: metrics elsewhere, and a file system without space."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mpmetrics.directory import liveness
from mpmetrics.supervisor import launch
from tests.workers import environment, run_to_end
from tests.wrapped import Wrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.skipif(not launch.IS_SUPPORTED, reason="run needs Linux")

ELSEWHERE = """
import os, signal, sys
os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[1]
from prometheus_client import Counter, Gauge
def work():
    Counter("jobs", "help").inc(3)
    Gauge("busy", "help", multiprocess_mode="livesum").set(1)
for _ in range(2):
    if os.fork() == 0:
        work()
        signal.pause()
os.write(2, b"ready\\n")
for _ in range(2):
    os.wait()
"""


def start(directory: Path, options: Sequence[str] = ()) -> Wrapped:
    """Start a server whose two workers write to another *directory*."""
    return Wrapped(sys.executable, "-c", ELSEWHERE, str(directory), options=options, stdin=_PIPE)


_PIPE = -1


def test_metrics_elsewhere_are_noticed(tmp_path: Path) -> None:
    """A server that writes to another directory is one line with its path, and is counted."""
    with start(tmp_path) as wrapped:
        wrapped.wait_for(
            rb"process \d+ of the server writes its metrics to "
            + re.escape(os.fsencode(tmp_path))
            + rb", not to [^\n]+ --adopt takes"
        )
        page = wrapped.until(lambda page: page["mpmetrics_server_processes elsewhere"] == 2)
        assert "jobs_total" not in page
        assert page["mpmetrics_server_processes directory"] == 0
        wrapped.end(signal.SIGTERM)
    assert wrapped.said.count(b"writes its metrics to") == 1
    assert sorted(each.name.split("_")[0] for each in tmp_path.iterdir()) == [
        *("counter", "counter", "gauge", "gauge")
    ]


def test_another_directory_is_adopted(tmp_path: Path) -> None:
    """With --adopt the other directory is on the page, and its dead workers' files are folded."""
    with start(tmp_path, ["--adopt", "--compact-interval", "1"]) as wrapped:
        wrapped.wait_for(rb"that directory is taken over, and on this page")
        page = wrapped.until(lambda page: page.get("jobs_total") == 6)
        assert page["busy"] == 2
        assert page[f"mpmetrics_source_up adopted{tmp_path}"] == 1
        os.kill(wrapped.children()[1], signal.SIGKILL)
        page = wrapped.until(lambda page: page.get("busy") == 1)
        wrapped.until(lambda page: page.get("mpmetrics_files archive", 0) == 1)
        assert wrapped.samples()["jobs_total"] == 6
        wrapped.end(signal.SIGTERM)
    assert (tmp_path / "MANIFEST").exists()


FULL = """
import os, signal, sys, time
from pathlib import Path
from prometheus_client import Counter
jobs = Counter("jobs", "help", ["n"])
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
def fork(work):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        work(lambda: os.write(write, b"x"))
        os._exit(0)
    os.close(write)
    os.read(read, 1)
    return child
def count_once(say):
    jobs.labels("1").inc()
def wait_and_count(say):
    jobs.labels("1").inc()
    say()
    signal.sigwait({signal.SIGUSR1})
    while True:
        jobs.labels("x" * 1000 + str(time.monotonic())).inc()
dead = fork(count_once)
victim = fork(wait_and_count)
filler = open(sys.argv[1] + "/filler", "wb", buffering=0)
os.write(2, b"ready\\n")
sys.stdin.readline()                       # the wrapper knows the worker, and has its reserve
try:
    while True:
        filler.write(bytes(4096))
except OSError:
    pass
os.kill(victim, signal.SIGUSR1)
os.waitid(os.P_PID, victim, os.WEXITED | os.WNOWAIT)
sys.stdin.readline()                       # the wrapper has seen the end
os.waitpid(dead, 0), os.waitpid(victim, 0)
sys.stdin.read()
"""

INSIDE = """
import sys
sys.path.insert(0, sys.argv[2])
from tests.supervisor.test_lookout import check_full
check_full(sys.argv[1])
"""


def check_full(path: str) -> None:
    """Run a server on a file system that it fills, and check lines, metrics and files."""
    directory = Path(path, "d")
    options = ["--dir", str(directory), "--compact-interval", "1"]
    with Wrapped(sys.executable, "-c", FULL, path, options=options, stdin=_PIPE) as wrapped:
        wrapped.wait_for(rb"ready\n")
        wrapped.until(lambda page: page["mpmetrics_workers"] >= 1 and _has_reserve(directory))
        page = wrapped.samples()
        assert 0 < page["mpmetrics_directory_free_bytes"] <= 1 << 20
        assert 0 < page["mpmetrics_directory_free_inodes"] <= 100
        assert wrapped.process.stdin is not None
        wrapped.process.stdin.write(b"\n")
        wrapped.process.stdin.flush()
        wrapped.wait_for(rb"process has ended by SIGBUS: the directory [^\n]+ is full \(")
        wrapped.wait_for(rb"the file system of [^\n]+ is full: ")
        wrapped.process.stdin.write(b"\n")
        wrapped.process.stdin.flush()
        page = wrapped.until(lambda page: "mpmetrics_processes dead" not in page)
        assert page["mpmetrics_compactions_total failed"] == 0
        assert page["jobs_total 1"] == 2
        wrapped.end(signal.SIGTERM)
    assert not _has_reserve(directory)
    sys.stdout.write("checked\n")


def _has_reserve(directory: Path) -> bool:
    return (directory / ".mpmetrics-reserve-0").exists()


@pytest.mark.skipif(not liveness.HAS_LEASES, reason="this system has no file leases")
def test_a_full_file_system_is_named_and_compacted(tmp_path: Path) -> None:
    """On a full tmpfs a death by SIGBUS has its cause in the log, and compaction still works."""
    script = (
        'mount -t tmpfs -o size=1m,nr_inodes=100 tmpfs "$0" && mkdir "$0/d" && '
        'exec "$1" -c "$2" "$0" "$3"'
    )
    root = str(Path(__file__).parents[2])
    command = ["unshare", "--mount", "sh", "-c", script, str(tmp_path), sys.executable]
    if run_to_end([*command, "pass", root], capture_output=True).returncode != 0:
        pytest.skip("a file system cannot be mounted here")
    done = run_to_end(
        [*command, INSIDE, root],
        capture_output=True,
        text=True,
        ending=signal.SIGTERM,
        env=environment(None),
    )
    assert (done.stdout, done.returncode) == ("checked\n", 0), done.stderr
