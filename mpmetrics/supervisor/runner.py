"""The run of a command under a wrapper: `mpmetrics.supervisor.machine` decides, this acts.

The main thread only waits for signals, SIGCHLD included. It takes them one by one, with what the
kernel reports of their origin. Another thread watches the workers through pidfds, since most of
them are children of the server. Linux only.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from mpmetrics._log_limit import get_log
from mpmetrics._typing import assert_never
from mpmetrics.supervisor.account import describe_user, read_account
from mpmetrics.supervisor.launch import become_subreaper, start_command
from mpmetrics.supervisor.machine import (
    ChildEnded,
    Compact,
    Finish,
    Forward,
    KillAll,
    Machine,
    Signalled,
    Ticked,
    Warn,
    WorkerCounts,
    WorkerEnded,
)
from mpmetrics.supervisor.signals import is_in_foreground, list_awaited_signals
from mpmetrics.supervisor.watcher import WorkerWatcher
from mpmetrics.system import has_own_proc, list_children, list_descendants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prometheus_client import Metric

    from mpmetrics.supervisor.launch import Command
    from mpmetrics.supervisor.machine import Event
    from mpmetrics.system import Process

_log = get_log()

_TICK: Final = 1.0
"""Seconds between two looks at the clock while no signal comes."""

_KILL_ROUNDS: Final = 100
"""How often to look for processes that were started while others were being killed."""

_PARTING: Final = 1.0
"""Seconds that processes have to end after the main process has ended."""

_PARTING_POLL: Final = 0.02
"""Seconds between two looks at those that are not children of this process."""

_FROM_KERNEL: Final = 0x80  # SI_KERNEL: what the terminal sends, unlike kill(2)


class Runner:
    """The run of one *command* until it ends.

    *compact* is called, from the main thread, when a worker has died, *note_bus_error* when SIGBUS
    has ended one or the main process; neither must block. *inspect* gets the processes of the
    server again and again, in a thread. With *grace*, everything is killed that many seconds after
    the command was asked to end.
    """

    _machine: Machine  # from `start` on

    def __init__(
        self,
        command: Command,
        *,
        compact: Callable[[], None],
        note_bus_error: Callable[[], None],
        inspect: Callable[[Sequence[Process]], None] = lambda _: None,
        grace: float | None = None,
    ) -> None:
        """Start nothing yet."""
        self._inspect = inspect
        self._command = command
        self._compact = compact
        self._note_bus_error = note_bus_error
        self._grace = grace
        self._workers = WorkerCounts()
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._awaited = list_awaited_signals()
        self._refused: set[tuple[int, int]] = set()

    def start(self, mask: set[int]) -> None:
        """Start the command, with the signal *mask*. Raises `CommandError`.

        This has to be called in the main thread, before any other thread is started, and within
        `block_signals`, which yields the *mask*.
        """
        become_subreaper()
        shares_terminal = is_in_foreground()
        main = start_command(self._command, mask, own_group=not shares_terminal)
        self._machine = Machine(
            main, self._workers, shares_terminal=shares_terminal, grace=self._grace
        )

    def run(self) -> int:
        """Run the command to its end; return its status as `subprocess` does."""
        watcher = WorkerWatcher(self._add_event, self._inspect)
        start_helper("the watcher of workers", watcher.start)
        try:
            while True:
                for event in self._next_events():
                    if self._is_bus_error(event):
                        self._note_bus_error()
                    for action in self._machine.handle(event):
                        if isinstance(action, Finish):
                            return action.returncode
                        self._perform(action)
        finally:
            watcher.stop()
            self._warn_of_remaining_processes()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the workers' ends."""
        workers = self._workers
        yield GaugeMetricFamily(
            "mpmetrics_workers",
            "Workers of the server that are running",
            value=workers.running,
        )
        yield CounterMetricFamily(
            "mpmetrics_worker_exits",
            "Workers of the server that have ended",
            value=workers.exits,
        )
        yield CounterMetricFamily(
            "mpmetrics_worker_restarts",
            "Workers that have taken the place of one that has ended",
            value=workers.restarts,
        )
        if workers.last_status is not None:
            yield GaugeMetricFamily(
                "mpmetrics_worker_last_exit_status",
                "Exit status of the last worker whose end was seen; minus the number of a signal",
                value=workers.last_status,
            )

    # -- events -----------------------------------------------------------------------------

    def _add_event(self, event: Event) -> None:
        """Have the main thread handle *event* soon; any thread may call this."""
        self._events.put(event)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGCHLD)

    def _next_events(self) -> Iterator[Event]:
        """Wait for a signal, or for a tick; yield what has happened."""
        info = signal.sigtimedwait(self._awaited, _TICK)
        now = time.monotonic()
        if info is not None and info.si_signo != signal.SIGCHLD:
            yield Signalled(info.si_signo, now, from_terminal=info.si_code == _FROM_KERNEL)
        yield from self._reap()
        with suppress(Empty):
            while True:
                yield self._events.get_nowait()
        yield Ticked(now)

    def _reap(self) -> Iterator[ChildEnded]:
        """Wait for every child that has ended, adopted ones included."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            returncode = os.waitstatus_to_exitcode(status)
            successors = _list_successors() if pid == self._machine.main else ()
            yield ChildEnded(pid, returncode, successors)

    def _is_bus_error(self, event: Event) -> bool:
        """Return whether SIGBUS has ended a worker or the main process."""
        match event:
            case WorkerEnded() | ChildEnded(pid=self._machine.main):
                return event.returncode == -signal.SIGBUS
            case _:
                return False

    # -- actions ----------------------------------------------------------------------------

    def _perform(self, action: Forward | KillAll | Warn | Compact) -> None:
        match action:
            case Forward():
                self._forward(action.pid, action.number)
            case KillAll() if has_own_proc():
                _warn_of_survivors(_kill_all())
            case KillAll():  # no other process is known
                self._forward(self._machine.main, signal.SIGKILL)
            case Warn():
                _log.warning("%s", action.text)
            case Compact():
                self._compact()
            case _:
                assert_never(action)

    def _forward(self, pid: int, number: int) -> None:
        """Send a signal to the process *pid*; warn, once for each signal, if that is not allowed.

        A process that has changed its user may refuse the signals of this one.
        """
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass
        except OSError as error:
            if (pid, number) not in self._refused:
                self._refused.add((pid, number))
                name = signal.Signals(number).name
                _log.warning(
                    "%s was not passed on: process %d belongs to %s (%s); send it as that user",
                    *(name, pid, _describe_user(pid), error.strerror),
                )

    def _warn_of_remaining_processes(self) -> None:
        """Warn of the processes that the server has left behind, if there are any."""
        # Some are about to end: one signal may have reached a whole group.
        deadline = time.monotonic() + _PARTING
        while (left := _list_running()) and time.monotonic() < deadline:
            signal.sigtimedwait([signal.SIGCHLD], _PARTING_POLL)
            for _ in self._reap():
                pass
        if left:
            pids = ", ".join(str(process.pid) for process in left)
            _log.warning("the server has ended, but has left processes that run on: %s", pids)


def start_helper(name: str, start: Callable[[], None]) -> None:
    """Call *start*; if no thread or descriptor is left, log that the server runs on without *name*.

    The server is running by now, and must not end for lack of its metrics.
    """
    try:
        start()
    except (OSError, RuntimeError) as error:
        _log.error("%s cannot be started, and the server runs on without: %s", name, error)


def _kill_all() -> list[int]:
    """Kill everything that descends from this process; return the processes that refuse it."""
    killed: set[int] = set()
    refused: list[int] = []
    for _ in range(_KILL_ROUNDS):
        new = [each for each in _list_running() if each.pid not in killed]
        if not new:
            break
        for process in new:
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            except OSError:
                refused.append(process.pid)
        killed.update(process.pid for process in new)
    return refused


def _warn_of_survivors(pids: Sequence[int]) -> None:
    """Warn of the processes *pids*, which could not be killed, if there are any."""
    if pids:
        who = ", ".join(f"{pid} of {_describe_user(pid)}" for pid in pids)
        _log.warning("these processes refuse to be killed by this user: %s", who)


def _describe_user(pid: int) -> str:
    """Return what the user of process *pid* is called."""
    account = read_account(pid)
    return "another user" if account is None else f"user {describe_user(account.uid)}"


def _list_running() -> list[Process]:
    """Return the processes that descend from this one and have not ended."""
    try:
        return [process for process in list_descendants(os.getpid()) if process.is_running]
    except OSError as error:  # no descriptor is left, for example
        _log.warning("the processes of the server cannot be listed: %s", error)
        return []


def _list_successors() -> list[int]:
    """Return the children of this process that have children, which main processes do.

    The oldest comes first.
    """
    try:
        found = [child for child in list_children(os.getpid()) if child.is_running]
        found = [each for each in found if any(it.is_running for it in list_children(each.pid))]
    except OSError as error:
        _log.warning("the processes of the server cannot be listed: %s", error)
        return []
    return [child.pid for child in sorted(found, key=lambda child: (child.started, child.pid))]
