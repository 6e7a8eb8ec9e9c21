"""`mpmetrics compact`: its output and its exit status."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import mpmetrics
from mpmetrics.directory import liveness
from mpmetrics.directory.locks import make_compaction_lock
from tests.cli.directories import fill
from tests.cli.processes import Ending, invoke
from tests.database import counter, encode, gauge

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    not liveness.HAS_LEASES, reason="this system has no file leases (Linux has them)"
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory of dead workers."""
    return fill(
        tmp_path,
        {
            "counter_7.db": counter("jobs", 1),
            "counter_8.db": counter("jobs", 2),
            "gauge_all_7.db": gauge("g", 1),
            "gauge_sum_7.db": gauge("lmcache:used", 5),
        },
    )


def test_the_result_is_written_to_standard_output(directory: Path) -> None:
    """The command writes a line for each kind of result, or that there was nothing to do."""
    would = (
        "3 files would be folded into the archives\n"
        "1 file would be dropped: gauges that end with their process\n"
    )
    assert invoke("compact", directory, "--dry-run") == Ending(0, would)
    assert invoke("compact", directory) == Ending(0, would.replace("would be ", ""))
    assert invoke("compact", directory) == Ending(0, "there is nothing to compact\n")


def test_the_directory_may_come_from_the_environment(directory: Path) -> None:
    """Without an argument the command takes the directory from the environment."""
    ending = invoke("compact", PROMETHEUS_MULTIPROC_DIR=str(directory))
    assert ending.status == 0
    assert ending.stdout.startswith("3 files folded")


def test_gauges_of_the_dead_can_be_kept(directory: Path) -> None:
    """The options for gauges of dead workers keep them on the page."""
    kept = ("--keep-dead-gauges", "--gauge-fate", "lmcache:=kept")
    assert invoke("compact", directory, *kept).stdout == (
        "3 files folded into the archives\n"
        "1 file left: kept: gauges of the dead are kept on demand\n"
    )
    page = mpmetrics.collect(directory).render()
    assert b'g{pid="7"} 1.0' in page
    assert b"lmcache:used 5.0" in page


def test_files_that_are_left_for_one_reason_are_one_line(directory: Path) -> None:
    """One line says of several files why each of them is left, in the singular of one of them."""
    fill(directory, {"gauge_all_8.db": gauge("g", 1)})
    assert invoke("compact", directory, "--keep-dead-gauges").stdout.endswith(
        "\n2 files left: each kept: gauges of the dead are kept on demand\n"
    )


def test_json_has_everything(directory: Path) -> None:
    """The JSON has the paths, the reasons and the generation."""
    fill(directory, {"counter_9.db": encode([counter("jobs", 1)])[:-2]})
    status, stdout, stderr = invoke("compact", directory, "--format", "json")
    document = json.loads(stdout)
    assert status == 0
    assert document.keys() == set(mpmetrics.Compaction._fields)
    assert (document["outcome"], document["generation"]) == ("folded", 1)
    assert document["folded"] == [
        str(directory / name) for name in ("counter_7.db", "counter_8.db", "gauge_sum_7.db")
    ]
    (damaged,) = document["quarantined"]
    assert (damaged["path"], damaged["reason"]) == (str(directory / "counter_9.db"), "damaged")
    assert stderr.startswith(f"mpmetrics: set aside: {directory}/counter_9.db: damaged: ")
    assert stderr.count("\n") == 1


def test_another_process_is_compacting(directory: Path) -> None:
    """It is no failure if another process is compacting: the work is being done."""
    with make_compaction_lock(str(directory)):
        ending = invoke("compact", directory)
    text = "another process is compacting this directory; nothing was done\n"
    assert ending == Ending(0, text)


def test_a_failure_is_one_line_and_status_1(directory: Path) -> None:
    """A MANIFEST that cannot be read is one line on standard error, and status 1."""
    (directory / "MANIFEST").write_text("?")
    status, stdout, stderr = invoke("compact", directory)
    assert (status, stdout, stderr.count("\n")) == (1, "", 1)
    assert stderr.startswith(f"mpmetrics: {directory}: not compacted: its MANIFEST")


@pytest.mark.parametrize("text", ["lmcache:", "lmcache:=lost", "=gone"])
def test_a_fate_other_than_kept_or_gone_is_a_mistake(directory: Path, text: str) -> None:
    """A fate that is neither kept nor gone is one line and status 2, and nothing is changed."""
    status, stdout, stderr = invoke("compact", directory, "--gauge-fate", text)
    assert (status, stdout, stderr.count("\n")) == (2, "", 1)
    assert "neither PREFIX=kept nor PREFIX=gone" in stderr
    assert not (directory / "MANIFEST").exists()
