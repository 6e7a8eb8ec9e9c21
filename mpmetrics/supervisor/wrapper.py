"""A server with a page beside it: directory, supervision, compaction and serving put together."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from mpmetrics.compaction import DEFAULT_INTERVAL, BackgroundCompactor, Compactor
from mpmetrics.directory import (
    OLD_VARIABLE,
    VARIABLE,
    RunDirectory,
    has_proven_leases,
    make_private_directory,
    sweep_run_directories,
    take_run_directory,
)
from mpmetrics.errors import CommandError
from mpmetrics.pages import DirectorySource, RegistrySource
from mpmetrics.supervisor.launch import IS_SUPPORTED, held_signals
from mpmetrics.supervisor.process_metrics import ProcessMetrics
from mpmetrics.supervisor.runner import Runner
from mpmetrics.web import DEFAULT_LISTEN, PageServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from prometheus_client import Metric

    from mpmetrics.compaction import Fate
    from mpmetrics.pages import Collector, Page, Source
    from mpmetrics.web import WebConfig

    MakePage = Callable[[Sequence[Source]], Page]
    Tell = Callable[[str], None]

_UNSUPPORTED = 2


class RunOptions(NamedTuple):
    """How a server is to be wrapped.

    *directory* is where it writes, "" for a directory of its own, which is removed at the end
    unless *keep*; *fresh* empties it first. The page is at *listen*, guarded by *web_config*.
    Every *compact_interval* seconds, and after each death, the dead are folded; 0 is never.
    *grace* is how many seconds the server has to end, None for as long as it takes.
    """

    directory: str = ""
    fresh: bool = False
    keep: bool = False
    listen: str = DEFAULT_LISTEN
    web_config: WebConfig | None = None
    compact_interval: float = DEFAULT_INTERVAL
    keep_dead_gauges: bool = False
    dead_gauges: Mapping[str, Fate] = {}
    grace: float | None = None
    per_worker: bool = False


def run_command(command: Sequence[str], make_page: MakePage, wrap: RunOptions, tell: Tell) -> int:
    """Run *command* until it ends; return its status as `subprocess` has it.

    *make_page* makes the page of the sources that it is given; *tell* is given lines for a
    person. Raises `CommandError`, `RunDirectoryError`, `ListenError` or what *make_page* raises,
    and then nothing has been started.
    """
    if not IS_SUPPORTED:
        raise CommandError(command[0], "wrapping a server needs Linux", _UNSUPPORTED)
    # From the first thing that would be left behind until the end, signals are the server's.
    with held_signals() as mask, ExitStack() as stack:
        place = _workplace(wrap)
        stack.callback(_leave, place, wrap, tell)
        # It starts a process to find out: that has to be over before we wait for any child.
        has_proven_leases(place.path)
        compactor = Compactor(place.path, wrap.keep_dead_gauges, dead_gauges=wrap.dead_gauges)
        housekeeper = BackgroundCompactor(compactor, wrap.compact_interval)
        own = _Joined([ProcessMetrics(per_worker=wrap.per_worker), housekeeper])
        directory = DirectorySource(place.path, liveness=True)
        page = make_page([directory, RegistrySource(own, name="run")])
        serving = PageServer(page, wrap.listen, web_config=wrap.web_config)
        stack.callback(serving.stop)
        environment = _environment(place.path)
        supervision = Runner(
            command, environment, mask=mask, compact=housekeeper.request, grace=wrap.grace
        )
        own.collectors.append(supervision)
        tell(f"listening on {serving.address}")
        serving.start()
        if wrap.compact_interval:
            if wrap.keep or not place.is_ours:
                stack.callback(housekeeper.compact)
            housekeeper.start()
            stack.callback(housekeeper.stop)
        return supervision.run()


class _Joined:
    """Several collectors as one."""

    def __init__(self, collectors: list[Collector]) -> None:
        self.collectors = collectors

    def collect(self) -> Iterator[Metric]:
        for collector in self.collectors:
            yield from collector.collect()


def _workplace(wrap: RunOptions) -> RunDirectory:
    """Return the directory to write to: the one that was asked for, or a new one."""
    sweep_run_directories()
    if wrap.directory:
        return take_run_directory(wrap.directory, fresh=wrap.fresh)
    return make_private_directory(keep=wrap.keep)


def _leave(place: RunDirectory, wrap: RunOptions, tell: Tell) -> None:
    """Remove the directory, or say where it is if that is not known."""
    stays = place.release(keep=wrap.keep)
    if stays and place.is_ours:
        why = "as you wish" if wrap.keep else "because somebody still has files in it open"
        tell(f"the directory stays, {why}: {place.path}")


def _environment(path: str) -> Mapping[str, str]:
    """Return this process's environment, with the directory *path* to write metrics to."""
    environment = {name: value for name, value in os.environ.items() if name != OLD_VARIABLE}
    return {**environment, VARIABLE: path}
