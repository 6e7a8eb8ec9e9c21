"""What a wrapper around a server decides: a state machine without clock, signals or processes.

Events go in, actions come out; `mpmetrics.supervisor.runner` is where both are real. The wrapper
is to be invisible: what is sent to it reaches the server's main process, once, and it
ends as that does.
"""

from __future__ import annotations

import signal
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mpmetrics._text import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

STOPPING: Final = frozenset(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGQUIT") if hasattr(signal, name)
)
"""The signals that ask a server to end."""

SHORT_LIFE: Final = 10.0
"""Seconds; a worker that ends sooner than this has hardly done anything."""

_ON_PURPOSE: Final = frozenset({0, 155})
"""Exit statuses of a worker that has done its share: the second is that of billiard (celery)."""

_MANY: Final = 5
_WINDOW: Final = 60.0
"""So many short lives in so many seconds are worth a word, once in as many seconds."""


# -- events -----------------------------------------------------------------------------------


class Signalled(NamedTuple):
    """This process got the signal *number*, at the time *now*; *from_terminal* if by a key."""

    number: int
    now: float
    from_terminal: bool = False


class Ended(NamedTuple):
    """A child has ended: its *returncode* is negative if it was by a signal.

    *heirs* are those who descend from it, are our children now, and have children of their own;
    the oldest first.
    """

    pid: int
    returncode: int
    heirs: Sequence[int] = ()


class WorkerBegan(NamedTuple):
    """The server has a new worker."""

    pid: int


class WorkerEnded(NamedTuple):
    """A worker has ended at the age of so many seconds; its *returncode* may not be known."""

    pid: int
    age: float
    now: float
    returncode: int | None = None


class Ticked(NamedTuple):
    """Time has passed."""

    now: float


Event = Signalled | Ended | WorkerBegan | WorkerEnded | Ticked


# -- actions ----------------------------------------------------------------------------------


class Forward(NamedTuple):
    """Send the signal *number* to the process *pid*."""

    pid: int
    number: int


class KillAll(NamedTuple):
    """Kill the server and everything that descends from it."""


class Say(NamedTuple):
    """Tell the user, in one line."""

    text: str


class Compact(NamedTuple):
    """Fold what a dead worker has left, soon."""


class Finish(NamedTuple):
    """The server has ended like this: end in the same way."""

    returncode: int


Action = Forward | KillAll | Say | Compact | Finish


class Supervisor:
    """Follows the *main* process of a server until it ends.

    It *shares_terminal* if keys on the terminal reach it without us. With *grace*, so many
    seconds after it was asked to end everything is killed.
    """

    def __init__(
        self, main: int, *, shares_terminal: bool = False, grace: float | None = None
    ) -> None:
        """Begin when *main* has been started."""
        self.main = main
        self.is_over = False
        self.worker_exits = 0
        self.worker_restarts = 0
        self.last_status: int | None = None
        self._shares_terminal = shares_terminal
        self._grace = grace
        self._deadline: float | None = None
        self._has_killed = False
        self._stop: int | None = None
        self._workers: set[int] = set()
        self._promoted: set[int] = set()
        self._vacancies = 0
        self._short_lives: deque[float] = deque()
        self._silent_until = 0.0

    @property
    def workers(self) -> int:
        """How many workers are running, as far as is known."""
        return len(self._workers)

    def handle(self, event: Event) -> Sequence[Action]:
        """Return what is to be done about *event*, in this order."""
        return [] if self.is_over else self._HANDLERS[type(event)](self, event)

    def _signalled(self, event: Signalled) -> Sequence[Action]:
        if event.number in STOPPING:
            self._stop = event.number
            if self._grace is not None and self._deadline is None and not self._has_killed:
                self._deadline = event.now + self._grace
        if event.from_terminal and self._shares_terminal:
            return []
        return [Forward(self.main, event.number)]

    def _ended(self, event: Ended) -> Sequence[Action]:
        if event.pid != self.main:
            return []
        if not event.heirs:
            self.is_over = True
            return [Finish(event.returncode)]
        old, self.main = self.main, event.heirs[0]
        # Until now it was somebody's child that runs the same program: a worker, by its looks.
        if self.main in self._workers:
            self._workers.remove(self.main)
            self._promoted.add(self.main)
        text = f"process {old} has ended; the server goes on as process {self.main}"
        # Whoever asked us to end the server did not mean one half of it.
        again: list[Action] = [] if self._stop is None else [Forward(self.main, self._stop)]
        return [Say(text), *again, *([KillAll()] if self._has_killed else [])]

    def _worker_began(self, event: WorkerBegan) -> Sequence[Action]:
        self._workers.add(event.pid)
        if self._vacancies:
            self._vacancies -= 1
            self.worker_restarts += 1
        return []

    def _worker_ended(self, event: WorkerEnded) -> Sequence[Action]:
        if event.pid in self._promoted:
            self._promoted.remove(event.pid)
            return [Compact()]
        self._workers.discard(event.pid)
        self.worker_exits += 1
        self._vacancies += 1
        if event.returncode is not None:
            self.last_status = event.returncode
        actions: list[Action] = [Compact()]
        if event.age < SHORT_LIFE and event.returncode not in _ON_PURPOSE and self._stop is None:
            actions += self._short_life(event.now)
        return actions

    def _short_life(self, now: float) -> Sequence[Action]:
        """Take note of a worker that came to nothing."""
        self._short_lives.append(now)
        while self._short_lives[0] <= now - _WINDOW:
            self._short_lives.popleft()
        count = len(self._short_lives)
        if count < _MANY or now < self._silent_until:
            return []
        self._silent_until = now + _WINDOW
        status = "" if self.last_status is None else f", the last with status {self.last_status}"
        text = (
            f"{plural(count, 'worker')} have ended within {SHORT_LIFE:.0f} s of their start"
            f"{status}; see what the server itself says"
        )
        return [Say(text)]

    def _ticked(self, event: Ticked) -> Sequence[Action]:
        if self._deadline is None or event.now < self._deadline:
            return []
        self._deadline = None
        self._has_killed = True
        return [Say(f"the server has not ended within {self._grace:g} s: killing it"), KillAll()]

    _HANDLERS: Final[Mapping[type, Callable[[Supervisor, Any], Sequence[Action]]]] = {
        Signalled: _signalled,
        Ended: _ended,
        WorkerBegan: _worker_began,
        WorkerEnded: _worker_ended,
        Ticked: _ticked,
    }
