"""The watcher of the workers of a server: it notices when they start and end."""

from __future__ import annotations

import os
import select
import threading
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

from mpmetrics._log_limit import get_log
from mpmetrics.supervisor.machine import WorkerEnded, WorkerStarted
from mpmetrics.system import (
    UNREADABLE,
    list_descendants,
    read_age,
    read_exit_status,
    select_workers,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mpmetrics.supervisor.machine import Event
    from mpmetrics.system import Process

_log = get_log()

_PAUSE: Final = 1.0
"""Seconds between two looks at the processes."""

_BRISK_PAUSE: Final = 0.02
_BRISK_FOR: Final = 10.0
"""The pause for some time after a worker has started or ended, and that time in seconds."""

_LONGEST_STOP: Final = 5.0
"""Seconds that the thread has to end."""

_SHARE: Final = 0.05
"""How much of the time may be spent with looking; where a look takes long, the pause is longer."""


class WorkerWatcher:
    """A thread that notices when workers start and end.

    It looks for new workers now and then, and does not notice a worker that lives for less time
    than there is between two looks. The kernel reports the end of those that it knows.
    """

    def __init__(
        self,
        notify: Callable[[Event], None],
        inspect: Callable[[Sequence[Process]], None] = lambda _: None,
    ) -> None:
        """Pass each event to *notify*, in the thread; it is not started yet.

        At every look, *inspect* gets all processes that descend from this one.
        """
        self._notify = notify
        self._inspect = inspect
        self._thread = threading.Thread(target=self._watch, name="mpmetrics-watch", daemon=True)
        self._known: dict[int, Process] = {}
        self._descriptors: dict[int, int] = {}
        self._changed = time.monotonic()
        self._poll = select.poll()
        self._wake_reader = self._wake_writer = -1

    def start(self) -> None:
        """Start the thread."""
        self._wake_reader, self._wake_writer = os.pipe()
        self._poll.register(self._wake_reader, select.POLLIN)
        try:
            self._thread.start()
        except RuntimeError:
            os.close(self._wake_reader)
            os.close(self._wake_writer)
            self._wake_writer = -1
            raise

    def stop(self) -> None:
        """Stop the thread, which closes everything; do not wait for it if it hangs."""
        if self._wake_writer >= 0:
            os.close(self._wake_writer)
            self._thread.join(_LONGEST_STOP)

    def _watch(self) -> None:
        with ExitStack() as stack:
            stack.callback(os.close, self._wake_reader)
            stack.callback(self._forget_all)
            while True:
                ready = {descriptor for descriptor, _ in self._poll.poll(self._look() * 1000)}
                if self._wake_reader in ready:
                    return
                for pid, descriptor in list(self._descriptors.items()):
                    if descriptor in ready:
                        self._report_end(pid)

    def _look(self) -> float:
        """Look for workers that have started or ended; return the seconds until the next look."""
        begun = time.monotonic()
        try:
            self._compare()
        except OSError as error:  # no descriptor is left, for example: the next look may find some
            _log.warning("the processes of the server cannot be listed: %s", error)
            return _PAUSE
        is_brisk = begun < self._changed + _BRISK_FOR
        pause = _BRISK_PAUSE if is_brisk else _PAUSE
        return max(pause, (time.monotonic() - begun) / _SHARE)

    def _compare(self) -> None:
        """Compare the processes that are there with those that are known."""
        processes = list_descendants(os.getpid())
        self._inspect(processes)
        now = {process.pid: process for process in select_workers(processes)}
        running = {process.pid: process.handle for process in processes if process.is_running}
        for pid, known in list(self._known.items()):
            if running.get(pid) != known.handle:
                self._report_end(pid)
        for pid, process in now.items():
            if pid not in self._known:
                self._known[pid] = process
                self._changed = time.monotonic()
                self._watch_for_end(pid)
                self._notify(WorkerStarted(pid, _read_start(process)))

    def _watch_for_end(self, pid: int) -> None:
        """Have the kernel wake this thread when the process ends, if it can."""
        try:
            self._descriptors[pid] = os.pidfd_open(pid)
        except (AttributeError, OSError):
            return  # the next look notices its end
        self._poll.register(self._descriptors[pid], select.POLLIN)

    def _report_end(self, pid: int) -> None:
        """Report a worker's end, with its status if its parent has not waited for it yet."""
        known = self._known.pop(pid)
        status = read_exit_status(known)
        self._forget(pid)
        returncode = None if status is None else os.waitstatus_to_exitcode(status)
        self._changed = time.monotonic()
        self._notify(WorkerEnded(pid, read_age(known), self._changed, returncode))

    def _forget(self, pid: int) -> None:
        descriptor = self._descriptors.pop(pid, None)
        if descriptor is not None:
            self._poll.unregister(descriptor)
            os.close(descriptor)

    def _forget_all(self) -> None:
        for pid in list(self._descriptors):
            self._forget(pid)


def _read_start(process: Process) -> float | None:
    """Return when the *process* was started, by the monotonic clock, None if it has ended."""
    with suppress(*UNREADABLE):
        return time.monotonic() - read_age(process)
    return None
