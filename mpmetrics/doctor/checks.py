"""What a doctor looks at, and what each look can find.

A `Examination` is everything there is to see of a directory at one moment. Each check takes it and
yields findings, in plain words and with advice; `CHECKS` is the list. What this system does not
tell is None, and a check that would need it finds nothing.
"""

from __future__ import annotations

import os
from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics._text import format_bytes, plural
from mpmetrics.directory import VARIABLE, Liveness
from mpmetrics.doctor.remedies import REMEDIES, Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from prometheus_client import Metric

    from mpmetrics.directory import WorkerFile
    from mpmetrics.errors import Problem
    from mpmetrics.system import Mount, Space


class Examination(NamedTuple):
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


def check_permissions(examination: Examination) -> Iterator[Finding]:
    """See whether this user could be the workers' user."""
    if not examination.writable:
        yield Finding(
            "note",
            "directory",
            f"this user cannot write to {examination.path}",
            "fine for reading; workers that run as this user would fail",
        )


def check_files(examination: Examination) -> Iterator[Finding]:
    """See whether workers write here at all."""
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
    """Turn the problems of the merging into one finding for each reason."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for problem in examination.problems:
        example = f"{os.path.basename(problem.path)}: {problem.detail}"
        by_reason[problem.reason].append(example)
    for reason, examples in by_reason.items():
        level, noun, what, advice = REMEDIES[reason]
        count = plural(len(examples), noun)
        yield Finding(level, reason, f"{count} {what}: {_some(examples, '; ')}", advice)


def check_boot(examination: Examination) -> Iterator[Finding]:
    """Find files of a run that cannot be this machine's present one."""
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
    dead = _owned(examination, Liveness.DEAD)
    if not dead:
        return
    if not _owned(examination, Liveness.ALIVE, Liveness.UNKNOWN):
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


def check_owners(examination: Examination) -> Iterator[Finding]:
    """Find files of which nothing proves whether their process is alive."""
    unknown = _owned(examination, Liveness.UNKNOWN)
    if unknown:
        yield Finding(
            "note",
            "unknown_owner",
            f"{_files_of(unknown, 'process')} of which nothing proves whether it is alive, so that "
            "compaction leaves them alone",
            "run mpmetrics on Linux, as the user of the workers, and keep the directory on a local "
            "file system; where that is so, look again: somebody else may have been asking",
        )


def _owned(examination: Examination, *liveness: Liveness) -> Sequence[WorkerFile]:
    """Return the files of this run whose processes are thought of as *liveness* says."""
    return [
        file
        for file in examination.files
        if file.path not in examination.old and examination.owners.get(file.path) in liveness
    ]


def check_quarantined(examination: Examination) -> Iterator[Finding]:
    """Find damaged files that compaction has set aside."""
    names = [os.path.basename(path) for path in examination.quarantined]
    if names:
        yield Finding(
            "warning",
            "quarantined",
            f"{plural(len(names), 'damaged file')} of ended processes that compaction has set "
            f"aside: {_some(names, ', ')}",
            "their values are missing from the page; keep a file to find out what happened to it, "
            "or remove it",
        )


def check_ids(examination: Examination) -> Iterator[Finding]:
    """Find the id that suggests containers, where everybody is process 1."""
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


def check_space(examination: Examination) -> Iterator[Finding]:
    """See whether there is room for what workers write."""
    space = examination.space
    if space is not None and space.free < min(_NEARLY_FULL * space.size, _ENOUGH):
        kind = examination.mount.kind if examination.mount else "file system"
        yield Finding(
            "error",
            "space",
            f"the {kind} of {examination.path} is nearly full, {format_bytes(space.free)} of "
            f"{format_bytes(space.size)} are left: when there is nothing left, workers are killed "
            "by SIGBUS as soon as they touch a metric",
            "make it larger, or remove the files of processes that have ended",
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
            f"and more with every new worker: {_some(sorted(processes), ', ')}",
            "give them a multiprocess_mode that makes one number of all, such as livesum, max or "
            "mostrecent",
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
