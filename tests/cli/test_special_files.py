"""Directories with entries that are no regular files: no command waits for them or fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.directories import fill
from tests.cli.processes import command, invoke, run
from tests.database import counter
from tests.special_files import SPECIAL, make_special
from tests.workers import PATIENCE, environment, spawn

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX")

NAMES = [
    "MANIFEST",
    "counter_1.db",
    "gauge_livesum_1.db",
    "counter_1.db.folding-1",
    "counter_1.db.quarantined",
    "counter_mpmetrics-archive-1.db",
    ".mpmetrics-MANIFEST.new",
    ".mpmetrics-counter_mpmetrics-archive-1.db.new",
    ".mpmetrics-compaction.lock",
    ".mpmetrics-run.lock",
    ".mpmetrics-run.kept",
    ".mpmetrics-probe-1",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", SPECIAL)
def test_no_command_waits_for_a_special_file(kind: str, name: str, tmp_path: Path) -> None:
    """Whatever lies under a name, commands end, with the values of the other files."""
    fill(tmp_path, {"counter_7.db": counter("jobs", 3)})
    make_special(tmp_path / name, kind)
    for arguments in (["dump"], ["doctor"], ["compact", "--dry-run"], ["compact"], ["dump"]):
        status, stdout, stderr = invoke(*arguments, tmp_path)
        assert status in {0, 1}
        assert stderr.count("\n") <= 3
        if arguments == ["dump"]:
            assert (status, "jobs_total 3.0\n" in stdout) == (0, True)


@pytest.mark.parametrize("name", ["MANIFEST", "counter_1.db", "counter_mpmetrics-archive-1.db"])
def test_the_end_of_run_does_not_wait_for_a_pipe(name: str, tmp_path: Path) -> None:
    """`run` ends as its server does, and the page is served, with pipes in the directory."""
    fill(tmp_path, {"counter_7.db": counter("jobs", 3)})
    os.mkfifo(tmp_path / name)
    waiting = [sys.executable, "-c", "import signal; signal.pause()"]
    wrapped = command("run", "--dir", tmp_path, "--listen", "127.0.0.1:0", "--", *waiting)
    with spawn(wrapped, stderr=subprocess.PIPE, env=environment(None)) as process:
        assert process.stderr is not None
        while b"listening on" not in (line := process.stderr.readline()):
            assert line.startswith(b"mpmetrics: "), line  # what could not be folded before
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == -signal.SIGTERM


@pytest.mark.parametrize("option", ["--web-config"])
def test_a_device_is_no_file_of_a_user(option: str, tmp_path: Path) -> None:
    """A file of the user that has no end is a mistake."""
    status, stdout, stderr = run(command("serve", tmp_path, option, "/dev/zero"))
    assert (status, stdout, stderr.count("\n")) == (2, "", 1)
    assert "neither a file nor a pipe" in stderr
