"""The dump from cron: a whole page, or the old page, whatever goes wrong."""

from __future__ import annotations

import os
import stat
import sysconfig
from typing import TYPE_CHECKING

import pytest

import mpmetrics
from tests.examples.programs import EXAMPLES, run
from tests.workers import Worker

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

SCRIPT = EXAMPLES / "cron_dump.sh"


class Crontab:
    """A line of a crontab that dumps *directory* to *page*."""

    def __init__(self, directory: Path, page: Path) -> None:
        """Run in an environment as bare as cron's."""
        self.directory = directory
        self.page = page
        self.path = [sysconfig.get_path("scripts"), *os.defpath.split(os.pathsep)]

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run the line."""
        return run(
            SCRIPT, self.directory, self.page, *options, env={"PATH": os.pathsep.join(self.path)}
        )


@pytest.fixture
def crontab(directory: Path, tmp_path: Path) -> Crontab:
    """Return a crontab for a directory with metrics, and an old page."""
    with Worker(directory) as worker:
        worker.do("Counter('jobs', 'Jobs done', ['queue']).labels('mail').inc(3)")
    collector = tmp_path / "node_exporter"
    collector.mkdir()
    page = collector / "shop.prom"
    page.write_text("before 1\n")
    return Crontab(directory, page)


def test_the_page_is_replaced(crontab: Crontab) -> None:
    """The new page is the merged one, all users can read it, and no other file is left."""
    done = crontab.run()

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert crontab.page.read_bytes() == mpmetrics.collect(crontab.directory).render()
    assert stat.S_IMODE(crontab.page.stat().st_mode) == 0o644
    assert list(crontab.page.parent.iterdir()) == [crontab.page]


def test_options_go_to_the_dump(crontab: Crontab) -> None:
    """Options of the script are passed to the dump."""
    assert crontab.run("--label", "app=shop").returncode == 0

    assert 'jobs_total{app="shop",queue="mail"} 3.0\n' in crontab.page.read_text()


def test_a_problem_is_reported_and_the_rest_dumped(crontab: Crontab) -> None:
    """A damaged file is reported in one line, and the other files are dumped."""
    (crontab.directory / "counter_1.db").write_bytes(b"\xff" * 100)

    done = crontab.run()

    assert (done.returncode, len(done.stderr.splitlines())) == (0, 1)
    assert 'jobs_total{queue="mail"} 3.0\n' in crontab.page.read_text()


def test_without_the_directory_the_old_page_stays(crontab: Crontab) -> None:
    """Without the directory the dump fails and the old page stays."""
    crontab.directory = crontab.directory / "missing"

    done = crontab.run()

    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert_untouched(crontab)


@pytest.mark.parametrize(
    ("end", "status"),
    [
        pytest.param("exit 1", 1, id="failed"),
        # The shell handles the signal as soon as the command has ended.
        pytest.param("kill -TERM $PPID", 1, id="terminated"),
    ],
)
def test_half_a_page_is_discarded(crontab: Crontab, tmp_path: Path, end: str, status: int) -> None:
    """A dump that is cut short leaves the old page."""
    program = tmp_path / "bin" / "mpmetrics"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho 'jobs_total{{qu'\n{end}\n")
    program.chmod(0o755)
    crontab.path.insert(0, str(program.parent))

    assert crontab.run().returncode == status
    assert_untouched(crontab)


def test_arguments_are_required() -> None:
    """Without arguments the script prints one line of usage."""
    done = run(SCRIPT, env={"PATH": os.defpath})

    assert (done.returncode, done.stderr) == (2, f"usage: {SCRIPT} DIR FILE [OPTION]...\n")


def assert_untouched(crontab: Crontab) -> None:
    """Check that the old page is the only file."""
    assert list(crontab.page.parent.iterdir()) == [crontab.page]
    assert crontab.page.read_text() == "before 1\n"
