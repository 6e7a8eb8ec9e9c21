"""The decisions of the supervisor, or wrapper: a state machine without clock, signals or processes.

Events go in, actions come out; `mpmetrics.supervisor.runner` produces the events and performs the
actions. The server shall not notice the wrapper: a signal that is sent to the wrapper reaches the
server's main process, once, and the wrapper ends as that process does. So SIGTERM does not end the
wrapper: it is forwarded. With a grace, everything is killed if the server has not ended by then.
"""

from __future__ import annotations

import signal
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics._text import plural
from mpmetrics._typing import assert_never

if TYPE_CHECKING:
    from collections.abc import Sequence

STOPPING: Final = frozenset(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGQUIT") if hasattr(signal, name)
)
"""The signals that ask a server to end."""

SHORT_LIFE: Final = 10.0
"""Seconds; a worker that ends sooner than this has hardly done anything."""

_ON_PURPOSE: Final = frozenset({0, 155})
"""Exit statuses of a worker that has done its share: the second is that of billiard (celery)."""

_REACTION: Final = 5.0
"""Seconds after which a server that was asked to end, and has new workers, does not end."""

_MANY: Final = 5
_WINDOW: Final = 60.0
"""That many short lives within that many seconds cause a warning, one in as many seconds."""


# -- events -----------------------------------------------------------------------------------


class Signalled(NamedTuple):
    """This process got the signal *number* at the time *now*; *from_terminal* if by a key."""

    number: int
    now: float
    from_terminal: bool = False


class ChildEnded(NamedTuple):
    """A child has ended; its *returncode* is negative if it ended by a signal.

    *successors* are the processes that descend from it, are children of this process now, and have
    children of their own; the oldest comes first.
    """

    pid: int
    returncode: int
    successors: Sequence[int] = ()


class WorkerStarted(NamedTuple):
    """The server has a new worker, which was *started* at that time, if it is known."""

    pid: int
    started: float | None = None


class WorkerEnded(NamedTuple):
    """A worker has ended at an *age* in seconds; its *returncode* may be unknown."""

    pid: int
    age: float
    now: float
    returncode: int | None = None


class Ticked(NamedTuple):
    """Time has passed."""

    now: float


Event = Signalled | ChildEnded | WorkerStarted | WorkerEnded | Ticked


# -- actions ----------------------------------------------------------------------------------


class Forward(NamedTuple):
    """Send the signal *number* to the process *pid*."""

    pid: int
    number: int


class KillAll(NamedTuple):
    """Kill the server and everything that descends from it."""


class Warn(NamedTuple):
    """Log a warning of one line."""

    text: str


class Compact(NamedTuple):
    """Fold the files of a dead worker soon."""


class Finish(NamedTuple):
    """End as the server has ended, with this *returncode*."""

    returncode: int


Action = Forward | KillAll | Warn | Compact | Finish


class WorkerCounts:
    """How many workers are running and have ended, as far as is known."""

    def __init__(self) -> None:
        """Start without workers."""
        self.exits = 0
        self.restarts = 0
        self.last_status: int | None = None
        self._running: set[int] = set()
        self._promoted: set[int] = set()
        self._vacancies = 0

    @property
    def running(self) -> int:
        """How many workers are running."""
        return len(self._running)

    def includes(self, pid: int) -> bool:
        """Return whether the process *pid* is a worker that is running."""
        return pid in self._running

    def add(self, pid: int) -> None:
        """Count a worker that has started; it is a restart if it takes the place of another."""
        self._running.add(pid)
        if self._vacancies:
            self._vacancies -= 1
            self.restarts += 1

    def remove(self, pid: int, returncode: int | None) -> bool:
        """Count a worker that has ended; return False if it had become the main process."""
        if pid in self._promoted:
            self._promoted.remove(pid)
            return False
        self._running.discard(pid)
        self.exits += 1
        self._vacancies += 1
        if returncode is not None:
            self.last_status = returncode
        return True

    def promote(self, pid: int) -> None:
        """Stop counting a process as a worker that is the main process from now on.

        It looked like a worker before, as a child that runs the same program as its parent.
        """
        if pid in self._running:
            self._running.remove(pid)
            self._promoted.add(pid)


class Machine:
    """The state machine of a wrapper. It follows the *main* process of a server until it ends.

    *workers* counts the workers. If *shares_terminal*, keys on the terminal reach the server
    without the wrapper. With *grace*, everything is killed that many seconds after the server was
    asked to end.
    """

    def __init__(
        self,
        main: int,
        workers: WorkerCounts | None = None,
        *,
        shares_terminal: bool = False,
        grace: float | None = None,
    ) -> None:
        """Start with the process *main*, which is running."""
        self.main = main
        self.workers = workers or WorkerCounts()
        self.is_over = False
        self._shares_terminal = shares_terminal
        self._grace = grace
        self._deadline: float | None = None
        self._has_killed = False
        self._stop_signal: int | None = None
        self._asked_at: float | None = None
        self._late_workers: set[int] = set()
        self._short_lives: deque[float] = deque()
        self._silent_until = 0.0

    def handle(self, event: Event) -> Sequence[Action]:
        """Return the actions that *event* causes, in their order."""
        return [] if self.is_over else self._decide(event)

    def _decide(self, event: Event) -> Sequence[Action]:
        match event:
            case Signalled():
                return self._handle_signal(event)
            case ChildEnded():
                return self._handle_end_of_child(event)
            case WorkerStarted():
                self.workers.add(event.pid)
                self._note_start_of_worker(event)
                return []
            case WorkerEnded():
                return self._handle_end_of_worker(event)
            case Ticked():
                return self._handle_tick(event)
            case _:
                return assert_never(event)

    def _handle_signal(self, event: Signalled) -> Sequence[Action]:
        """Forward the signal to the main process; one that asks to end also starts the grace.

        A signal by a key of the terminal is not forwarded if it reaches the server anyway.
        """
        if event.number in STOPPING:
            self._stop_signal = event.number
            self._asked_at = event.now
            self._late_workers.clear()
            if self._grace is not None and self._deadline is None and not self._has_killed:
                self._deadline = event.now + self._grace
        if event.from_terminal and self._shares_terminal:
            return []
        return [Forward(self.main, event.number)]

    def _note_start_of_worker(self, event: WorkerStarted) -> None:
        """Remember a worker that was started after the server had been asked to end."""
        asked, started = self._asked_at, event.started
        if asked is not None and started is not None and started > asked:
            self._late_workers.add(event.pid)

    def _warn_of_reload(self, now: float) -> Sequence[Action]:
        """Warn, once, of a server that has new workers some time after it was asked to end."""
        if self._asked_at is None or now < self._asked_at + _REACTION:
            return []
        self._asked_at = None
        if not any(self.workers.includes(pid) for pid in self._late_workers):
            return []
        name = signal.Signals(self._stop_signal or signal.SIGTERM).name
        text = (
            f"the server has started new workers after {name}: it seems to reload instead of "
            "ending, as uWSGI does without --die-on-term"
        )
        return [Warn(text)]

    def _handle_end_of_child(self, event: ChildEnded) -> Sequence[Action]:
        """Finish if the main process has ended, unless a successor takes its place.

        The successor gets the last request to end, too, and is killed if the server was killed.
        """
        if event.pid != self.main:
            return []
        if not event.successors:
            self.is_over = True
            return [Finish(event.returncode)]
        old, self.main = self.main, event.successors[0]
        self.workers.promote(self.main)
        text = f"process {old} has ended; the server goes on as process {self.main}"
        actions: list[Action] = [Warn(text)]
        if self._stop_signal is not None:
            # A request to end the server goes to the successor, too.
            actions.append(Forward(self.main, self._stop_signal))
        if self._has_killed:
            actions.append(KillAll())
        return actions

    def _handle_end_of_worker(self, event: WorkerEnded) -> Sequence[Action]:
        """Have the worker's files folded; warn if many workers end soon after their start.

        After a request to end, a short life is nothing to warn of.
        """
        if not self.workers.remove(event.pid, event.returncode):
            return [Compact()]
        is_short = event.age < SHORT_LIFE and event.returncode not in _ON_PURPOSE
        if is_short and self._stop_signal is None:
            return [Compact(), *self._count_short_life(event.now)]
        return [Compact()]

    def _count_short_life(self, now: float) -> Sequence[Action]:
        """Count a worker that ended soon after its start; warn if there have been many of late."""
        self._short_lives.append(now)
        while self._short_lives[0] <= now - _WINDOW:
            self._short_lives.popleft()
        count = len(self._short_lives)
        if count < _MANY or now < self._silent_until:
            return []
        self._silent_until = now + _WINDOW
        last = self.workers.last_status
        status = "" if last is None else f", the last with status {last}"
        text = (
            f"{plural(count, 'worker')} have ended within {SHORT_LIFE:.0f} s of their start"
            f"{status}; see what the server itself says"
        )
        return [Warn(text)]

    def _handle_tick(self, event: Ticked) -> Sequence[Action]:
        """Kill everything, once, if the grace is over; warn of a server that has reloaded."""
        if self._deadline is None or event.now < self._deadline:
            return self._warn_of_reload(event.now)
        self._deadline = None
        self._has_killed = True
        return [Warn(f"the server has not ended within {self._grace:g} s: killing it"), KillAll()]
