"""What the numbers of an engine's messages say: what is missing, and whether to ask for it again.

A publisher numbers its messages from 0. A message that is not the next one is kept until a replay
has brought what is missing, or has failed; meanwhile nothing else is read. No clock, no sockets.

Whoever is there after a connection was lost may be another publisher, whose numbers are already
beyond those of the one before. So the first replay after that begins one message earlier, with one
that is known: if it is not the same, somebody has begun anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

GAP: Final = "gap"
LATE_START: Final = "late_start"
RESTARTED: Final = "restarted"

NOTICES: Final = (GAP, LATE_START, RESTARTED)
"""What there is to notice of numbers."""

COMPLETE: Final = "complete"
EMPTY: Final = "empty"
STARTED_LATE: Final = "started_after_requested"
NON_CONTIGUOUS: Final = "non_contiguous"
ENDED_EARLY: Final = "ended_before_target"
TIMEOUT: Final = "timeout"
MALFORMED: Final = "malformed"
UNREACHABLE: Final = "unreachable"
STOPPED: Final = "stopped"

OUTCOMES: Final = (
    COMPLETE,
    EMPTY,
    STARTED_LATE,
    NON_CONTIGUOUS,
    ENDED_EARLY,
    TIMEOUT,
    MALFORMED,
    UNREACHABLE,
    RESTARTED,
    STOPPED,
)
"""How a replay can end. It has brought all that was missing if it is complete."""

LONGEST: Final = 12
"""So many times as long as for one message a whole replay may take."""


class Deliver(NamedTuple):
    """This message is the next one."""

    payload: bytes


class Noticed(NamedTuple):
    """The numbers have a `GAP`, begin with a `LATE_START`, or again since it has `RESTARTED`."""

    what: str


class Ask(NamedTuple):
    """Ask for a replay from the number *start* on, and read nothing else."""

    start: int


class Ended(NamedTuple):
    """The replay is over: close it, and read on."""

    outcome: str


class Lost(NamedTuple):
    """So many messages are lost for good."""

    messages: int


Action = Deliver | Noticed | Ask | Ended | Lost


class _Replay:
    """A replay that is under way, for the sake of the message that is kept."""

    def __init__(self, number: int, payload: bytes, known: bytes | None, latest: float) -> None:
        self.number = number
        self.payload = payload
        self.known = known
        self.latest = latest
        self.got = 0
        self.lost = 0
        self.flaw = ""


class Stream:
    """The messages of one publisher. With *patience*, in seconds, it asks for what is missing."""

    def __init__(self, patience: float | None = None) -> None:
        """Expect the first message."""
        self._patience = patience
        self._expected = 0
        self._last: bytes | None = None
        self._is_reconnected = False
        self._replay: _Replay | None = None
        self.deadline: float | None = None

    @property
    def waits(self) -> bool:
        """Whether a replay is under way, and no live message may be given."""
        return self._replay is not None

    def connected(self) -> None:
        """Take it that messages come over a new connection from now on."""
        self._is_reconnected = self._last is not None

    def live(self, number: int, payload: bytes, now: float) -> Sequence[Action]:
        """Return what is to be done about a live message, in this order."""
        if number < self._expected:
            # No number comes twice over one connection: somebody has begun anew.
            return [Noticed(RESTARTED), *self._begin_anew(number, payload, now)]
        known = self._last if self._is_reconnected and self._patience is not None else None
        self._is_reconnected = False
        if number == self._expected and known is None:
            return self._next(number, payload)
        actions: list[Action] = []
        if number > self._expected:
            actions.append(Noticed(LATE_START if self._last is None else GAP))
        return [*actions, *self._missing(number, payload, known, now)]

    def reply(self, number: int, payload: bytes, now: float) -> Sequence[Action]:
        """Return what is to be done about a message of the replay."""
        replay = self._replay
        if replay is None or number < self._expected - 1:
            return ()
        known, replay.known = replay.known, None
        if known is not None and number == self._expected - 1:
            return self._compare(replay, known, payload, now)
        if number < self._expected:
            return ()
        if number >= replay.number:
            return self.end(NON_CONTIGUOUS if replay.got else STARTED_LATE)
        if number > self._expected:
            replay.flaw = replay.flaw or (NON_CONTIGUOUS if replay.got else STARTED_LATE)
            replay.lost += number - self._expected
        replay.got += 1
        return [*self._next(number, payload), *self._go_on(replay, now)]

    def end(self, outcome: str = "") -> Sequence[Action]:
        """Return what is to be done when the replay is over, since it has no more or so."""
        replay = self._replay
        if replay is None:
            return ()
        outcome = replay.flaw or outcome or (ENDED_EARLY if replay.got else EMPTY)
        lost = replay.lost + replay.number - self._expected
        self._replay = self.deadline = None
        losses = [Lost(lost)] if lost else []
        return [Ended(outcome), *losses, *self._next(replay.number, replay.payload)]

    def tick(self, now: float) -> Sequence[Action]:
        """Return what is to be done because it is so late."""
        late = self.deadline is not None and now >= self.deadline
        return self.end(TIMEOUT) if late else ()

    def _next(self, number: int, payload: bytes) -> Sequence[Action]:
        """Deliver a message, and expect the one behind it."""
        self._expected, self._last = number + 1, payload
        return (Deliver(payload),)

    def _begin_anew(self, number: int, payload: bytes, now: float) -> Sequence[Action]:
        """Take a live message as one of a publisher of which nothing is known."""
        self._expected, self._last, self._is_reconnected = 0, None, False
        return self.live(number, payload, now)

    def _missing(
        self, number: int, payload: bytes, known: bytes | None, now: float
    ) -> Sequence[Action]:
        """Ask for what is missing before this message, or take it as lost."""
        if self._patience is None:
            return [Lost(number - self._expected), *self._next(number, payload)]
        self._replay = _Replay(number, payload, known, now + LONGEST * self._patience)
        self.deadline = now + self._patience
        return [Ask(self._expected if known is None else self._expected - 1)]

    def _compare(
        self, replay: _Replay, known: bytes, payload: bytes, now: float
    ) -> Sequence[Action]:
        """Find out whether the replay is of the publisher whose last message is *known*."""
        if payload == known:
            return self._go_on(replay, now)
        self._replay = self.deadline = None
        anew = self._begin_anew(replay.number, replay.payload, now)
        return [Ended(RESTARTED), Noticed(RESTARTED), *anew]

    def _go_on(self, replay: _Replay, now: float) -> Sequence[Action]:
        """End the replay if nothing is missing, else wait for its next message."""
        if self._expected == replay.number:
            return self.end(COMPLETE)
        self.deadline = min(now + (self._patience or 0), replay.latest)
        return ()
