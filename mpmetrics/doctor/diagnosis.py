"""The diagnosis of a multiprocess set-up: findings and advice, in plain words.

It checks the environment first, then whether the directory can be read at all, then everything in
it by `mpmetrics.doctor.checks`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final, get_args

from mpmetrics._text import plural
from mpmetrics.directory import OLD_VARIABLE, VARIABLE, find_mistake
from mpmetrics.doctor.checks import CHECKS
from mpmetrics.doctor.examination import Examination
from mpmetrics.doctor.probes import Probes
from mpmetrics.doctor.remedies import Finding, Level
from mpmetrics.scrape import collect

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mpmetrics.directory import WorkerFile

_SEVERITY: Final[tuple[Level, ...]] = get_args(Level)


_REAL_MACHINE: Final = Probes()


def diagnose(
    path: str | os.PathLike[str] | None = None, probes: Probes = _REAL_MACHINE
) -> list[Finding]:
    """Examine the directory *path*, or without it, the environment and the directory it names.

    *probes* answer the questions about the machine. Returns findings, the worst first; a single
    "ok" when nothing is wrong.
    """
    findings: list[Finding] = []
    if path is None:
        findings += check_variable(os.environ)
        path = os.environ.get(_variable_in_use(os.environ))
        if not path:
            return findings
    directory = os.fspath(path)
    why = probes.unusable_reason(directory)
    if why:
        findings.append(_make_unusable_finding(directory, why))
    else:
        examination = examine(directory, probes)
        findings += [finding for check in CHECKS for finding in check(examination)]
        findings = findings or [_make_healthy_finding(examination)]
    return sorted(findings, key=lambda finding: _SEVERITY.index(finding.level))


def check_variable(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Find what is wrong with the variable that names the directory to workers."""
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
    elif find_mistake(path):
        if os.path.isdir(path):  # or the finding for a directory that is missing has the mistake
            yield Finding(
                "warning",
                "variable",
                f"{name} is taken as it is, {path!r}: {find_mistake(path)}",
                _CORRECT,
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
    """Return the name of the variable that prometheus_client reads, of two."""
    only_old = OLD_VARIABLE in environment and VARIABLE not in environment
    return OLD_VARIABLE if only_old else VARIABLE


_CORRECT: Final = "correct the path where it is set: no program replaces anything in it"

_ADVICE: Final = {
    "no such directory": "create it before the server starts: a worker fails at its first metric",
    "not a directory": "remove what is there, or name a directory",
}


def _make_unusable_finding(path: str, why: str) -> Finding:
    """Return the finding for a directory that cannot be examined."""
    what = f"{path}: {why}" if path else why
    advice = _ADVICE.get(why, "let this user read it, or run this as the user of the workers")
    if why.startswith("no such directory: "):
        is_misspelt = bool(find_mistake(path))
        advice = _CORRECT if is_misspelt else "make that directory, or remove the link"
    return Finding("error", "directory", what, advice if path else "name a directory")


def examine(path: str, probes: Probes) -> Examination:
    """Examine the directory *path* by reading it and asking the *probes*."""
    collection = collect(path)
    workers = _select_workers(collection.files)
    return Examination(
        path,
        collection.files,
        collection.families,
        collection.problems,
        is_writable=probes.is_writable(path),
        old=_list_unchanged_since(probes.boot_time(), collection.files),
        liveness={file.path: probes.is_alive(file.path) for file in workers},
        quarantined=collection.quarantined,
        mount=probes.find_mount(path),
        space=probes.measure_space(path),
        processes=probes.find_server_processes(path),
    )


def _select_workers(files: Sequence[WorkerFile]) -> list[WorkerFile]:
    """Select the *files* that a worker has written, not a compactor."""
    return [file for file in files if not file.name.is_archive]


def _list_unchanged_since(moment: float | None, files: Sequence[WorkerFile]) -> frozenset[str]:
    """List the paths of the *files* that were last written before *moment*."""
    if moment is None:
        return frozenset()
    old = set()
    for file in files:
        with suppress(OSError):  # the file has vanished
            if os.stat(file.path).st_mtime < moment:
                old.add(file.path)
    return frozenset(old)


def _make_healthy_finding(examination: Examination) -> Finding:
    """Return the finding for an *examination* in which no check finds anything."""
    workers = _select_workers(examination.files)
    files = plural(len(workers), "file")
    processes = plural(len({file.name.id for file in workers}), "process", "es")
    archives = len(examination.files) - len(workers)
    origin = f"{files} of {processes}" + (f" and {plural(archives, 'archive')}" if archives else "")
    metrics = plural(len(examination.families), "metric")
    what = f"nothing is wrong with {examination.path}: {metrics} from {origin}"
    return Finding("ok", "all", what, "")
