"""The checks of the doctor.

Each check takes an `Examination` and yields findings, in plain words and with advice; `CHECKS`
lists them all. What this system cannot tell is None, and a check that needs it finds nothing.
"""

from __future__ import annotations

import os
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from mpmetrics._text import format_bytes, plural
from mpmetrics.directory import VARIABLE, Liveness
from mpmetrics.doctor.examination import Examination, list_some
from mpmetrics.doctor.process_checks import PROCESS_CHECKS
from mpmetrics.doctor.remedies import REMEDIES, Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mpmetrics.directory import WorkerFile


def check_permissions(examination: Examination) -> Iterator[Finding]:
    """Find a directory that this user cannot write to, as workers must."""
    if not examination.is_writable:
        yield Finding(
            "note",
            "directory",
            f"this user cannot write to {examination.path}",
            "fine for reading; workers that run as this user would fail",
        )


def check_files(examination: Examination) -> Iterator[Finding]:
    """Find a directory that no worker has written to."""
    if not examination.files and all(
        problem.reason == "stranger" for problem in examination.problems
    ):
        yield Finding(
            "warning",
            "files",
            f"no worker has written a metric to {examination.path} yet",
            f"check that the workers have {VARIABLE} set to this directory before they import "
            "prometheus_client, and that they have been asked for something",
        )


def check_problems(examination: Examination) -> Iterator[Finding]:
    """Make one finding of all problems with one reason."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for problem in examination.problems:
        example = f"{os.path.basename(problem.path)}: {problem.detail}"
        by_reason[problem.reason].append(example)
    for reason, examples in by_reason.items():
        level, noun, what, advice = REMEDIES[reason]
        count = plural(len(examples), noun)
        yield Finding(level, reason, f"{count} {what}: {list_some(examples, '; ')}", advice)


def check_boot(examination: Examination) -> Iterator[Finding]:
    """Find files that were written before this machine was started, by an earlier run."""
    if examination.old:
        yield Finding(
            "warning",
            "other_run",
            f"{plural(len(examination.old), 'file')} last written before this machine was started: "
            "from an earlier run or from another machine, and still counted",
            "empty the directory before the server starts, or keep it on a tmpfs",
        )


def check_stale(examination: Examination) -> Iterator[Finding]:
    """Find files whose process has ended."""
    dead = _select_by_liveness(examination, Liveness.DEAD)
    if not dead:
        return
    if not _select_by_liveness(examination, Liveness.ALIVE, Liveness.UNKNOWN):
        yield Finding(
            "note",
            "stale",
            f"{_tally(dead, 'ended process')}, and none of a live one: the server is stopped",
            "empty the directory before the next start: what lies here would be counted in",
        )
        return
    live_gauges = [file for file in dead if file.name.is_live]
    kept = [file for file in dead if not file.name.is_live]
    if live_gauges:
        yield Finding(
            "warning",
            "stale",
            f"{_tally(live_gauges, 'ended process')}: live gauges that are still on the page",
            _FOLD,
        )
    if kept:
        yield Finding(
            "warning" if len(kept) >= _MANY else "note",
            "stale",
            f"{_tally(kept, 'ended process')}: what was counted stays in the totals, and every "
            "scrape reads them",
            _FOLD,
        )


_MANY: Final = 100
"""The number of dead workers' files that is worth a warning: most servers have fewer in all."""

_FOLD: Final = "run mpmetrics compact now and then, or start the server with mpmetrics run"


_PROVE: Final = (
    "run mpmetrics on Linux, as the user of the workers, and keep the directory on a local file "
    "system; where that is so, look again: another process may have asked"
)
_PROVE_WITH_INODE: Final = (
    "the proof needs a file of its own, and the file system has no inode left: make it larger "
    "(a tmpfs: mount -o remount,nr_inodes=…), and look again"
)


def check_owners(examination: Examination) -> Iterator[Finding]:
    """Find files whose process is not proven to be alive or dead."""
    unknown = _select_by_liveness(examination, Liveness.UNKNOWN)
    space = examination.space
    if unknown:
        yield Finding(
            "note",
            "unknown_owner",
            f"{_tally(unknown, 'process')} of which nothing proves whether it is alive, so that "
            "compaction leaves them alone",
            _PROVE_WITH_INODE if space is not None and space.has_no_inode else _PROVE,
        )


def _select_by_liveness(examination: Examination, *liveness: Liveness) -> Sequence[WorkerFile]:
    """Return the files whose process has that *liveness*, without those of an earlier run."""
    return [
        file
        for file in examination.files
        if file.path not in examination.old and examination.liveness.get(file.path) in liveness
    ]


def check_quarantined(examination: Examination) -> Iterator[Finding]:
    """Find damaged files that compaction has set aside."""
    names = [os.path.basename(path) for path in examination.quarantined]
    if names:
        yield Finding(
            "warning",
            "quarantined",
            f"{plural(len(names), 'damaged file')} of ended processes that compaction has set "
            f"aside: {list_some(names, ', ')}",
            "their values are missing from the page; keep a file to find out what happened to it, "
            "or remove it",
        )


def check_ids(examination: Examination) -> Iterator[Finding]:
    """Find the id 1, which suggests containers: each has a process 1."""
    if any(file.name.id == "1" for file in examination.files):
        yield Finding(
            "note",
            "pid_1",
            "a process with pid 1 writes here, as in a container; a second container on the same "
            "directory would have the same pids and overwrite its files",
            "let containers share a directory only if they share their pids, too",
        )


def check_mount(examination: Examination) -> Iterator[Finding]:
    """Find a file system that more than one machine can write to."""
    mount = examination.mount
    if mount is not None and mount.is_networked:
        yield Finding(
            "warning",
            "network",
            f"{examination.path} is on a file system of type {mount.kind} "
            f"(mounted at {mount.point}), as networks have: another machine sees late or "
            "never what a worker writes, and may have the same pids; when the network hangs, so do "
            "the workers",
            "use a local directory on each machine, best on a tmpfs",
        )


_NEARLY_FULL: Final = 0.1
_ENOUGH: Final = 64 << 20
"""Bytes that are enough however large the file system; a worker's file begins with 64 KiB."""

_ENOUGH_INODES: Final = 1000
"""Inodes that are enough: a worker makes a file for each type of metric and each mode of gauge."""

_MAKE_ROOM: Final = (
    "make it larger (a tmpfs: mount -o remount,size=…,nr_inodes=…), and fold the files of "
    "processes that have ended with mpmetrics compact; do not delete them while the server runs, "
    "or totals fall"
)


def check_space(examination: Examination) -> Iterator[Finding]:
    """Find a file system with too little room for what workers write."""
    space = examination.space
    if space is None:
        return
    kind = examination.mount.kind if examination.mount else "file system"
    if space.free < min(_NEARLY_FULL * space.size, _ENOUGH):
        yield Finding(
            "error",
            "space",
            f"the {kind} of {examination.path} is nearly full, {format_bytes(space.free)} of "
            f"{format_bytes(space.size)} are left: when there is nothing left, workers are killed "
            "by SIGBUS as soon as they touch a metric",
            _MAKE_ROOM,
        )
    if space.free_inodes < min(_NEARLY_FULL * space.inodes, _ENOUGH_INODES):
        yield Finding(
            "error",
            "inodes",
            f"the {kind} of {examination.path} has nearly no inodes left, {space.free_inodes:,} of "
            f"{space.inodes:,}: without one, a worker fails when it makes its first metric",
            _MAKE_ROOM,
        )


_MODES_BY_PROCESS: Final = frozenset({"all", "liveall"})


def check_pid_labels(examination: Examination) -> Iterator[Finding]:
    """Find gauges with a series for each process, which grow with every worker."""
    ids = {file.name.id for file in examination.files if file.name.mode in _MODES_BY_PROCESS}
    processes: dict[str, set[str]] = {}
    for family in examination.families if ids else ():
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
            f"and more with every new worker: {list_some(sorted(processes), ', ')}",
            "give them a multiprocess_mode that makes one number of all, such as livesum, max or "
            "mostrecent",
        )


def check_zero_gauges(examination: Examination) -> Iterator[Finding]:
    """Find gauges that are 0 in every process, as those with a function are that is not called."""
    zero = [
        family.name
        for family in examination.families
        if family.type == "gauge"
        and family.samples
        and not any(sample.value for sample in family.samples)
    ]
    if zero:
        yield Finding(
            "note",
            "gauges",
            f"{plural(len(zero), 'gauge')} with 0 in every process: "
            f"{list_some(sorted(zero), ', ')}",
            "fine, unless set_function was to set it: prometheus_client does not call the function "
            "in multiprocess mode; use set. Info, Enum and custom collectors are not in files",
        )


CHECKS: Final[Sequence[Callable[[Examination], Iterator[Finding]]]] = (
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
    *PROCESS_CHECKS,
    check_pid_labels,
    check_zero_gauges,
)


def _tally(files: Sequence[WorkerFile], process: str) -> str:
    """Return a phrase: how many *files* of how many processes; *process* is the noun for one."""
    processes = len({file.name.id for file in files})
    return f"{plural(len(files), 'file')} of {plural(processes, process, 'es')}"
