"""The running processes of the server that a directory is for."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from mpmetrics.directory.writers import Writer
from mpmetrics.doctor.diagnosis import diagnose
from mpmetrics.doctor.server_processes import find_server_processes
from tests.workers import Worker

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs the lists of Linux")


def test_workers_and_their_children_are_found(tmp_path: Path) -> None:
    """Processes that were started with the directory are found, with where they write."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    assert find_server_processes(str(one)) == []
    with Worker(one) as worker:
        (found,) = find_server_processes(str(one))
        assert found.writer == Writer(worker.pid, "nothing")
        assert found.arguments[0] == sys.executable
        assert find_server_processes(str(other)) == []
        worker.do("Counter('jobs', 'help').inc()")
        (found,) = find_server_processes(str(one))
        assert found.writer == Writer(worker.pid, "directory")


def test_a_library_that_sets_the_variable_is_found(tmp_path: Path) -> None:
    """The doctor names the other directory of a process that was started with this one."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    with Worker(one) as worker:
        worker.do(f"import os; os.environ['PROMETHEUS_MULTIPROC_DIR'] = {str(other)!r}")
        worker.do("Counter('jobs', 'help').inc()")
        found = {finding.check: finding for finding in diagnose(one)}
    assert found["elsewhere"].level == "warning"
    assert found["elsewhere"].what.endswith(f": process {worker.pid} to {other}")
