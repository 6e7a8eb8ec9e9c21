"""Files of real workers give the same families and pages as with prometheus_client's collector.

Workers under the oldest and the newest version write, and both versions read, each with its own
collector and with ours. The functions `known_…` below list what differs.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import multiprocess

import mpmetrics
from tests.conformance.conftest import CLIENTS, NEWEST, OLDEST
from tests.workers import environment, run_python

if TYPE_CHECKING:
    from collections.abc import Mapping

HERE = Path(__file__).parent
WORKERS = 4


@pytest.fixture(scope="module", params=CLIENTS)
def directory(
    request: pytest.FixtureRequest,
    clients: Mapping[str, Path | None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Return a directory that several workers wrote, one after the other."""
    path = tmp_path_factory.mktemp("written")
    env = environment(path, client=clients[request.param])
    for number in range(WORKERS):
        run_python(HERE / "program.py", str(number), env=env)
    return path


@pytest.fixture(scope="module", params=CLIENTS)
def reading(
    request: pytest.FixtureRequest, directory: Path, clients: Mapping[str, Path | None]
) -> dict[str, Any]:
    """Return the results of both collectors for the directory, under one version of the reader."""
    env = environment(None, client=clients[request.param])
    result: dict[str, Any] = json.loads(run_python(HERE / "reader.py", str(directory), env=env))
    return {**result, "client": request.param}


def known_number_difference(line: str, client: str) -> str:
    """Return a *line* of prometheus_client's as we write it.

    The oldest version writes a third digit of the exponent: `1e+012`.
    """
    return re.sub(r"e\+0(\d\d)$", r"e+\1", line) if client == OLDEST else line


def known_name_difference(line: str, client: str) -> str:
    """Return a *line* of prometheus_client's OpenMetrics as we write it.

    Newer versions replace the colons of sample names, but not those of the family.
    """
    return line.replace("with_colons_total", "with:colons_total") if client == NEWEST else line


def test_families_are_the_same(reading: dict[str, Any]) -> None:
    """Names, types, help and the set of samples with labels and values are prometheus_client's."""
    assert reading["ours"]["families"] == reading["theirs"]["families"]
    assert reading["rendered"]["families"] == reading["theirs"]["families"]


def test_nothing_is_reported(reading: dict[str, Any]) -> None:
    """Files of real workers have no problems."""
    assert reading["problems"] == []


def test_everything_was_compared(reading: dict[str, Any]) -> None:
    """The files have all types and all modes, and nothing that multiprocess mode lacks."""
    names = reading["theirs"]["families"].keys()
    types = {family["type"] for family in reading["theirs"]["families"].values()}
    assert types == {"counter", "gauge", "summary", "histogram"}
    assert {name for name in names if name.startswith("gauge_")} == {
        *("gauge_all", "gauge_min", "gauge_max", "gauge_sum", "gauge_mostrecent"),
        *("gauge_liveall", "gauge_livemin", "gauge_livemax", "gauge_livesum"),
        "gauge_livemostrecent",
    }
    assert not names & {"build", "state"}


def test_a_registry_writes_the_same_text_for_both_collectors(reading: dict[str, Any]) -> None:
    """A registry with our collector writes the same lines as with theirs, in both formats."""
    for form in ("text", "openmetrics", "parsed"):
        assert reading["ours"][form] == reading["theirs"][form]


def test_our_text_is_the_same(reading: dict[str, Any]) -> None:
    """Our renderer writes the same lines, which parse to the same families."""
    client = reading["client"]
    theirs = sorted(known_number_difference(line, client) for line in reading["theirs"]["text"])
    assert reading["rendered"]["text"] == theirs
    assert reading["rendered"]["parsed"] == reading["theirs"]["parsed"]


def test_our_openmetrics_is_the_same(reading: dict[str, Any]) -> None:
    """Our renderer writes the same lines of OpenMetrics."""
    client = reading["client"]
    theirs = [known_number_difference(line, client) for line in reading["theirs"]["openmetrics"]]
    theirs = [known_name_difference(line, client) for line in theirs]
    assert reading["rendered"]["openmetrics"] == sorted(theirs)


def test_the_same_files_of_a_dead_process_are_removed(directory: Path, tmp_path: Path) -> None:
    """Both functions `mark_process_dead` remove the same files of each process."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    shutil.copytree(directory, theirs)
    shutil.copytree(directory, ours)
    pids = {int(path.stem.rpartition("_")[2]) for path in directory.iterdir()}
    assert len(pids) == WORKERS
    for pid in pids:
        multiprocess.mark_process_dead(pid, str(theirs))
        mpmetrics.mark_process_dead(pid, ours)
        left = {path.name for path in ours.iterdir()}
        assert left == {path.name for path in theirs.iterdir()}
    assert len(left) == WORKERS * 8
