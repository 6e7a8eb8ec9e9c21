"""The library imports and reads on every system, and knows what it cannot do there.

These tests run on Linux, macOS and Windows. On Linux they also run with everything hidden that the
other two systems lack: a simulation, which the workflows hold against the real ones.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Final

import pytest

from tests import database
from tests.database import counter, gauge
from tests.workers import run_to_end

if TYPE_CHECKING:
    from pathlib import Path

_PROGRAM: Final = """
import json, os, sys
import mpmetrics
from mpmetrics_cli.__main__ import main

directory, file = sys.argv[1:]
collection = mpmetrics.collect(directory)
page = mpmetrics.Page(directory).render().decode()
try:
    mpmetrics.compact(directory)
    compaction = "done"
except mpmetrics.CompactionError as error:
    compaction = str(error)
print(json.dumps({
    "text": collection.render().decode(),
    "problems": [str(problem) for problem in collection.problems],
    "same": collection.render().decode() in page or "jobs_total 5.0" in page,
    "liveness": mpmetrics.is_alive(file).value,
    "files": sorted(name for name in os.listdir(directory) if name.endswith(".db")),
}))
main(["dump", directory], prog_name="mpmetrics")
"""

# Imported before anything is hidden: the standard library looks for the same names.
_HIDING: Final = """
import http.server, os, signal, socket, ssl, subprocess, sys, tempfile, shutil, threading, uuid
import filelock, prometheus_client
for module in {modules}:
    sys.modules[module] = None
for name in {names}:
    if hasattr(os, name):
        delattr(os, name)
for name in {signals}:
    if hasattr(signal, name):
        delattr(signal, name)
"""

SYSTEMS: Final = {
    "as it is here": "",
    "without what Windows lacks": _HIDING.format(
        modules=["fcntl", "resource", "termios"],
        names=[
            *("fork", "register_at_fork", "readv", "statvfs", "getuid", "geteuid", "pidfd_open"),
            *("O_CLOEXEC", "O_NOFOLLOW", "setpgid", "sysconf", "waitid"),
        ],
        signals=["pthread_sigmask", "pthread_kill", "sigtimedwait", "SIGURG", "SIGHUP", "SIGKILL"],
    ),
    "without what macOS lacks": "import fcntl\ndel fcntl.F_SETLEASE, fcntl.F_GETLEASE\n"
    + _HIDING.format(modules=[], names=["pidfd_open"], signals=["sigtimedwait"]),
}


def run(prelude: str, directory: Path, file: Path) -> tuple[dict[str, object], str]:
    """Run the program after the *prelude*; return what it reports and what `dump` writes."""
    done = run_to_end(
        [sys.executable, "-c", prelude + _PROGRAM, str(directory), str(file)],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    report, _, page = done.stdout.partition("\n")
    return json.loads(report), page


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory with the files of two workers."""
    for pid, value in ((1, 2.0), (2, 3.0)):
        database.write(tmp_path / f"counter_{pid}.db", [counter("jobs", value)])
        database.write(tmp_path / f"gauge_max_{pid}.db", [gauge("top", value)])
    return tmp_path


@pytest.mark.parametrize("prelude", SYSTEMS.values(), ids=SYSTEMS)
def test_a_directory_is_merged_on_every_system(prelude: str, directory: Path) -> None:
    """`collect`, `Page` and `dump` merge the files of all workers, and report no problem."""
    report, page = run(prelude, directory, directory / "counter_1.db")
    assert report["text"] == page
    assert page == (
        "# HELP jobs_total help\n# TYPE jobs_total counter\njobs_total 5.0\n"
        "# HELP top help\n# TYPE top gauge\ntop 3.0\n"
    )
    assert (report["problems"], report["same"]) == ([], True)


@pytest.mark.parametrize("system", [name for name in SYSTEMS if name.startswith("without")])
def test_nothing_is_proven_dead_where_the_kernel_has_no_leases(
    system: str, directory: Path
) -> None:
    """Without leases the answer is "unknown", and compaction leaves every file."""
    files = sorted(os.listdir(directory))
    report, _ = run(SYSTEMS[system], directory, directory / "counter_1.db")
    assert (report["liveness"], report["files"]) == ("unknown", files)
