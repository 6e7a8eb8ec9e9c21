"""Where a process writes its metrics."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from mpmetrics.directory.writers import Writer, find_writer
from mpmetrics.system.open_files import OpenFile
from tests.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param([], Writer(7, "nothing"), id="none"),
        pytest.param(["/m/counter_7.db"], Writer(7, "directory"), id="here"),
        pytest.param(["/o/counter_7.db"], Writer(7, "elsewhere", "/o"), id="elsewhere"),
        pytest.param(
            ["/m/counter_7.db", "/p/counter_7.db", "/o/gauge_all_7.db"],
            Writer(7, "elsewhere", "/o"),
            id="both",
        ),
        pytest.param(["/o/cache.db", "/o/counter.db"], Writer(7, "nothing"), id="strange-names"),
        pytest.param(["-/m/counter_7.db"], Writer(7, "removed"), id="removed"),
        pytest.param(["-/m/counter_7.db", "/m/counter_7.db"], Writer(7, "directory"), id="again"),
        pytest.param(["-/o/counter_7.db"], Writer(7, "nothing"), id="removed-elsewhere"),
    ],
)
def test_the_place_follows_from_the_files(files: list[str], expected: Writer) -> None:
    """Files with the names of metrics files decide; those elsewhere count most."""
    found = [OpenFile(each.removeprefix("-"), is_deleted=each.startswith("-")) for each in files]
    assert find_writer(7, "/m", lambda *_: found) == expected


def test_of_a_hidden_process_nothing_is_known() -> None:
    """A process of another user has no place."""

    def refuse(*_: object) -> Iterable[OpenFile]:
        raise PermissionError

    assert find_writer(7, "/m", refuse) == Writer(7, "unknown")


@pytest.mark.skipif(sys.platform != "linux", reason="needs the lists of Linux")
def test_a_real_worker_is_found(tmp_path: Path) -> None:
    """A worker of prometheus_client is found in its directory, by whatever name that is given."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    (tmp_path / "link").symlink_to("one")
    with Worker(one) as worker:
        assert find_writer(worker.pid, str(one)).place == "nothing"
        worker.do("Counter('jobs', 'help').inc()")
        for path in one, tmp_path / "link":
            assert find_writer(worker.pid, str(path)) == Writer(worker.pid, "directory")
        elsewhere = Writer(worker.pid, "elsewhere", os.fspath(one))
        assert find_writer(worker.pid, str(other)) == elsewhere
        for file in one.iterdir():
            file.unlink()
        assert find_writer(worker.pid, str(one)) == Writer(worker.pid, "removed")
