"""The lookout of a wrapper: it looks where the server writes, and how much space is left.

What it finds becomes a line in the log and a metric. It never stands in the way: it has a thread of
its own, which `run` hardly waits for, it spends little of its time with looking, and what it may
not see it says nothing of.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from prometheus_client.core import GaugeMetricFamily

from mpmetrics._log_limit import get_log
from mpmetrics.directory import VARIABLE, Writer, find_writer, list_directory
from mpmetrics.supervisor.space_alarm import SpaceAlarm
from mpmetrics.supervisor.writer_watch import Look, WriterWatch
from mpmetrics.system import (
    UNREADABLE,
    list_descendants,
    measure_space,
    read_variable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prometheus_client import Metric

    from mpmetrics.system import Process, Space

_log = get_log()

_PAUSE: Final = 1.0
"""Seconds between two looks at the space, which take microseconds."""

_WRITERS_EVERY: Final = 5.0
_WRITERS_SOON: Final = 1.0
"""Seconds between two looks at the processes, and until the first one or one that confirms."""

_SHARE: Final = 0.01
"""How much of the time may be spent with looks at the processes."""

_MOST_PROCESSES: Final = 1000
"""The most processes that one look is at."""

_LONGEST_STOP: Final = 1.0
"""Seconds that the thread has to end; a look that hangs is a daemon's, and goes on without it."""


class Lookout:
    """The lookout for the server of this process, which is to write to *directory*.

    *adopt*, if given, is called in the thread with each other directory that the server writes to.
    """

    def __init__(
        self,
        directory: str,
        *,
        adopt: Callable[[str], None] | None = None,
        measure: Callable[[str], Space | None] = measure_space,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start no thread yet."""
        self._directory = directory
        self._adopt = adopt
        self._measure = measure
        self._clock = clock
        self._alarm = SpaceAlarm(directory)
        self._alarm_lock = threading.Lock()
        self._watch = WriterWatch(directory, adopts=adopt is not None)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mpmetrics-lookout", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread; if a look hangs, go on without it."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(_LONGEST_STOP)

    def note_bus_error(self) -> None:
        """Log that SIGBUS has ended a process of the server, if a lack of space is the reason."""
        space = self._measure(self._directory)
        with self._alarm_lock:
            line = self._alarm.explain_bus_error(space, self._clock())
        if line:
            _log.warning("%s", line)

    def collect(self) -> Iterator[Metric]:
        """Yield `mpmetrics_server_processes`, as of the last look."""
        family = GaugeMetricFamily(
            "mpmetrics_server_processes",
            "Processes of the server, by where they write their metrics",
            labels=["writes_to"],
        )
        for place, count in self._watch.counts.items():
            family.add_metric([place], count)
        yield family

    def _run(self) -> None:
        next_look = self._clock() + _WRITERS_SOON
        while not self._stopping.wait(_PAUSE):
            try:
                self._look_at_space()
                if self._clock() >= next_look:
                    begun = self._clock()
                    self._look_at_writers()
                    now = self._clock()
                    pause = _WRITERS_SOON if self._watch.is_unsure else _WRITERS_EVERY
                    next_look = now + max(pause, (now - begun) / _SHARE)
            except Exception as error:  # noqa: BLE001 - a server does not suffer from its metrics
                _log.warning("a look at the server has failed: %r", error)
                next_look = self._clock() + _WRITERS_EVERY / _SHARE

    def _look_at_space(self) -> None:
        space = self._measure(self._directory)
        if space is None:
            return
        with self._alarm_lock:
            line = self._alarm.note(space, self._clock())
        if line:
            _log.warning("%s", line)

    def _look_at_writers(self) -> None:
        processes = [each for each in list_descendants(os.getpid()) if each.is_running]
        if len(processes) > _MOST_PROCESSES:
            return
        writers = [find_writer(each.pid, self._directory) for each in processes]
        writers = [each for each, process in zip(writers, processes, strict=True) if _runs(process)]
        known = len(self._watch.elsewhere)
        is_silent = all(each.place == "nothing" for each in writers)
        look = Look(
            self._clock(),
            writers,
            has_workers=bool(writers),
            has_metrics=is_silent and _has_metrics(self._directory),
            without_variable=_list_without_variable(writers) if is_silent else (),
        )
        for line in self._watch.note(look):
            _log.warning("%s", line)
        if self._adopt is not None:
            for path in self._watch.elsewhere[known:]:
                self._adopt(path)


def _runs(process: Process) -> bool:
    """Return whether the *process* still runs: of one that has ended nothing is known."""
    with suppress(*UNREADABLE):
        return process.handle.is_running()
    return False


def _has_metrics(directory: str) -> bool:
    """Return whether any process has ever written to the *directory*."""
    try:
        return bool(list_directory(directory).files)
    except OSError:
        return False


def _list_without_variable(writers: Sequence[Writer]) -> list[int]:
    """List the processes that were started without the variable, of those that can be seen."""
    pids = []
    for writer in writers:
        with suppress(OSError):
            if not read_variable(writer.pid, VARIABLE):
                pids.append(writer.pid)
    return pids
