"""A command under supervision: what `mpmetrics.supervisor.machine` decides, done. Linux only.

The main thread does nothing but wait for signals, children included; it takes them one by one,
with what the kernel says of where they come from. A thread watches the workers, which are mostly
somebody else's children, through pidfds.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from mpmetrics.supervisor.launch import (
    PR_SET_CHILD_SUBREAPER,
    has_terminal,
    prctl,
    start_command,
    waited_signals,
)
from mpmetrics.supervisor.machine import (
    Compact,
    Ended,
    Finish,
    Forward,
    KillAll,
    Say,
    Signalled,
    Supervisor,
    Ticked,
)
from mpmetrics.supervisor.watcher import BRISK, TICK, WorkerWatch
from mpmetrics.system import list_children, list_descendants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from prometheus_client import Metric

    from mpmetrics.supervisor.machine import Event
    from mpmetrics.system import Process

_log = logging.getLogger("mpmetrics")

_ROUNDS: Final = 100
"""How often to look for processes that were started while others were being killed."""

_PARTING: Final = 1.0
"""Seconds that processes are waited for that the main process has left behind."""

_FROM_KERNEL: Final = 0x80  # SI_KERNEL: what the terminal sends, unlike kill(2)


class Runner:
    """Runs one *command*, with *environment*, until it ends.

    *compact* is called, from the main thread, when a worker has died; it must not block. With
    *grace*, everything is killed so many seconds after the command was asked to end.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        mask: set[int],
        compact: Callable[[], None],
        grace: float | None = None,
    ) -> None:
        """Start the command. Raises `CommandError` if that is not possible.

        It has to be made in the main thread, before any other thread is, and within `held_signals`,
        which gives the *mask* that the command gets.
        """
        self._compact = compact
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._waited = waited_signals()
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        shares_terminal = has_terminal()
        self._process = start_command(command, environment, mask, own_group=not shares_terminal)
        main = self._process.pid
        self._supervisor = Supervisor(main, shares_terminal=shares_terminal, grace=grace)
        self._watch = WorkerWatch(self._tell)

    def run(self) -> int:
        """Supervise until the end; return the status of the command as `subprocess` has it."""
        self._watch.start()
        try:
            while True:
                for event in self._next_events():
                    for action in self._supervisor.handle(event):
                        if isinstance(action, Finish):
                            return action.returncode
                        self._ACTIONS[type(action)](self, action)
        finally:
            self._watch.stop()
            self._say_who_is_left()

    def collect(self) -> Iterator[Metric]:
        """Yield what is known of the workers' ends."""
        yield GaugeMetricFamily(
            "mpmetrics_workers",
            "Workers of the server that are running",
            value=self._supervisor.workers,
        )
        yield CounterMetricFamily(
            "mpmetrics_worker_exits",
            "Workers of the server that have ended",
            value=self._supervisor.worker_exits,
        )
        yield CounterMetricFamily(
            "mpmetrics_worker_restarts",
            "Workers that have taken the place of one that has ended",
            value=self._supervisor.worker_restarts,
        )
        status = self._supervisor.last_status
        if status is not None:
            yield GaugeMetricFamily(
                "mpmetrics_worker_last_exit_status",
                "Exit status of the last worker whose end was seen; minus the number of a signal",
                value=status,
            )

    # -- events -----------------------------------------------------------------------------

    def _tell(self, event: Event) -> None:
        """Have the main thread handle *event* soon; any thread may call this."""
        self._events.put(event)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGCHLD)

    def _next_events(self) -> Iterator[Event]:
        """Wait for a signal, or for a while; yield what has happened."""
        info = signal.sigtimedwait(self._waited, TICK)
        now = time.monotonic()
        if info is not None and info.si_signo != signal.SIGCHLD:
            yield Signalled(info.si_signo, now, from_terminal=info.si_code == _FROM_KERNEL)
        yield from self._reaped()
        with suppress(Empty):
            while True:
                yield self._events.get_nowait()
        yield Ticked(now)

    def _reaped(self) -> Iterator[Ended]:
        """Wait for every child that has ended, adopted ones included."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            returncode = os.waitstatus_to_exitcode(status)
            if pid == self._process.pid:
                self._process.returncode = returncode
            yield Ended(pid, returncode, _heirs() if pid == self._supervisor.main else ())

    # -- actions ----------------------------------------------------------------------------

    def _forward(self, action: Forward) -> None:
        with suppress(ProcessLookupError):
            os.kill(action.pid, action.number)

    def _kill_all(self, _: KillAll) -> None:
        killed: set[int] = set()
        for _round in range(_ROUNDS):
            new = [each for each in _running() if each.pid not in killed]
            if not new:
                return
            for process in new:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(process.pid, signal.SIGKILL)
            killed.update(process.pid for process in new)

    def _say(self, action: Say) -> None:
        _log.warning("%s", action.text)

    def _want_compaction(self, _: Compact) -> None:
        self._compact()

    _ACTIONS: Final[Mapping[type, Callable[[Runner, Any], None]]] = {
        Forward: _forward,
        KillAll: _kill_all,
        Say: _say,
        Compact: _want_compaction,
    }

    def _say_who_is_left(self) -> None:
        """Name the processes that the server has left behind, if any."""
        # Those that are about to end are none: a whole group may have got one signal.
        deadline = time.monotonic() + _PARTING
        while (left := _running()) and time.monotonic() < deadline:
            signal.sigtimedwait([signal.SIGCHLD], BRISK)
            for _ in self._reaped():
                pass
        if left:
            pids = ", ".join(str(process.pid) for process in left)
            _log.warning("the server has ended, but has left processes that run on: %s", pids)


def _running() -> list[Process]:
    """Return the processes that descend from this one and have not ended."""
    return [process for process in list_descendants(os.getpid()) if process.is_running]


def _heirs() -> list[int]:
    """Return our children that have children, the oldest first: main processes, all of them."""
    found = [child for child in list_children(os.getpid()) if child.is_running]
    found = [child for child in found if any(each.is_running for each in list_children(child.pid))]
    return [child.pid for child in sorted(found, key=lambda child: (child.started, child.pid))]
