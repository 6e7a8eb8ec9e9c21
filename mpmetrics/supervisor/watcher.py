"""A thread that notices when workers begin and end."""

from __future__ import annotations

import os
import select
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from mpmetrics.supervisor.machine import (
    WorkerBegan,
    WorkerEnded,
)
from mpmetrics.system import list_descendants, read_age, read_exit_status, select_workers

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpmetrics.supervisor.machine import Event
    from mpmetrics.system import Process

TICK: Final = 1.0
BRISK: Final = 0.02
_BRISK_FOR: Final = 10.0
"""Seconds between looks at the workers: the lower for a while after one has begun or ended."""

_SHARE: Final = 0.05
"""How much of the time may be spent with looking."""


class WorkerWatch:
    """A thread that notices when workers begin and end.

    Who lives for less time than there is between two looks is not noticed.
    """

    def __init__(self, tell: Callable[[Event], None]) -> None:
        """Hand each event to *tell*."""
        self._tell = tell
        self._thread = threading.Thread(target=self._work, name="mpmetrics-watch", daemon=True)
        self._known: dict[int, Process] = {}
        self._descriptors: dict[int, int] = {}
        self._changed = time.monotonic()
        self._poll = select.poll()
        self._stopped, self._stopping = os.pipe()
        self._poll.register(self._stopped, select.POLLIN)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End, and close everything."""
        os.close(self._stopping)
        self._thread.join()

    def _work(self) -> None:
        with ExitStack() as stack:
            stack.callback(os.close, self._stopped)
            stack.callback(self._forget_all)
            while True:
                ready = {descriptor for descriptor, _ in self._poll.poll(self._pause() * 1000)}
                if self._stopped in ready:
                    return
                for pid, descriptor in list(self._descriptors.items()):
                    if descriptor in ready:
                        self._has_ended(pid)

    def _pause(self) -> float:
        """Find out who is there now; return for how many seconds that will do."""
        begun = time.monotonic()
        self._look()
        is_brisk = begun < self._changed + _BRISK_FOR
        return max(BRISK if is_brisk else TICK, (time.monotonic() - begun) / _SHARE)

    def _look(self) -> None:
        """Compare who is there now with who was there before."""
        processes = list_descendants(os.getpid())
        now = {process.pid: process for process in select_workers(processes)}
        there = {process.pid: process.handle for process in processes if process.is_running}
        for pid, known in list(self._known.items()):
            if there.get(pid) != known.handle:
                self._has_ended(pid)
        for pid, process in now.items():
            if pid not in self._known:
                self._known[pid] = process
                self._changed = time.monotonic()
                self._watch_for_end(pid)
                self._tell(WorkerBegan(pid))

    def _watch_for_end(self, pid: int) -> None:
        """Have the kernel wake this thread when the process ends, where it can."""
        try:
            self._descriptors[pid] = os.pidfd_open(pid)
        except (AttributeError, OSError):
            return  # it is missed at the next look
        self._poll.register(self._descriptors[pid], select.POLLIN)

    def _has_ended(self, pid: int) -> None:
        """Tell of a worker's end, with its status if nobody has taken that yet."""
        known = self._known.pop(pid)
        status = read_exit_status(known)
        self._forget(pid)
        returncode = None if status is None else os.waitstatus_to_exitcode(status)
        self._changed = time.monotonic()
        self._tell(WorkerEnded(pid, read_age(known), self._changed, returncode))

    def _forget(self, pid: int) -> None:
        descriptor = self._descriptors.pop(pid, None)
        if descriptor is not None:
            self._poll.unregister(descriptor)
            os.close(descriptor)

    def _forget_all(self) -> None:
        for pid in list(self._descriptors):
            self._forget(pid)
