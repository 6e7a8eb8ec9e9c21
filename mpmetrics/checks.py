"""What a doctor looks at, and what each look can find.

A `Patient` is everything there is to see of a directory at one moment. Each check takes it and
yields findings, in plain words and with advice; `CHECKS` is the list. What this system does not
tell is None, and a check that would need it finds nothing.
"""

from __future__ import annotations

import os
from collections import defaultdict
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from mpmetrics.environment import VARIABLE
from mpmetrics.liveness import Liveness
from mpmetrics.wording import format_bytes, plural

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from prometheus_client import Metric

    from mpmetrics.errors import Problem
    from mpmetrics.files import WorkerFile
    from mpmetrics.mounts import Mount, Space

Level = Literal["error", "warning", "note", "ok"]
"""How bad a finding is: metrics are lost, may get lost or mislead, worth knowing, all is well."""


class Finding(NamedTuple):
    """One thing that the doctor found: *what* it is and what to do (*advice*)."""

    level: Level
    check: str
    what: str
    advice: str


class Patient(NamedTuple):
    """The directory *path* and what is to be seen of it.

    *files* are the files that went into *families*, and *problems* is what was wrong with them.
    *old* are the paths of those that were last written before this machine was started. *owners*
    says by path whether the process that writes a file is alive, and *quarantined* are the paths
    of damaged files that compaction has set aside.
    """

    path: str
    files: Sequence[WorkerFile]
    families: Sequence[Metric]
    problems: Sequence[Problem]
    writable: bool = True
    old: Collection[str] = ()
    owners: Mapping[str, Liveness] = {}
    quarantined: Sequence[str] = ()
    mount: Mount | None = None
    space: Space | None = None


_SHOWN: Final = 3
"""How many names or examples a finding lists."""


def check_permissions(patient: Patient) -> Iterator[Finding]:
    """See whether this user could be the workers' user."""
    if not patient.writable:
        yield Finding(
            "note",
            "directory",
            f"this user cannot write to {patient.path}",
            "fine for reading; workers that run as this user would fail",
        )


def check_files(patient: Patient) -> Iterator[Finding]:
    """See whether workers write here at all."""
    if not patient.files and all(problem.reason == "stranger" for problem in patient.problems):
        yield Finding(
            "warning",
            "files",
            f"no worker has written a metric to {patient.path} yet",
            f"check that the workers have {VARIABLE} set to this directory before they import "
            "prometheus_client, and that they have been asked for something",
        )


class Remedy(NamedTuple):
    """What one reason of a `Problem` is to a person: how bad, of *what*, and what to do."""

    level: Level
    noun: str
    what: str
    advice: str


REMEDIES: Final[Mapping[str, Remedy]] = {
    "stranger": Remedy(
        "note",
        "thing",
        "in the directory that no worker wrote",
        "move it to another place; prometheus_client's own collector fails on strange *.db files",
    ),
    "unreadable": Remedy(
        "error",
        "unreadable file",
        "missing from the page",
        "let this user read what the workers write, or run the scrape as their user",
    ),
    "vanished": Remedy(
        "note",
        "file",
        "gone between the listing and the reading",
        "look again; something removes files while the server runs",
    ),
    "leased": Remedy(
        "warning",
        "file",
        "missing from the page because somebody holds a lease on it for too long",
        "look again; if it stays so, find the process that compacts this directory and has stopped",
    ),
    "lost_manifest": Remedy(
        "warning",
        "archive",
        "without the MANIFEST that says which archives count, so that the newest is taken",
        "whoever removes files from this directory should remove all of them, or none",
    ),
    "damaged_manifest": Remedy(
        "error",
        "MANIFEST",
        "that cannot be used, so that the newest archives are taken and nothing is compacted",
        "let this user read it; if it is damaged, remove it: what is taken stays the same",
    ),
    "damaged": Remedy(
        "error",
        "damaged file",
        "missing from the page",
        "move it away once no worker uses it; it was cut short or overwritten, comes from another "
        "kind of machine, or two processes with the same pid wrote to it, as happens when "
        "containers share a directory",
    ),
    "type_conflict": Remedy(
        "error",
        "metric",
        "with one name but two types, of which only one is on the page",
        "give the metrics different names, or remove the files of an earlier version",
    ),
    "mode_conflict": Remedy(
        "error",
        "gauge",
        "with two modes, of which only one is on the page",
        "give the gauge the same multiprocess_mode everywhere, or remove the files of an earlier "
        "version",
    ),
    "bucket_conflict": Remedy(
        "warning",
        "histogram",
        "with different buckets, of which only the shared ones are on the page",
        "give the histogram the same buckets everywhere, or remove the files of an earlier version",
    ),
    "duplicate_series": Remedy(
        "warning",
        "gauge value",
        "with a label pid that several processes set alike, of which only the last is on the page",
        "call the label something else; then each process keeps its own value",
    ),
    "name_clash": Remedy(
        "error",
        "metric",
        "missing from the page because another one has samples of the same name",
        "rename one of them",
    ),
    "odd_sample": Remedy(
        "warning",
        "sample",
        "missing from the page because metrics of this type have none like it",
        "find out which program writes it; prometheus_client does not",
    ),
}
"""The remedy for each reason that a problem with a directory can have."""


def check_problems(patient: Patient) -> Iterator[Finding]:
    """Turn the problems of the merging into one finding for each reason."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for problem in patient.problems:
        example = f"{os.path.basename(problem.path)}: {problem.detail}"
        by_reason[problem.reason].append(example)
    for reason, examples in by_reason.items():
        level, noun, what, advice = REMEDIES[reason]
        count = plural(len(examples), noun)
        yield Finding(level, reason, f"{count} {what}: {_some(examples, '; ')}", advice)


def check_boot(patient: Patient) -> Iterator[Finding]:
    """Find files of a run that cannot be this machine's present one."""
    if patient.old:
        yield Finding(
            "warning",
            "other_run",
            f"{plural(len(patient.old), 'file')} last written before this machine was started: "
            "from an earlier run or from another machine, and still counted",
            "empty the directory before the server starts, or keep it on a tmpfs",
        )


def check_stale(patient: Patient) -> Iterator[Finding]:
    """Find files whose process has ended."""
    dead = _owned(patient, Liveness.DEAD)
    if not dead:
        return
    if not _owned(patient, Liveness.ALIVE, Liveness.UNKNOWN):
        yield Finding(
            "note",
            "stale",
            f"{_files_of(dead, 'ended process')}, and none of a live one: the server is stopped",
            "empty the directory before the next start: what lies here would be counted in",
        )
        return
    live = [file for file in dead if file.name.is_live]
    kept = [file for file in dead if not file.name.is_live]
    if live:
        yield Finding(
            "warning",
            "stale",
            f"{_files_of(live, 'ended process')}: live gauges that are still on the page",
            _FOLD,
        )
    if kept:
        yield Finding(
            "warning" if len(kept) >= _MANY else "note",
            "stale",
            f"{_files_of(kept, 'ended process')}: what was counted stays in the totals, and every "
            "scrape reads them",
            _FOLD,
        )


_MANY: Final = 100
"""Files of the dead that are too many: by then they cost more than those of most servers."""

_FOLD: Final = "run mpmetrics compact now and then, or start the server with mpmetrics run"


def check_owners(patient: Patient) -> Iterator[Finding]:
    """Find files of which nothing proves whether their process is alive."""
    unknown = _owned(patient, Liveness.UNKNOWN)
    if unknown:
        yield Finding(
            "note",
            "unknown_owner",
            f"{_files_of(unknown, 'process')} of which nothing proves whether it is alive, so that "
            "compaction leaves them alone",
            "run mpmetrics on Linux, as the user of the workers, and keep the directory on a local "
            "file system; where that is so, look again: somebody else may have been asking",
        )


def _owned(patient: Patient, *liveness: Liveness) -> Sequence[WorkerFile]:
    """Return the files of this run whose processes are thought of as *liveness* says."""
    return [
        file
        for file in patient.files
        if file.path not in patient.old and patient.owners.get(file.path) in liveness
    ]


def check_quarantined(patient: Patient) -> Iterator[Finding]:
    """Find damaged files that compaction has set aside."""
    names = [os.path.basename(path) for path in patient.quarantined]
    if names:
        yield Finding(
            "warning",
            "quarantined",
            f"{plural(len(names), 'damaged file')} of ended processes that compaction has set "
            f"aside: {_some(names, ', ')}",
            "their values are missing from the page; keep a file to find out what happened to it, "
            "or remove it",
        )


def check_ids(patient: Patient) -> Iterator[Finding]:
    """Find the id that suggests containers, where everybody is process 1."""
    if any(file.name.id == "1" for file in patient.files):
        yield Finding(
            "note",
            "pid_1",
            "a process with pid 1 writes here, as in a container; a second container on the same "
            "directory would have the same pids and overwrite its files",
            "let containers share a directory only if they share their pids, too",
        )


def check_mount(patient: Patient) -> Iterator[Finding]:
    """Find a file system that more than one machine can write to."""
    mount = patient.mount
    if mount is not None and mount.is_networked:
        yield Finding(
            "warning",
            "network",
            f"{patient.path} is on a file system of type {mount.kind} (mounted at {mount.point}), "
            "as networks have: another machine sees late or never what a worker writes, and may "
            "have the same pids; when the network hangs, so do the workers",
            "use a local directory on each machine, best on a tmpfs",
        )


_NEARLY_FULL: Final = 0.1
_ENOUGH: Final = 64 << 20
"""Bytes that are enough however large the file system; a worker's file begins with 64 KiB."""


def check_space(patient: Patient) -> Iterator[Finding]:
    """See whether there is room for what workers write."""
    space = patient.space
    if space is not None and space.free < min(_NEARLY_FULL * space.size, _ENOUGH):
        kind = patient.mount.kind if patient.mount else "file system"
        yield Finding(
            "error",
            "space",
            f"the {kind} of {patient.path} is nearly full, {format_bytes(space.free)} of "
            f"{format_bytes(space.size)} are left: when there is nothing left, workers are killed "
            "by SIGBUS as soon as they touch a metric",
            "make it larger, or remove the files of processes that have ended",
        )


_MODES_BY_PROCESS: Final = frozenset({"all", "liveall"})


def check_pid_labels(patient: Patient) -> Iterator[Finding]:
    """Find gauges with a series for each process, which grow with every worker."""
    ids = {file.name.id for file in patient.files if file.name.mode in _MODES_BY_PROCESS}
    processes: dict[str, set[str]] = {}
    for family in patient.families if ids else ():
        if family.type == "gauge":
            pids = {sample.labels["pid"] for sample in family.samples if "pid" in sample.labels}
            if pids & ids:
                processes[family.name] = pids
    if processes:
        most = max(map(len, processes.values()))
        yield Finding(
            "note",
            "pid_label",
            f"{plural(len(processes), 'gauge')} with a series for each process, up to {most:,}, "
            f"and more with every new worker: {_some(sorted(processes), ', ')}",
            "give them a multiprocess_mode that makes one number of all, such as livesum, max or "
            "mostrecent",
        )


CHECKS: Final[Sequence[Callable[[Patient], Iterator[Finding]]]] = (
    check_permissions,
    check_files,
    check_problems,
    check_boot,
    check_stale,
    check_owners,
    check_quarantined,
    check_ids,
    check_mount,
    check_space,
    check_pid_labels,
)


def _files_of(files: Sequence[WorkerFile], process: str) -> str:
    """Return how many *files* of how many processes these are; *process* is what to call one."""
    processes = len({file.name.id for file in files})
    return f"{plural(len(files), 'file')} of {plural(processes, process, 'es')}"


def _some(names: Sequence[str], separator: str) -> str:
    """Return the first few of the *names*, and how many more there are."""
    more = len(names) - _SHOWN
    return separator.join([*names[:_SHOWN], *([f"and {more:,} more"] if more > 0 else [])])
