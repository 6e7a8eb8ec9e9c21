"""A command under supervision: what `mpmetrics.supervisor` decides about, for real. Linux only.

The main thread does nothing but wait for signals, children included; it takes them one by one,
with what the kernel says of where they come from. A thread watches the workers, which are mostly
somebody else's children, through pidfds.
"""

from __future__ import annotations

import ctypes
import logging
import os
import select
import signal
import subprocess
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from mpmetrics.errors import CommandError
from mpmetrics.processes import children, descendants, read_process, workers
from mpmetrics.supervisor import (
    Compact,
    Ended,
    Finish,
    Forward,
    KillAll,
    Say,
    Signalled,
    Supervisor,
    Ticked,
    WorkerBegan,
    WorkerEnded,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from prometheus_client import Metric

    from mpmetrics.processes import Process
    from mpmetrics.supervisor import Event

_log = logging.getLogger("mpmetrics")

IS_SUPPORTED: Final = hasattr(signal, "sigtimedwait") and os.path.isdir("/proc/self/task")
"""Whether this system has what supervision needs."""

_FORWARDED: Final = tuple(
    getattr(signal, name)
    for name in (
        *("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"),
        *("SIGTTIN", "SIGTTOU", "SIGWINCH", "SIGCONT"),
    )
    if hasattr(signal, name)
)

_TICK: Final = 1.0
_BRISK: Final = 0.02
_BRISK_FOR: Final = 10.0
"""Seconds between looks at the workers: the lower for a while after one has begun or ended."""

_SHARE: Final = 0.05
"""How much of the time may be spent with looking."""

_ROUNDS: Final = 100
"""How often to look for processes that were started while others were being killed."""

_PARTING: Final = 1.0
"""Seconds that processes are waited for that the main process has left behind."""

_FROM_KERNEL: Final = 0x80  # SI_KERNEL: what the terminal sends, unlike kill(2)
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_BY_SIGNAL: Final = 128

NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
"""What a shell says of a command that is not there, and of one that it may not run."""


class Supervision:
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
        self._waited = _waited_signals()
        _control(_PR_SET_CHILD_SUBREAPER, 1)
        shares_terminal = _has_terminal()
        self._process = _start(command, environment, mask, own_group=not shares_terminal)
        main = self._process.pid
        self._supervisor = Supervisor(main, shares_terminal=shares_terminal, grace=grace)
        self._watch = _Watch(self._tell)

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
        info = signal.sigtimedwait(self._waited, _TICK)
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

    _ACTIONS: Final[Mapping[type, Callable[[Supervision, Any], None]]] = {
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
            signal.sigtimedwait([signal.SIGCHLD], _BRISK)
            for _ in self._reaped():
                pass
        if left:
            pids = ", ".join(str(process.pid) for process in left)
            _log.warning("the server has ended, but has left processes that run on: %s", pids)


def _running() -> list[Process]:
    """Return the processes that descend from this one and have not ended."""
    return [process for process in descendants(os.getpid()) if process.is_running]


def _waited_signals() -> frozenset[int]:
    """Return the signals to wait for: not those that somebody wants this process to ignore."""
    wanted = {number for number in _FORWARDED if signal.getsignal(number) != signal.SIG_IGN}
    return frozenset({*wanted, signal.SIGCHLD})


@contextmanager
def held_signals() -> Iterator[set[int]]:
    """Have signals wait until somebody acts on them; yield the mask that was before.

    They are let through again if the block raises. If it does not, somebody has acted on them, and
    this process is about to end.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _waited_signals())
    try:
        yield {int(number) for number in mask}
    except BaseException:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise


def _has_terminal() -> bool:
    """Tell whether this process is in the foreground of a terminal, whose keys are signals."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _control(option: int, value: int) -> None:
    """Change how the kernel treats this process, by prctl(2). Raises `OSError`."""
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


_libc: Final[Any] = ctypes.CDLL(None, use_errno=True) if IS_SUPPORTED else None


def _start(
    command: Sequence[str], environment: Mapping[str, str], mask: set[int], *, own_group: bool
) -> subprocess.Popen[bytes]:
    """Start the command, which shall not outlive this process. Raises `CommandError`."""
    parent = os.getpid()

    def prepare() -> None:
        # Between fork and exec; the parent has no other thread.
        if own_group:
            os.setpgid(0, 0)
        _control(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    try:
        # Whoever started us may have left open sockets for the server: they are passed on.
        return subprocess.Popen(  # noqa: S603 - it is what the user wants
            command,
            env=environment,
            close_fds=False,
            preexec_fn=prepare,  # noqa: PLW1509
        )
    except FileNotFoundError as error:
        raise CommandError(command[0], "command not found", NOT_FOUND) from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise CommandError(command[0], why, NOT_EXECUTABLE) from error


def _heirs() -> list[int]:
    """Return our children that have children, the oldest first: main processes, all of them."""
    found = [child for child in children(os.getpid()) if child.is_running]
    found = [child for child in found if any(each.is_running for each in children(child.pid))]
    return [child.pid for child in sorted(found, key=lambda child: (child.began, child.pid))]


class _Watch:
    """A thread that notices when workers begin and end.

    Who lives for less time than there is between two looks is not noticed.
    """

    def __init__(self, tell: Callable[[Event], None]) -> None:
        self._tell = tell
        self._thread = threading.Thread(target=self._work, name="mpmetrics-watch", daemon=True)
        self._known: dict[int, Process] = {}
        self._descriptors: dict[int, int] = {}
        self._changed = time.monotonic()
        self._poll = select.poll()
        self._stopped, self._stopping = os.pipe()
        self._poll.register(self._stopped, select.POLLIN)

    def start(self) -> None:
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
        return max(_BRISK if is_brisk else _TICK, (time.monotonic() - begun) / _SHARE)

    def _look(self) -> None:
        """Compare who is there now with who was there before."""
        processes = descendants(os.getpid())
        now = {process.pid: process for process in workers(processes)}
        there = {process.pid: process.began for process in processes if process.is_running}
        for pid, known in list(self._known.items()):
            if there.get(pid) != known.began:
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
        known, process = self._known.pop(pid), read_process(pid)
        is_same = process is not None and process.began == known.began
        status = process.exit_status if process is not None and is_same else None
        self._forget(pid)
        returncode = None if status is None else os.waitstatus_to_exitcode(status)
        self._changed = time.monotonic()
        age = _uptime() - known.began
        self._tell(WorkerEnded(pid, age, self._changed, returncode))

    def _forget(self, pid: int) -> None:
        descriptor = self._descriptors.pop(pid, None)
        if descriptor is not None:
            self._poll.unregister(descriptor)
            os.close(descriptor)

    def _forget_all(self) -> None:
        for pid in list(self._descriptors):
            self._forget(pid)


def _uptime() -> float:
    """Return the seconds since this machine was started, as `Process.began` counts them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def end_like(returncode: int) -> int:
    """End this process by the signal that *returncode* stands for; else return the exit status.

    The first process of a container cannot be ended by a signal of its own: it gets the status
    that a shell would give.
    """
    if returncode >= 0:
        return returncode
    import resource  # noqa: PLC0415 - not on every system

    # One core dump, that of the server, is enough.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    number = -returncode
    with suppress(OSError, ValueError):  # SIGKILL cannot be set
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
    return _BY_SIGNAL + number
