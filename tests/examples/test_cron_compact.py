"""The compaction from cron: silent unless there is a problem, and without loss."""

from __future__ import annotations

import os
import sysconfig
from typing import TYPE_CHECKING

import pytest

import mpmetrics
from mpmetrics.directory import liveness
from tests.examples.programs import EXAMPLES, run
from tests.workers import Worker

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

SCRIPT = EXAMPLES / "cron_compact.sh"


def compact(directory: Path | str) -> subprocess.CompletedProcess[str]:
    """Run the script in an environment as bare as cron's."""
    path = [sysconfig.get_path("scripts"), *os.defpath.split(os.pathsep)]
    return run(SCRIPT, str(directory), env={"PATH": os.pathsep.join(path)})


@pytest.mark.skipif(not liveness.HAS_LEASES, reason="this system has no file leases")
def test_dead_workers_are_folded_in_silence(directory: Path) -> None:
    """Files of dead workers are folded, those of live ones stay, and the page is the same."""
    with Worker(directory) as living, Worker(directory) as dead:
        for worker in (living, dead):
            worker.do("Counter('jobs', '').inc(3)")
        dead.kill()
        before = mpmetrics.collect(directory).render()
        ended = compact(directory)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
        assert mpmetrics.collect(directory).render() == before
        assert sorted(path.name for path in directory.glob("*.db")) == [
            f"counter_{living.pid}.db",
            "counter_mpmetrics-archive-1.db",
        ]


def test_a_mistake_is_reported(tmp_path: Path) -> None:
    """A mistake is reported on standard error, which cron mails."""
    ended = compact(tmp_path / "nowhere")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "nowhere" in ended.stderr
