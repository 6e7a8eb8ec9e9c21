"""The checks of the server's running processes: where they write, as which user, how they end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mpmetrics._text import plural
from mpmetrics.directory import VARIABLE
from mpmetrics.doctor.examination import Examination, list_some
from mpmetrics.doctor.remedies import Finding
from mpmetrics.system import UWSGI_ADVICE, reloads_at_sigterm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mpmetrics.doctor.server_processes import ServerProcess


def check_elsewhere(examination: Examination) -> Iterator[Finding]:
    """Find processes that were given the directory, and write to another one."""
    by_directory: dict[str, int] = {}
    for process in examination.processes:
        if process.writer.place == "elsewhere":
            by_directory.setdefault(process.writer.elsewhere, process.writer.pid)
    if by_directory:
        places = [f"process {pid} to {path}" for path, pid in sorted(by_directory.items())]
        yield Finding(
            "warning",
            "elsewhere",
            f"metrics of this server are not in {examination.path}, although its processes, or "
            f"their parents, were started with that directory: {list_some(places, ', ')}",
            f"a library or the application sets {VARIABLE} itself: have it use this directory, "
            "or start the server with mpmetrics run --adopt",
        )


def check_users(examination: Examination) -> Iterator[Finding]:
    """Find processes whose user may not write to the directory, as after setuid."""
    pids = [str(each.writer.pid) for each in examination.processes if not each.may_write]
    if pids:
        yield Finding(
            "error",
            "users",
            f"{plural(len(pids), 'process', 'es')} of the server may not write to "
            f"{examination.path}, so that a request fails as soon as it counts something: "
            f"{list_some(pids, ', ')}",
            "give the directory to the user that the workers run as, with chown, or with "
            "mpmetrics run --user",
        )


def check_removed_files(examination: Examination) -> Iterator[Finding]:
    """Find processes whose files were removed while they run."""
    pids = [str(each.writer.pid) for each in examination.processes if _writes(each, "removed")]
    if pids:
        yield Finding(
            "warning",
            "removed",
            f"{plural(len(pids), 'process', 'es')} with files that were removed from "
            f"{examination.path}, so that what is counted there is lost: {list_some(pids, ', ')}",
            "restart the server; empty the directory only before it starts",
        )


def check_silence(examination: Examination) -> Iterator[Finding]:
    """Find a server that runs and has not written anything."""
    processes = examination.processes
    if processes and not examination.files and all(_writes(each, "nothing") for each in processes):
        pids = [str(each.writer.pid) for each in processes]
        yield Finding(
            "note",
            "silence",
            f"{plural(len(pids), 'process', 'es')} with {VARIABLE} set to this directory, and no "
            f"metrics file in use: {list_some(pids, ', ')}",
            "look whether the application imports prometheus_client, and whether anything that it "
            "counts has happened",
        )


def check_sigterm(examination: Examination) -> Iterator[Finding]:
    """Find a server that does not end at SIGTERM."""
    pids = [each.writer.pid for each in examination.processes if reloads_at_sigterm(each.arguments)]
    if pids:
        yield Finding(
            "warning",
            "sigterm",
            f"uWSGI (process {min(pids)}) reloads at SIGTERM instead of ending",
            UWSGI_ADVICE,
        )


def check_scrape_route(examination: Examination) -> Iterator[Finding]:
    """Find a server beside which files are folded: its own route may use another collector."""
    if examination.processes and any(file.name.is_archive for file in examination.files):
        yield Finding(
            "note",
            "scrape_route",
            "files are folded while the server runs: if your application has a route of its own "
            "that uses prometheus_client's collector, that can fail, or lack a file, during a fold",
            "scrape the page of mpmetrics, or call mpmetrics.install() in the application",
        )


def _writes(process: ServerProcess, place: str) -> bool:
    return process.writer.place == place


PROCESS_CHECKS: Final[Sequence[Callable[[Examination], Iterator[Finding]]]] = (
    check_elsewhere,
    check_users,
    check_removed_files,
    check_silence,
    check_sigterm,
    check_scrape_route,
)
