"""What is wrong with a multiprocess set-up, and what to do about it, in plain words.

Each check looks at one thing and returns findings; `CHECKS` is the list. A check that cannot be
made on this system finds nothing.
"""

from __future__ import annotations

import os
import socket
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from mpmetrics.collector import Collection, collect
from mpmetrics.environment import OLD_VARIABLE, VARIABLE, why_unusable
from mpmetrics.errors import REASONS
from mpmetrics.mounts import Mount, mount_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

Level = Literal["error", "warning", "note", "ok"]
"""How bad a finding is: metrics are lost, may get lost or mislead, worth knowing, all is well."""


class Finding(NamedTuple):
    """One thing that the doctor found: *what* it is and what to do (*advice*)."""

    level: Level
    check: str
    what: str
    advice: str


class _Patient(NamedTuple):
    """What the checks look at."""

    path: str
    collection: Collection
    mount: Mount | None


def diagnose(path: str | os.PathLike[str] | None = None) -> list[Finding]:
    """Examine the directory *path*, or the one that the environment names.

    Returns findings, the worst first; a single "ok" when there is nothing to say.
    """
    findings = list(_check_variable()) if path is None else []
    directory = os.environ.get(VARIABLE, os.environ.get(OLD_VARIABLE)) if path is None else path
    if directory is not None:
        directory = os.fspath(directory)
        why = why_unusable(directory)
        if why:
            if directory:
                findings.append(_unusable(directory, why))
        else:
            patient = _Patient(directory, collect(directory), mount_of(directory))
            findings += [finding for check in CHECKS for finding in check(patient)]
    if not findings:
        findings = [Finding("ok", "all", f"nothing is wrong with {directory}", "")]
    return sorted(findings, key=lambda finding: _SEVERITY.index(finding.level))


_SEVERITY: Final = ("error", "warning", "note", "ok")


def _check_variable() -> Iterator[Finding]:
    """Look at the environment variable that workers go by."""
    if VARIABLE not in os.environ and OLD_VARIABLE in os.environ:
        yield Finding(
            "warning",
            "variable",
            f"the directory is given by the deprecated variable {OLD_VARIABLE}",
            f"set {VARIABLE} instead",
        )
    elif VARIABLE not in os.environ:
        yield Finding(
            "error",
            "variable",
            f"{VARIABLE} is not set: every worker keeps its metrics to itself",
            "set it, before Python starts, to a directory that all workers can write to, or name "
            "the directory here",
        )
    elif not os.environ[VARIABLE]:
        yield Finding(
            "error",
            "variable",
            f"{VARIABLE} is set but empty: workers write into their current directory",
            "set it to a directory of its own, or unset it",
        )


def _unusable(path: str, why: str) -> Finding:
    advice = {
        "no such directory": "create it before the server starts: workers fail at import without",
        "not a directory": "name a directory; the path is something else",
    }
    return Finding(
        "error",
        "directory",
        f"{path}: {why}",
        advice.get(why, "run this as the user of the server, or let this user read it"),
    )


def _check_permissions(patient: _Patient) -> Iterator[Finding]:
    if not os.access(patient.path, os.W_OK):
        yield Finding(
            "note",
            "directory",
            f"{patient.path} cannot be written to by this user",
            "fine for reading; workers that run as this user would fail",
        )


def _check_files(patient: _Patient) -> Iterator[Finding]:
    if not patient.collection.files and not patient.collection.problems:
        yield Finding(
            "warning",
            "files",
            f"{patient.path} is empty: no worker has written a metric yet",
            f"check that {VARIABLE} is set before prometheus_client is imported in the workers",
        )


_REMEDIES: Final = {
    "stranger": (
        "note",
        "move what is not prometheus_client's to another directory",
    ),
    "unreadable": ("error", "let this user read the files"),
    "vanished": ("note", "files went away while they were read; look again"),
    "damaged": (
        "error",
        "move the files away; they were cut short, are of an old format, or two processes with "
        "one pid wrote to them (containers that share a directory need different ids)",
    ),
    "type_conflict": ("error", "give the metrics different names"),
    "mode_conflict": ("error", "declare the gauge with the same multiprocess_mode everywhere"),
    "bucket_conflict": ("warning", "declare the histogram with the same buckets everywhere"),
    "duplicate_series": ("warning", "do not set the label `pid` yourself, or make it unique"),
    "name_clash": ("error", "rename one of the metrics"),
    "odd_sample": ("warning", "find out which program writes such samples"),
}

_SHOWN: Final = 3


def _check_problems(patient: _Patient) -> Iterator[Finding]:
    """Turn the problems of the merging into one finding for each reason."""
    by_reason = defaultdict(list)
    for problem in patient.collection.problems:
        by_reason[problem.reason].append(problem)
    for reason, problems in by_reason.items():
        level, advice = _REMEDIES.get(reason, ("warning", REASONS[reason]))
        examples = [f"{os.path.basename(each.path)}: {each.detail}" for each in problems[:_SHOWN]]
        if len(problems) > _SHOWN:
            examples.append(f"and {len(problems) - _SHOWN} more")
        what = f"{_plural(len(problems), 'problem')} of the kind {reason!r}: {'; '.join(examples)}"
        yield Finding(_as_level(level), reason, what, advice)


def _as_level(level: str) -> Level:
    return next(known for known in _LEVELS if known == level)


_LEVELS: Final[tuple[Level, ...]] = ("error", "warning", "note", "ok")


def _check_boot(patient: _Patient) -> Iterator[Finding]:
    """Find files that were last changed before this machine was started."""
    booted = _boot_time()
    if booted is None:
        return
    old = [file for file in patient.collection.files if _changed(file.path) < booted]
    if old:
        yield Finding(
            "warning",
            "other_run",
            f"{_plural(len(old), 'file')} were last written before {socket.gethostname()} was "
            "started: they come from an earlier run or from another machine",
            "empty the directory before the server starts, or keep it on a tmpfs",
        )


def _check_stale(patient: _Patient) -> Iterator[Finding]:
    """Find files whose id is a pid that does not run here."""
    if not os.path.isdir("/proc/self"):
        return
    ids = {file.name.id for file in patient.collection.files if file.name.id.isdecimal()}
    gone = {pid for pid in ids if not os.path.exists(f"/proc/{pid}")}
    if gone:
        files = [file for file in patient.collection.files if file.name.id in gone]
        live = sum(file.name.is_live for file in files)
        yield Finding(
            "note",
            "stale",
            f"{_plural(len(files), 'file')} of {_plural(len(gone), 'process', 'es')} that do not "
            f"run here (or run in a container of their own), {live} of them of live gauges",
            "call mpmetrics.mark_process_dead(pid) when a worker ends, so that its live gauges go",
        )


_NETWORK: Final = (
    *("nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "lustre", "afs", "gfs2"),
    *("ocfs2", "beegfs", "virtiofs", "vboxsf", "fuse"),
)


def _check_mount(patient: _Patient) -> Iterator[Finding]:
    mount = patient.mount
    if mount is not None and mount.kind.partition(".")[0] in _NETWORK:
        yield Finding(
            "error",
            "network",
            f"{patient.path} is on a {mount.kind} file system (mounted at {mount.point}): "
            "what workers write through memory maps may be seen late, or never",
            "use a local directory, best on a tmpfs",
        )


_NEARLY_FULL: Final = 0.1
_NEARLY_FULL_BYTES: Final = 16 << 20


def _check_space(patient: _Patient) -> Iterator[Finding]:
    """See whether there is room: a worker that finds none is killed by SIGBUS."""
    if not hasattr(os, "statvfs"):
        return
    status = os.statvfs(patient.path)
    size, free = status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize
    if not size or (free > _NEARLY_FULL * size and free > min(_NEARLY_FULL_BYTES, size // 4)):
        return
    kind = patient.mount.kind if patient.mount else "file system"
    yield Finding(
        "error",
        "space",
        f"the {kind} of {patient.path} has {free >> 20} MiB of {size >> 20} MiB left: when it is "
        "full, workers are killed by SIGBUS as soon as they touch a metric",
        "make it larger, or remove the files of processes that are gone",
    )


def _check_pid_labels(patient: _Patient) -> Iterator[Finding]:
    """Find gauges with a series for each process, which grow with every worker."""
    processes: dict[str, set[str]] = {}
    for family in patient.collection.families:
        if family.type == "gauge":
            pids = {sample.labels["pid"] for sample in family.samples if "pid" in sample.labels}
            if pids:
                processes[family.name] = pids
    if processes:
        most = max(len(pids) for pids in processes.values())
        yield Finding(
            "note",
            "pid_label",
            f"{_plural(len(processes), 'gauge')} have a series for each process, up to {most}: "
            f"{', '.join(sorted(processes))}",
            "declare them with a multiprocess_mode such as livesum, max or mostrecent",
        )


def _check_ids(patient: _Patient) -> Iterator[Finding]:
    """Find ids that suggest containers, where pid 1 is everybody."""
    counts = Counter(file.name.id for file in patient.collection.files)
    if counts.get("1"):
        yield Finding(
            "warning",
            "pid_1",
            "a process with pid 1 writes here; in another container that shares the directory "
            "there would be another pid 1, and both would write to the same file",
            "share the directory only between processes that see each other's pids",
        )


CHECKS: Final[Sequence[Callable[[_Patient], Iterable[Finding]]]] = (
    _check_permissions,
    _check_files,
    _check_problems,
    _check_boot,
    _check_stale,
    _check_ids,
    _check_mount,
    _check_space,
    _check_pid_labels,
)


def _changed(path: str) -> float:
    """Return when *path* was last written to, in seconds since the epoch; now if unknown."""
    try:
        return os.stat(path).st_mtime
    except OSError:
        return float("inf")


def _boot_time() -> float | None:
    """Return when this machine was started, in seconds since the epoch (proc(5), `btime`)."""
    try:
        with open("/proc/stat", encoding="ascii") as lines:
            return next((float(line.split()[1]) for line in lines if line.startswith("btime")), None)
    except OSError:
        return None


def _plural(count: int, noun: str, ending: str = "s") -> str:
    return f"{count} {noun}{'' if count == 1 else ending}"
