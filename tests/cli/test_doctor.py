"""`mpmetrics doctor`: what it prints, and its exit status."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from mpmetrics.directory.liveness import Liveness
from mpmetrics.doctor.diagnosis import diagnose
from mpmetrics.doctor.probes import Probes
from mpmetrics.system.mounts import Space
from tests.cli.directories import fill
from tests.cli.processes import Ending, command, invoke, run
from tests.database import counter

if TYPE_CHECKING:
    from pathlib import Path


def _is_alive(path: str) -> Liveness:
    """Answer that this process is alive, and every other process is dead."""
    return Liveness.ALIVE if path.endswith(f"_{os.getpid()}.db") else Liveness.DEAD


MACHINE = Probes(
    boot_time=lambda: None,
    find_server_processes=lambda _: [],
    is_alive=_is_alive,
    find_mount=lambda _: None,
    measure_space=lambda _: None,
)
"""A machine of which little is known."""


def doctor(*arguments: str | Path, probes: Probes = MACHINE, **env: str | None) -> Ending:
    """Run `mpmetrics doctor` on a machine of the test."""
    return invoke("doctor", *arguments, obj=probes, **env)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory that this process could have written to."""
    return fill(tmp_path, {f"counter_{os.getpid()}.db": counter("requests", 1)})


def test_a_healthy_directory_is_one_line(directory: Path) -> None:
    """The doctor writes one line about a healthy directory, and exits with status 0."""
    what = f"nothing is wrong with {directory}: 1 metric from 1 file of 1 process"
    assert doctor(directory) == Ending(0, f"ok: {what}\n")
    named = doctor(PROMETHEUS_MULTIPROC_DIR=str(directory))
    assert named == Ending(0, f"ok: {what}\n")
    finding = {"level": "ok", "check": "all", "what": what, "advice": ""}
    status, stdout, stderr = doctor(directory, "--format", "json")
    assert (status, json.loads(stdout), stderr) == (0, {"findings": [finding]}, "")


def test_a_finding_has_two_lines(directory: Path) -> None:
    """A finding is a line, with the advice in a line below it; the worst comes first."""
    probes = MACHINE._replace(measure_space=lambda _: Space(64 << 20, 0))
    (directory / "odd\n\x1b[2J").touch()
    assert doctor(directory, probes=probes) == Ending(
        1,
        f"""\
error: the file system of {directory} is nearly full, 0 B of 64 MiB are left: when there is \
nothing left, workers are killed by SIGBUS as soon as they touch a metric
    make it larger (a tmpfs: mount -o remount,size=…,nr_inodes=…), and fold the files of \
processes that have ended with mpmetrics compact; do not delete them while the server runs, or \
totals fall
note: 1 thing in the directory that no worker wrote: odd\\n\\x1b[2J: the name is not that of a \
multiprocess metrics file
    move it to another place; prometheus_client's own collector fails on strange *.db files
""",
    )


def test_json_is_what_the_library_finds(directory: Path) -> None:
    """The JSON has every field of every finding, unchanged."""
    (directory / "odd\n").touch()
    (directory / "counter_8.db").write_bytes(b"damaged")
    status, stdout, stderr = doctor(directory, "--format", "json")
    assert (status, stderr) == (1, "")
    expected = [finding._asdict() for finding in diagnose(directory, MACHINE)]
    assert json.loads(stdout) == {"findings": expected}
    assert [finding["level"] for finding in expected] == ["error", "note"]


@pytest.mark.parametrize(
    ("name", "status"),
    [
        pytest.param("counter_1.db", 0, id="note"),
        pytest.param("counter_2.txt", 0, id="stranger"),
        pytest.param("gauge_livesum_2.db", 1, id="warning"),
    ],
)
def test_notes_are_not_a_failure(directory: Path, name: str, status: int) -> None:
    """A warning gives status 1; a note does not."""
    fill(directory, {name: []})
    ending = doctor(directory)
    assert (ending.status, ending.stderr) == (status, "")
    level = "warning" if status else "note"
    assert {line.split(":")[0] for line in ending.stdout.splitlines()[::2]} == {level}


@pytest.mark.parametrize(
    ("arguments", "variables", "line"),
    [
        pytest.param([], {}, "PROMETHEUS_MULTIPROC_DIR is not set", id="unset"),
        pytest.param(
            [],
            {"PROMETHEUS_MULTIPROC_DIR": ""},
            "PROMETHEUS_MULTIPROC_DIR is set but empty",
            id="empty",
        ),
        pytest.param(
            [],
            {"PROMETHEUS_MULTIPROC_DIR": "/nowhere/at/all"},
            "/nowhere/at/all: no such directory",
            id="nowhere",
        ),
        pytest.param(["/nowhere/at/all"], {}, "/nowhere/at/all: no such directory", id="argument"),
    ],
)
def test_a_set_up_without_a_directory_is_a_finding(
    arguments: list[str], variables: dict[str, str], line: str
) -> None:
    """A missing directory is a finding with status 1, not a usage error with status 2."""
    status, stdout, stderr = invoke("doctor", *arguments, **variables)
    assert (status, stderr) == (1, "")
    assert stdout.startswith(f"error: {line}")


def test_the_real_machine_is_examined(tmp_path: Path) -> None:
    """In a process of its own, without fakes, the doctor finds a damaged file."""
    fill(tmp_path, {"counter_7.db": counter("requests", 1)})
    (tmp_path / "gauge_max_7.db").write_bytes(b"x")
    flags = ["-X", "dev", "-W", "error"]
    status, stdout, stderr = run(command("doctor", tmp_path, "--format", "json", flags=flags))
    assert (status, stderr) == (1, "")
    found = {finding["check"]: finding for finding in json.loads(stdout)["findings"]}
    assert found["damaged"]["what"] == (
        "1 damaged file missing from the page: gauge_max_7.db: the file ends after 1 bytes, inside "
        "its header (at offset 0)"
    )
