"""The diagnosis of an environment, its directory, and everything in it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from mpmetrics.directory.liveness import Liveness
from mpmetrics.directory.manifest import Manifest
from mpmetrics.doctor.diagnosis import diagnose as diagnose_with
from mpmetrics.doctor.probes import Probes
from mpmetrics.doctor.remedies import Finding
from mpmetrics.system.mounts import Mount, Space
from tests.cli.directories import fill
from tests.database import counter, encode, gauge, histogram

if TYPE_CHECKING:
    from pathlib import Path

VARIABLE, OLD_VARIABLE = "PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"
BOOTED = 1_700_000_000.0


MACHINE = Probes(
    boot_time=lambda: BOOTED,
    find_server_processes=lambda _: [],
    is_alive=lambda _: Liveness.ALIVE,
    find_mount=lambda path: Mount("2", "1", path, "tmpfs"),
    measure_space=lambda _: Space(1 << 30, 1 << 29),
)
"""A machine with nothing wrong about it."""


def diagnose(path: str | Path | None = None, probes: Probes = MACHINE) -> list[Finding]:
    """Diagnose on a machine of the test."""
    return diagnose_with(path, probes)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in an environment that names no directory."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.delenv(OLD_VARIABLE, raising=False)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a healthy directory."""
    files = {f"counter_{pid}.db": counter("requests", 1) for pid in (7, 8)}
    return fill(tmp_path, {**files, "gauge_livesum_7.db": gauge("busy", 1)})


def healthy(directory: Path) -> Finding:
    """Return the one finding for the healthy directory."""
    what = f"nothing is wrong with {directory}: 2 metrics from 3 files of 2 processes"
    return Finding("ok", "all", what, "")


def test_a_healthy_directory_is_well(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A healthy directory has exactly one finding, whether an argument or the variable names it."""
    assert diagnose(directory) == [healthy(directory)]
    monkeypatch.setenv(VARIABLE, str(directory))
    assert diagnose() == [healthy(directory)]


UNSET = Finding(
    "error",
    "variable",
    f"{VARIABLE} is not set: every worker keeps its metrics to itself",
    "set it, before Python starts, to a directory that all workers can write to; or tell this "
    "command the directory",
)
DEPRECATED = Finding(
    "warning",
    "variable",
    f"the directory is given by the deprecated variable {OLD_VARIABLE}",
    f"set {VARIABLE} instead",
)


def empty(variable: str) -> Finding:
    """Return the finding for a *variable* without content."""
    return Finding(
        "error",
        "variable",
        f"{variable} is set but empty: workers write into their current directory",
        "set it to a directory of its own, or unset it",
    )


@pytest.mark.parametrize(
    ("variables", "findings"),
    [
        pytest.param({}, [UNSET], id="unset"),
        pytest.param({VARIABLE: ""}, [empty(VARIABLE)], id="empty"),
        pytest.param({VARIABLE: "", OLD_VARIABLE: "/m"}, [empty(VARIABLE)], id="empty-beats-old"),
        pytest.param({OLD_VARIABLE: ""}, [empty(OLD_VARIABLE), DEPRECATED], id="old-and-empty"),
    ],
)
def test_a_variable_that_names_nothing(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], findings: list[Finding]
) -> None:
    """A variable that is unset or empty is the only finding: there is no directory to examine."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert diagnose() == findings


def test_the_deprecated_variable_is_reported(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deprecated variable is reported only where the new one is not set."""
    monkeypatch.setenv(OLD_VARIABLE, str(directory))
    assert diagnose() == [DEPRECATED]
    monkeypatch.setenv(VARIABLE, str(directory))
    assert diagnose() == [healthy(directory)]


def test_a_relative_path_is_reported(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path in the variable is a warning; a relative argument is not."""
    monkeypatch.chdir(directory.parent)
    monkeypatch.setenv(VARIABLE, directory.name)
    assert diagnose() == [
        Finding(
            "warning",
            "variable",
            f"{VARIABLE} is the relative path {directory.name}: every process starts from its own "
            "current directory",
            "set it to an absolute path",
        )
    ]
    assert diagnose(directory.name)[0].level == "ok"


def test_a_mistake_in_the_variable_is_one_finding(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path that a shell would have changed is one finding, whether it exists or not."""
    advice = "correct the path where it is set: no program replaces anything in it"
    quoted = f'"{directory}"'
    mistake = f"the path has quotes around it; is {directory} meant?"
    monkeypatch.setenv(VARIABLE, quoted)
    assert diagnose() == unusable(quoted, f"no such directory: {mistake}", advice)
    monkeypatch.chdir(directory)
    (directory / "'x'").mkdir()
    fill(directory / "'x'", {"counter_7.db": counter("requests", 1)})
    monkeypatch.setenv(VARIABLE, "'x'")
    what = f"{VARIABLE} is taken as it is, \"'x'\": the path has quotes around it"
    assert diagnose() == [Finding("warning", "variable", what, advice)]


def test_a_symbolic_link_to_nothing(tmp_path: Path) -> None:
    """The finding for a dangling link names its target."""
    (tmp_path / "link").symlink_to("target")
    why = "no such directory: it is a symbolic link to target, where there is nothing"
    advice = "make that directory, or remove the link"
    assert diagnose(tmp_path / "link") == unusable(tmp_path / "link", why, advice)


def unusable(path: object, why: str, advice: str) -> list[Finding]:
    """Return the finding for a path that cannot be examined at all."""
    return [Finding("error", "directory", f"{path}: {why}", advice)]


def test_a_path_that_is_not_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing directory, a file and an empty path are errors, each with its own advice."""
    missing, file = tmp_path / "missing", tmp_path / "file"
    file.touch()
    advice = "create it before the server starts: a worker fails at its first metric"
    assert diagnose(missing) == unusable(missing, "no such directory", advice)
    monkeypatch.setenv(VARIABLE, str(missing))
    assert diagnose() == diagnose(missing)
    advice = "remove what is there, or name a directory"
    assert diagnose(file) == unusable(file, "not a directory", advice)
    assert diagnose("") == [Finding("error", "directory", "the path is empty", "name a directory")]


def test_a_directory_of_another_user(directory: Path) -> None:
    """A directory that cannot be written to has a note; one that cannot be read, only an error."""
    probes = MACHINE._replace(is_writable=lambda _: False)
    assert [(finding.level, finding.check) for finding in diagnose(directory, probes)] == [
        ("note", "directory")
    ]
    why = "the directory cannot be read by this user"
    probes = MACHINE._replace(unusable_reason=lambda _: why)
    advice = "let this user read it, or run this as the user of the workers"
    assert diagnose(directory, probes) == unusable(directory, why, advice)


def test_files_of_an_earlier_run_are_found(directory: Path) -> None:
    """A file that was last written before the machine was started comes from an earlier run."""
    os.utime(directory / "counter_7.db", (BOOTED - 1, BOOTED - 1))
    os.utime(directory / "counter_8.db", (BOOTED, BOOTED))
    (finding,) = diagnose(directory)
    assert (finding.level, finding.check) == ("warning", "other_run")
    assert finding.what.startswith("1 file last written before this machine was started")


def test_a_machine_that_tells_nothing(directory: Path) -> None:
    """On a system without these facts the checks that need them find nothing."""
    probes = MACHINE._replace(
        boot_time=lambda: None, find_mount=lambda _: None, measure_space=lambda _: None
    )
    assert diagnose(directory, probes) == [healthy(directory)]


def test_a_file_that_vanishes_is_not_an_error(directory: Path) -> None:
    """A file that is removed between the scrape and the checks gives no finding."""

    def end_worker() -> float:
        (directory / "counter_8.db").unlink()
        return BOOTED

    probes = MACHINE._replace(boot_time=end_worker)
    assert diagnose(directory, probes) == [healthy(directory)]


def test_what_compaction_has_left_is_found(directory: Path) -> None:
    """A damaged MANIFEST is an error, and a quarantined file is a warning."""
    (directory / "MANIFEST").write_text("{")
    (directory / "counter_9.db.quarantined").touch()
    manifest, quarantined = diagnose(directory)
    assert (manifest.level, manifest.check) == ("error", "damaged_manifest")
    assert (quarantined.level, quarantined.check) == ("warning", "quarantined")
    assert "counter_9.db.quarantined" in quarantined.what


def test_an_archive_is_not_a_process(directory: Path) -> None:
    """An archive is neither a worker's file nor a process, and its liveness is not asked for."""
    name = "counter_mpmetrics-archive-1.db"
    fill(directory, {name: counter("requests", 1)})
    (directory / "MANIFEST").write_bytes(Manifest(1, (name,)).format())
    asked = []

    def is_alive(path: str) -> Liveness:
        asked.append(path)
        return Liveness.ALIVE

    (finding,) = diagnose(directory, MACHINE._replace(is_alive=is_alive))
    assert str(directory / name) not in asked
    assert finding.what == (
        f"nothing is wrong with {directory}: 2 metrics from 3 files of 2 processes and 1 archive"
    )


@pytest.mark.parametrize(
    ("liveness", "check"),
    [
        pytest.param(Liveness.DEAD, "stale", id="dead"),
        pytest.param(Liveness.UNKNOWN, "unknown_owner", id="unknown"),
    ],
)
def test_the_liveness_of_workers_is_reported(
    directory: Path, liveness: Liveness, check: str
) -> None:
    """Dead workers and workers of unknown liveness have a note of their own."""
    (finding,) = diagnose(directory, MACHINE._replace(is_alive=lambda _: liveness))
    assert (finding.level, finding.check) == ("note", check)


def test_disagreements_between_files_are_found(directory: Path) -> None:
    """The problems of a scrape become one finding for each reason, the worst first."""
    fill(
        directory,
        {
            "counter_8.db": encode([counter("requests", 1)])[:-8],
            "gauge_max_7.db": [gauge("requests", 1), gauge("mode", 1)],
            "gauge_min_7.db": gauge("mode", 1),
            "histogram_7.db": histogram("h", {"1.0": 1, "2.0": 1, "+Inf": 0}),
            "histogram_8.db": histogram("h", {"1.0": 1, "3.0": 1, "+Inf": 0}),
        },
    )
    (directory / "README").touch()
    found = [(finding.level, finding.check) for finding in diagnose(directory)]
    assert sorted(found[:3]) == [
        ("error", "damaged"),
        ("error", "mode_conflict"),
        ("error", "type_conflict"),
    ]
    assert found[3:] == [("warning", "bucket_conflict"), ("note", "stranger")]
