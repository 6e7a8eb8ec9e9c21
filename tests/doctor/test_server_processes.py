"""The running processes of the server that a directory is for."""

from __future__ import annotations

import os
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


@pytest.mark.skipif(os.name == "nt" or os.getuid() != 0, reason="needs root to become another user")
def test_a_user_without_rights_is_found(tmp_path: Path) -> None:
    """A process of another user may write only if the mode of the directory says so."""
    directory = tmp_path / "metrics"
    directory.mkdir(mode=0o700)
    with Worker(directory) as worker:
        assert [each.may_write for each in find_server_processes(str(directory))] == [True]
        worker.do("import os; os.setgroups([]); os.setgid(65534); os.setuid(65534)")
        for mode, may_write in ((0o700, False), (0o777, True), (0o770, False), (0o775, False)):
            directory.chmod(mode)
            assert [each.may_write for each in find_server_processes(str(directory))] == [may_write]
        os.chown(directory, 0, 65534)
        directory.chmod(0o770)
        assert [each.may_write for each in find_server_processes(str(directory))] == [True]
        os.chown(directory, 65534, 0)
        directory.chmod(0o500)
        assert [each.may_write for each in find_server_processes(str(directory))] == [False]
