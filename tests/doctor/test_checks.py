"""What each check of the doctor finds, as whole findings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

from mpmetrics.directory.files import FileName, WorkerFile
from mpmetrics.directory.liveness import Liveness
from mpmetrics.directory.writers import Writer
from mpmetrics.doctor import checks, process_checks, remedies
from mpmetrics.doctor.checks import CHECKS
from mpmetrics.doctor.examination import Examination
from mpmetrics.doctor.process_checks import PROCESS_CHECKS
from mpmetrics.doctor.remedies import Finding
from mpmetrics.doctor.server_processes import ServerProcess
from mpmetrics.errors import REASONS, Problem
from mpmetrics.system import mounts
from mpmetrics.system.mounts import Mount, Space

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from prometheus_client import Metric

    from mpmetrics.directory.writers import Place

MIB = 1 << 20


def worker_files(*names: str) -> list[WorkerFile]:
    """Return worker files with these names."""
    files = []
    for name in names:
        parsed = FileName.parse(name)
        assert parsed is not None
        files.append(WorkerFile(f"/m/{name}", parsed))
    return files


def gauge(name: str, label: str, *values: str) -> Metric:
    """Return a gauge with a series for each value of a label."""
    family = GaugeMetricFamily(name, "", labels=[label])
    for value in values:
        family.add_metric([value], 1.0)
    return family


def liveness_of(**words: str) -> dict[str, Liveness]:
    """Return the liveness by path, given as *words* by the names of the files without suffix."""
    return {f"/m/{name}.db": Liveness(word) for name, word in words.items()}


def examination(*names: str, **seen: Any) -> Examination:
    """Return an examination with files of these *names*, and whatever else is *seen*."""
    return Examination("/m", worker_files(*names), **{"families": (), "problems": (), **seen})


def server(
    pid: int, place: Place, elsewhere: str = "", arguments: Sequence[str] = ()
) -> ServerProcess:
    """Return a process of a server that writes to a *place*."""
    return ServerProcess(Writer(pid, place, elsewhere), arguments)


def problems(reason: str, count: int = 1) -> list[Problem]:
    """Return *count* problems with one reason."""
    return [Problem(f"/m/file{number}", reason, f"detail {number}") for number in range(count)]


HEALTHY = examination(
    "counter_7.db",
    "gauge_livesum_rust-1.db",
    "histogram_8.db",
    families=[CounterMetricFamily("requests", "", value=1), gauge("busy", "pid", "7")],
    liveness=liveness_of(counter_7="alive", histogram_8="alive"),
    mount=Mount("2", "1", "/m", "tmpfs"),
    space=Space(64 * MIB, 32 * MIB),
)

MAKE_ROOM = (
    "make it larger (a tmpfs: mount -o remount,size=…,nr_inodes=…), and fold the files of "
    "processes that have ended with mpmetrics compact; do not delete them while the server runs, "
    "or totals fall"
)

FINDINGS = {
    "gauges that are 0 everywhere": (
        examination(
            "gauge_sum_7.db",
            families=[
                GaugeMetricFamily("queue", "", value=0),
                GaugeMetricFamily("busy", "", value=1),
                CounterMetricFamily("requests", "", value=0),
                GaugeMetricFamily("empty", ""),
            ],
        ),
        Finding(
            "note",
            "gauges",
            "1 gauge with 0 in every process: queue",
            "fine, unless set_function was to set it: prometheus_client does not call the function "
            "in multiprocess mode; use set. Info, Enum and custom collectors are not in files",
        ),
    ),
    "not writable": (
        examination("counter_7.db", is_writable=False),
        Finding(
            "note",
            "directory",
            "this user cannot write to /m",
            "fine for reading; workers that run as this user would fail",
        ),
    ),
    "no files": (
        examination(),
        Finding(
            "warning",
            "files",
            "no worker has written a metric to /m yet",
            "check that the workers have PROMETHEUS_MULTIPROC_DIR set to this directory before "
            "they import prometheus_client, and that they have been asked for something",
        ),
    ),
    "stranger": (
        examination("counter_7.db", problems=problems("stranger")),
        Finding(
            "note",
            "stranger",
            "1 thing in the directory that no worker wrote: file0: detail 0",
            "move it to another place; prometheus_client's own collector fails on strange *.db "
            "files",
        ),
    ),
    "unreadable": (
        examination(problems=problems("unreadable", 2)),
        Finding(
            "error",
            "unreadable",
            "2 unreadable files missing from the page: file0: detail 0; file1: detail 1",
            "let this user read what the workers write, or run the scrape as their user",
        ),
    ),
    "vanished": (
        examination(problems=problems("vanished", 4)),
        Finding(
            "note",
            "vanished",
            "4 files gone between the listing and the reading: file0: detail 0; file1: detail 1; "
            "file2: detail 2; and 1 more",
            "look again; something removes files while the server runs",
        ),
    ),
    "damaged": (
        examination(problems=problems("damaged")),
        Finding(
            "error",
            "damaged",
            "1 damaged file missing from the page: file0: detail 0",
            "move it away once no worker uses it; it was cut short or overwritten, comes from "
            "another kind of machine, or two processes with the same pid wrote to it, as happens "
            "when containers share a directory",
        ),
    ),
    "two types": (
        examination(problems=problems("type_conflict")),
        Finding(
            "error",
            "type_conflict",
            "1 metric with one name but two types, of which only one is on the page: file0: "
            "detail 0",
            "give the metrics different names, or remove the files of an earlier version",
        ),
    ),
    "two modes": (
        examination(problems=problems("mode_conflict", 1235)),
        Finding(
            "error",
            "mode_conflict",
            "1,235 gauges with two modes, of which only one is on the page: file0: detail 0; "
            "file1: detail 1; file2: detail 2; and 1,232 more",
            "give the gauge the same multiprocess_mode everywhere, or remove the files of an "
            "earlier version",
        ),
    ),
    "different buckets": (
        examination(problems=problems("bucket_conflict")),
        Finding(
            "warning",
            "bucket_conflict",
            "1 histogram with different buckets, of which only the shared ones are on the page: "
            "file0: detail 0",
            "give the histogram the same buckets everywhere, or remove the files of an earlier "
            "version",
        ),
    ),
    "a pid label twice": (
        examination(problems=problems("duplicate_series")),
        Finding(
            "warning",
            "duplicate_series",
            "1 gauge value with a label pid that several processes set alike, of which only the "
            "last is on the page: file0: detail 0",
            "call the label something else; then each process keeps its own value",
        ),
    ),
    "a name twice": (
        examination(problems=problems("name_clash")),
        Finding(
            "error",
            "name_clash",
            "1 metric missing from the page because another one has samples of the same name: "
            "file0: detail 0",
            "rename one of them",
        ),
    ),
    "an odd sample": (
        examination(problems=problems("odd_sample")),
        Finding(
            "warning",
            "odd_sample",
            "1 sample missing from the page because metrics of this type have none like it: "
            "file0: detail 0",
            "find out which program writes it; prometheus_client does not",
        ),
    ),
    "a damaged manifest": (
        examination("counter_7.db", problems=problems("damaged_manifest")),
        Finding(
            "error",
            "damaged_manifest",
            "1 MANIFEST that cannot be used, so that the newest archives are taken and nothing is "
            "compacted: file0: detail 0",
            "let this user read it; if it is damaged, remove it: what is taken stays the same",
        ),
    ),
    "a lost manifest": (
        examination("counter_7.db", problems=problems("lost_manifest", 2)),
        Finding(
            "warning",
            "lost_manifest",
            "2 archives without the MANIFEST that says which archives count, so that the newest is "
            "taken: file0: detail 0; file1: detail 1",
            "a program that removes files from this directory should remove all of them, or none",
        ),
    ),
    "a leased file": (
        examination("counter_7.db", problems=problems("leased")),
        Finding(
            "warning",
            "leased",
            "1 file missing from the page because another process holds a lease on it for too "
            "long: file0: detail 0",
            "look again; if it stays so, find the process that compacts this directory and has "
            "stopped",
        ),
    ),
    "another run": (
        examination(
            "counter_7.db",
            "counter_8.db",
            old={"/m/counter_7.db"},
            liveness=liveness_of(counter_7="dead", counter_8="alive"),
        ),
        Finding(
            "warning",
            "other_run",
            "1 file last written before this machine was started: from an earlier run or from "
            "another machine, and still counted",
            "empty the directory before the server starts, or keep it on a tmpfs",
        ),
    ),
    "no process runs": (
        examination(
            "counter_7.db",
            "gauge_livesum_7.db",
            "counter_mpmetrics-archive-1.db",
            liveness=liveness_of(counter_7="dead", gauge_livesum_7="dead"),
        ),
        Finding(
            "note",
            "stale",
            "2 files of 1 ended process, and none of a live one: the server is stopped",
            "empty the directory before the next start: what lies here would be counted in",
        ),
    ),
    "some have ended": (
        examination(
            "counter_7.db",
            "counter_8.db",
            "gauge_all_8.db",
            liveness=liveness_of(counter_7="alive", counter_8="dead", gauge_all_8="dead"),
        ),
        Finding(
            "note",
            "stale",
            "2 files of 1 ended process: what was counted stays in the totals, and every scrape "
            "reads them",
            "run mpmetrics compact now and then, or start the server with mpmetrics run",
        ),
    ),
    "many have ended": (
        examination(
            *(f"counter_{pid}.db" for pid in range(1000, 1101)),
            liveness=liveness_of(**{f"counter_{pid}": "dead" for pid in range(1000, 1100)})
            | liveness_of(counter_1100="alive"),
        ),
        Finding(
            "warning",
            "stale",
            "100 files of 100 ended processes: what was counted stays in the totals, and every "
            "scrape reads them",
            "run mpmetrics compact now and then, or start the server with mpmetrics run",
        ),
    ),
    "live gauges of the dead": (
        examination(
            "counter_7.db",
            "gauge_livesum_8.db",
            "gauge_liveall_9.db",
            liveness=liveness_of(counter_7="alive", gauge_livesum_8="dead", gauge_liveall_9="dead"),
        ),
        Finding(
            "warning",
            "stale",
            "2 files of 2 ended processes: live gauges that are still on the page",
            "run mpmetrics compact now and then, or start the server with mpmetrics run",
        ),
    ),
    "nothing proves anything": (
        examination(
            "counter_7.db",
            "gauge_all_7.db",
            "counter_8.db",
            liveness=liveness_of(counter_7="unknown", gauge_all_7="unknown", counter_8="alive"),
        ),
        Finding(
            "note",
            "unknown_owner",
            "2 files of 1 process of which nothing proves whether it is alive, so that compaction "
            "leaves them alone",
            "run mpmetrics on Linux, as the user of the workers, and keep the directory on a local "
            "file system; where that is so, look again: another process may have asked",
        ),
    ),
    "set aside": (
        examination(
            "counter_7.db", quarantined=[f"/m/counter_{pid}.db.quarantined" for pid in range(4)]
        ),
        Finding(
            "warning",
            "quarantined",
            "4 damaged files of ended processes that compaction has set aside: "
            "counter_0.db.quarantined, counter_1.db.quarantined, counter_2.db.quarantined, and 1 "
            "more",
            "their values are missing from the page; keep a file to find out what happened to it, "
            "or remove it",
        ),
    ),
    "pid 1": (
        examination("counter_1.db", "counter_7.db"),
        Finding(
            "note",
            "pid_1",
            "a process with pid 1 writes here, as in a container; a second container on the same "
            "directory would have the same pids and overwrite its files",
            "let containers share a directory only if they share their pids, too",
        ),
    ),
    "network": (
        examination("counter_7.db", mount=Mount("2", "1", "/net", "fuse.sshfs")),
        Finding(
            "warning",
            "network",
            "/m is on a file system of type fuse.sshfs (mounted at /net), as networks have: "
            "another machine sees late or never what a worker writes, and may have the same pids; "
            "when the network hangs, so do the workers",
            "use a local directory on each machine, best on a tmpfs",
        ),
    ),
    "nearly full": (
        examination(
            "counter_7.db",
            mount=Mount("2", "1", "/m", "tmpfs"),
            space=Space(64 * MIB, 6 * MIB),
        ),
        Finding(
            "error",
            "space",
            "the tmpfs of /m is nearly full, 6 MiB of 64 MiB are left: when there is nothing left, "
            "workers are killed by SIGBUS as soon as they touch a metric",
            MAKE_ROOM,
        ),
    ),
    "nearly full of something": (
        examination("counter_7.db", space=Space(1 << 40, 60 * MIB)),
        Finding(
            "error",
            "space",
            "the file system of /m is nearly full, 60 MiB of 1 TiB are left: when there is "
            "nothing left, workers are killed by SIGBUS as soon as they touch a metric",
            MAKE_ROOM,
        ),
    ),
    "nearly no inodes": (
        examination("counter_7.db", space=Space(64 * MIB, 32 * MIB, 100, 9)),
        Finding(
            "error",
            "inodes",
            "the file system of /m has nearly no inodes left, 9 of 100: without one, a worker "
            "fails when it makes its first metric",
            MAKE_ROOM,
        ),
    ),
    "metrics elsewhere": (
        examination(
            "counter_7.db",
            processes=[
                *(server(7, "directory"), server(8, "elsewhere", "/b")),
                *(server(9, "elsewhere", "/a"), server(10, "elsewhere", "/a")),
            ],
        ),
        Finding(
            "warning",
            "elsewhere",
            "metrics of this server are not in /m, although its processes, or their parents, were "
            "started with that directory: process 9 to /a, process 8 to /b",
            "a library or the application sets PROMETHEUS_MULTIPROC_DIR itself: have it use this "
            "directory, or start the server with mpmetrics run --adopt",
        ),
    ),
    "workers of another user": (
        examination(
            "counter_7.db",
            processes=[server(7, "directory"), server(8, "nothing")._replace(may_write=False)],
        ),
        Finding(
            "error",
            "users",
            "1 process of the server may not write to /m, so that a request fails as soon as it "
            "counts something: 8",
            "give the directory to the user that the workers run as, with chown, or with "
            "mpmetrics run --user",
        ),
    ),
    "removed files": (
        examination("counter_7.db", processes=[server(7, "directory"), server(8, "removed")]),
        Finding(
            "warning",
            "removed",
            "1 process with files that were removed from /m, so that what is counted there is "
            "lost: 8",
            "restart the server; empty the directory only before it starts",
        ),
    ),
    "uWSGI": (
        examination(
            "counter_7.db", processes=[server(7, "directory", arguments=["uwsgi", "--master"])]
        ),
        Finding(
            "warning",
            "sigterm",
            "uWSGI (process 7) reloads at SIGTERM instead of ending",
            "start it with --die-on-term",
        ),
    ),
    "folded while the server runs": (
        examination(
            *("counter_7.db", "counter_mpmetrics-archive-1.db"), processes=[server(7, "directory")]
        ),
        Finding(
            "note",
            "scrape_route",
            "files are folded while the server runs: if your application has a route of its own "
            "that uses prometheus_client's collector, that can fail, or lack a file, during a fold",
            "scrape the page of mpmetrics, or call mpmetrics.install() in the application",
        ),
    ),
    "pid labels": (
        examination(
            "gauge_all_7.db",
            "gauge_liveall_8.db",
            families=[
                *(gauge("b", "pid", "7", "8"), gauge("a", "pid", "7"), gauge("c", "l", "7")),
                *(gauge("users_own", "pid", "x"), CounterMetricFamily("d", "", value=1)),
            ],
        ),
        Finding(
            "note",
            "pid_label",
            "2 gauges with a series for each process, up to 2, and more with every new worker: "
            "a, b",
            "give them a multiprocess_mode that makes one number of all, such as livesum, max or "
            "mostrecent",
        ),
    ),
}


def run_checks(examination: Examination) -> list[Finding]:
    """Return what all checks find."""
    return [finding for check in CHECKS for finding in check(examination)]


@pytest.mark.parametrize(("examination", "finding"), FINDINGS.values(), ids=FINDINGS)
def test_each_fault_has_its_finding(examination: Examination, finding: Finding) -> None:
    """Each fault gives exactly one finding, and no other check finds anything."""
    assert run_checks(examination) == [finding]


@pytest.mark.parametrize(
    "examination",
    [
        pytest.param(HEALTHY, id="healthy"),
        pytest.param(HEALTHY._replace(liveness={}, mount=None, space=None), id="nothing-known"),
        pytest.param(
            HEALTHY._replace(space=Space(64 * MIB, 6 * MIB + MIB // 2)), id="a-tenth-is-left"
        ),
        pytest.param(HEALTHY._replace(space=Space(1 << 40, 64 * MIB)), id="full-but-enough"),
        pytest.param(
            HEALTHY._replace(space=Space(1 << 40, 1 << 39, 1 << 20, 1000)), id="enough-inodes"
        ),
        pytest.param(
            HEALTHY._replace(mount=Mount("2", "1", "/m", "fuseblk")), id="local-disk-through-fuse"
        ),
        pytest.param(HEALTHY._replace(files=worker_files("gauge_livesum_a.db")), id="no-pids"),
    ],
)
def test_nothing_is_found_where_nothing_is_wrong(examination: Examination) -> None:
    """A healthy directory, or one of which little is known, has no finding."""
    assert run_checks(examination) == []


def test_strangers_alone_are_not_workers() -> None:
    """A directory of strangers alone has both findings: it may be the wrong directory."""
    found = run_checks(examination(problems=problems("stranger")))
    assert [(finding.level, finding.check) for finding in found] == [
        ("warning", "files"),
        ("note", "stranger"),
    ]


def test_live_gauges_of_dead_workers_are_worse_than_their_counters() -> None:
    """A dead worker's live gauges are a warning of their own; its counters are a note."""
    files = ["counter_7.db", "counter_8.db", "gauge_livesum_8.db"]
    known = liveness_of(counter_7="alive", counter_8="dead", gauge_livesum_8="dead")
    found = run_checks(examination(*files, liveness=known))
    assert [(finding.level, finding.check) for finding in found] == [
        ("warning", "stale"),
        ("note", "stale"),
    ]


@pytest.mark.parametrize("kind", mounts.NETWORK_KINDS)
def test_every_network_file_system_is_found(kind: str) -> None:
    """A directory on a file system of any known network type has the finding "network"."""
    (finding,) = run_checks(examination("counter_7.db", mount=Mount("2", "1", "/m", kind)))
    assert finding.check == "network"


def test_every_reason_has_a_remedy() -> None:
    """Every reason of a problem that a directory can have has a remedy, and no other has."""
    of_pages = {"source_failed", "source_late", "uncompacted", "directory_lost", "callback_failed"}
    of_pages |= {"help_conflict", "repeated_series"}
    assert set(remedies.REMEDIES) == REASONS.keys() - of_pages


def functions(module: ModuleType) -> Sequence[Any]:
    """Return the check functions of *module*, in their order."""
    return [value for name, value in vars(module).items() if name.startswith("check_")]


def test_every_check_is_listed() -> None:
    """The lists of checks have every check function of their modules, in its order."""
    assert list(PROCESS_CHECKS) == functions(process_checks)
    assert [each for each in CHECKS if each not in PROCESS_CHECKS] == functions(checks)
    assert {*PROCESS_CHECKS} < {*CHECKS}


def test_a_server_that_has_written_nothing_has_a_note_more() -> None:
    """Beside the warning that there is no file, the processes that could write are named."""
    silent = examination(processes=[server(7, "nothing"), server(8, "nothing")])
    without, with_note = run_checks(silent)
    assert without == FINDINGS["no files"][1]
    assert with_note == Finding(
        "note",
        "silence",
        "2 processes with PROMETHEUS_MULTIPROC_DIR set to this directory, and no metrics file in "
        "use: 7, 8",
        "look whether the application imports prometheus_client, and whether anything that it "
        "counts has happened",
    )


def test_without_inodes_nothing_can_be_proven() -> None:
    """The proof that a process has ended needs an inode: the advice names that cause."""
    space = Space(64 * MIB, 32 * MIB, 100, 0)
    found = examination("counter_7.db", liveness=liveness_of(counter_7="unknown"), space=space)
    (finding,) = [each for each in run_checks(found) if each.check == "unknown_owner"]
    assert "no inode left" in finding.advice
    assert "Linux" not in finding.advice
