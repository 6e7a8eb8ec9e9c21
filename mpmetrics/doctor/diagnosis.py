"""What is wrong with a multiprocess set-up, and what to do about it, in plain words.

First the environment, then whether there is a directory at all, then what
`mpmetrics.doctor.checks` has to say about it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final, get_args

from mpmetrics._text import plural
from mpmetrics.directory import OLD_VARIABLE, VARIABLE, is_alive, unusable_reason
from mpmetrics.doctor.checks import CHECKS, Examination
from mpmetrics.doctor.remedies import Finding, Level
from mpmetrics.scrape import collect
from mpmetrics.system import boot_time, find_mount, measure_space

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mpmetrics.directory import WorkerFile

_SEVERITY: Final[tuple[Level, ...]] = get_args(Level)


def diagnose(path: str | os.PathLike[str] | None = None) -> list[Finding]:
    """Examine the directory *path*, or the environment and the directory that it names.

    Returns findings, the worst first; a single "ok" when there is nothing to say.
    """
    findings: list[Finding] = []
    if path is None:
        findings += check_variable(os.environ)
        path = os.environ.get(_variable_in_use(os.environ))
        if not path:
            return findings
    directory = os.fspath(path)
    why = unusable_reason(directory)
    if why:
        findings.append(_unusable(directory, why))
    else:
        examination = examine(directory)
        findings += [finding for check in CHECKS for finding in check(examination)]
        findings = findings or [_healthy(examination)]
    return sorted(findings, key=lambda finding: _SEVERITY.index(finding.level))


def check_variable(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Look at the variable that tells workers where to write."""
    name = _variable_in_use(environment)
    path = environment.get(name)
    if path is None:
        yield Finding(
            "error",
            "variable",
            f"{name} is not set: every worker keeps its metrics to itself",
            "set it, before Python starts, to a directory that all workers can write to; or tell "
            "this command the directory",
        )
    elif not path:
        yield Finding(
            "error",
            "variable",
            f"{name} is set but empty: workers write into their current directory",
            "set it to a directory of its own, or unset it",
        )
    elif not os.path.isabs(path):
        yield Finding(
            "warning",
            "variable",
            f"{name} is the relative path {path}: every process starts from its own current "
            "directory",
            "set it to an absolute path",
        )
    if name == OLD_VARIABLE:
        yield Finding(
            "warning",
            "variable",
            f"the directory is given by the deprecated variable {OLD_VARIABLE}",
            f"set {VARIABLE} instead",
        )


def _variable_in_use(environment: Mapping[str, str]) -> str:
    """Return which of the two variables prometheus_client goes by."""
    only_old = OLD_VARIABLE in environment and VARIABLE not in environment
    return OLD_VARIABLE if only_old else VARIABLE


_WHAT_TO_DO: Final = {
    "no such directory": "create it before the server starts: a worker fails at its first metric",
    "not a directory": "remove what is there, or name a directory",
}


def _unusable(path: str, why: str) -> Finding:
    """Return the finding for a directory that cannot be examined."""
    what = f"{path}: {why}" if path else why
    advice = _WHAT_TO_DO.get(why, "let this user read it, or run this as the user of the workers")
    return Finding("error", "directory", what, advice if path else "name a directory")


def examine(path: str) -> Examination:
    """Look at everything that there is to see of the directory *path*."""
    collection = collect(path)
    return Examination(
        path,
        collection.files,
        collection.families,
        collection.problems,
        writable=os.access(path, os.W_OK | os.X_OK),
        old=_changed_before(boot_time(), collection.files),
        owners={file.path: is_alive(file.path) for file in _of_workers(collection.files)},
        quarantined=collection.quarantined,
        mount=find_mount(path),
        space=measure_space(path),
    )


def _of_workers(files: Sequence[WorkerFile]) -> list[WorkerFile]:
    """Return those of the *files* that a process has written, and no compaction."""
    return [file for file in files if not file.name.is_archive]


def _changed_before(moment: float | None, files: Sequence[WorkerFile]) -> frozenset[str]:
    """Return the paths of the *files* that were last written before *moment*."""
    if moment is None:
        return frozenset()
    old = set()
    for file in files:
        with suppress(OSError):  # it went away
            if os.stat(file.path).st_mtime < moment:
                old.add(file.path)
    return frozenset(old)


def _healthy(examination: Examination) -> Finding:
    """Return the one finding for a examination without any."""
    files = plural(len(examination.files), "file")
    ids = {file.name.id for file in _of_workers(examination.files)}
    processes = plural(len(ids), "process", "es")
    metrics = plural(len(examination.families), "metric")
    what = f"nothing is wrong with {examination.path}: {metrics} from {files} of {processes}"
    return Finding("ok", "all", what, "")
