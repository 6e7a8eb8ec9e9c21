"""What the numbers of an engine's messages say: what is missing, and whether to ask for it again.

A publisher numbers its messages from 0. A message that is not the next one is kept until a replay
has brought what is missing, or has failed; meanwhile nothing else is read. No clock, no sockets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

GAP: Final = "gap"
LATE_START: Final = "late_start"
RESTARTED: Final = "restarted"

COMPLETE: Final = "complete"
EMPTY: Final = "empty"
STARTED_LATE: Final = "started_after_requested"
NON_CONTIGUOUS: Final = "non_contiguous"
ENDED_EARLY: Final = "ended_before_target"
TIMEOUT: Final = "timeout"
MALFORMED: Final = "malformed"

OUTCOMES: Final = (
    COMPLETE,
    EMPTY,
    STARTED_LATE,
    NON_CONTIGUOUS,
    ENDED_EARLY,
    TIMEOUT,
    MALFORMED,
)
"""How a replay can end. Except for the first, something is missing, or too much of it."""


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

    def __init__(self, number: int, payload: bytes) -> None:
        self.number = number
        self.payload = payload
        self.got = 0
        self.lost = 0
        self.flaw = ""


class Stream:
    """The messages of one publisher. With *patience*, in seconds, it asks for what is missing."""

    def __init__(self, patience: float | None = None) -> None:
        """Expect the first message."""
        self._patience = patience
        self._expected = 0
        self._has_begun = False
        self._replay: _Replay | None = None
        self.deadline: float | None = None

    @property
    def waits(self) -> bool:
        """Whether a replay is under way, and no live message may be given."""
        return self._replay is not None

    def live(self, number: int, payload: bytes, now: float) -> Sequence[Action]:
        """Return what is to be done about a live message, in this order."""
        if number == self._expected:
            self._expected, self._has_begun = number + 1, True
            return (Deliver(payload),)
        actions: list[Action] = []
        if number < self._expected:
            # No number comes twice over one connection: somebody has begun anew.
            actions.append(Noticed(RESTARTED))
            self._expected, self._has_begun = 0, False
        if number == self._expected:
            return [*actions, *self.live(number, payload, now)]
        actions.append(Noticed(GAP if self._has_begun else LATE_START))
        return [*actions, *self._missing(number, payload, now)]

    def reply(self, number: int, payload: bytes, now: float) -> Sequence[Action]:
        """Return what is to be done about a message of the replay."""
        replay = self._replay
        if replay is None or number < self._expected:
            return ()
        if number >= replay.number:
            return self._end(NON_CONTIGUOUS if replay.got else STARTED_LATE)
        if number > self._expected:
            replay.flaw = replay.flaw or (NON_CONTIGUOUS if replay.got else STARTED_LATE)
            replay.lost += number - self._expected
        replay.got += 1
        self._expected = number + 1
        self.deadline = now + (self._patience or 0)
        if self._expected == replay.number:
            return [Deliver(payload), *self._end(COMPLETE)]
        return (Deliver(payload),)

    def end(self) -> Sequence[Action]:
        """Return what is to be done when the replay says that it has no more."""
        return self._end(ENDED_EARLY if self._replay and self._replay.got else EMPTY)

    def spoil(self) -> Sequence[Action]:
        """Return what is to be done when the replay sends what nobody understands."""
        return self._end(MALFORMED)

    def tick(self, now: float) -> Sequence[Action]:
        """Return what is to be done because it is so late."""
        late = self.deadline is not None and now >= self.deadline
        return self._end(TIMEOUT) if late else ()

    def _missing(self, number: int, payload: bytes, now: float) -> Sequence[Action]:
        """Ask for what is missing before this message, or take it as lost."""
        missing = number - self._expected
        if self._patience is None:
            self._expected, self._has_begun = number + 1, True
            return [Lost(missing), Deliver(payload)]
        self._replay = _Replay(number, payload)
        self.deadline = now + self._patience
        return [Ask(self._expected)]

    def _end(self, outcome: str) -> Sequence[Action]:
        """End the replay, and go on with the message that was kept."""
        replay = self._replay
        if replay is None:
            return ()
        lost = replay.lost + replay.number - self._expected
        self._expected, self._has_begun = replay.number + 1, True
        self._replay = self.deadline = None
        losses = [Lost(lost)] if lost else []
        return [Ended(replay.flaw or outcome), *losses, Deliver(replay.payload)]
