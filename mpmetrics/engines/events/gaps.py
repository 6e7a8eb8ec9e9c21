"""Gaps in the numbers of an engine's messages: what is missing, and how to get it by a replay.

A publisher numbers its messages from 0. A message that is not the next one is kept until a replay
has brought what is missing, or has failed; meanwhile nothing else is read. This module has no clock
and no sockets: `GapTracker` takes numbers and times, and returns actions.

After a lost connection the publisher may be another one, whose numbers are already beyond those of
the one before. So the first replay after a new connection begins one message earlier, with one that
is known: if it differs, the publisher was restarted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

GAP: Final = "gap"
LATE_START: Final = "late_start"
RESTARTED: Final = "restarted"

NOTICES: Final = (GAP, LATE_START, RESTARTED)
"""What a `Notice` can report."""

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
"""How a replay can end. Only a complete one has brought all that was missing."""

LONGEST: Final = 12
"""The time limit of a whole replay, as a multiple of that for one message."""


class Delivery(NamedTuple):
    """The delivery of a message, which is the next one."""

    payload: bytes


class Notice(NamedTuple):
    """A notice of `NOTICES`: numbers are missing, begin late, or begin again."""

    what: str


class ReplayRequest(NamedTuple):
    """A request for a replay from the number *start* on; until it ends, read no live message."""

    start: int


class ReplayEnd(NamedTuple):
    """The end of a replay: close it, and go on with live messages."""

    outcome: str


class Loss(NamedTuple):
    """A number of messages that are lost for good."""

    messages: int


Action = Delivery | Notice | ReplayRequest | ReplayEnd | Loss


class _Replay:
    """A replay in progress, and the live message that is kept until it ends.

    *number* and *payload* are those of the live message, *known* is the payload of the last message
    before it, if the replay has to repeat that one. *latest* is the time limit. `got` and `lost`
    count messages, and `flaw` is the first fault of the replay, "" if it has none.
    """

    def __init__(self, number: int, payload: bytes, known: bytes | None, latest: float) -> None:
        self.number = number
        self.payload = payload
        self.known = known
        self.latest = latest
        self.got = 0
        self.lost = 0
        self.flaw = ""


class GapTracker:
    """The numbers of one publisher. With *patience*, in seconds, missing ones are requested."""

    def __init__(self, patience: float | None = None) -> None:
        """Expect message 0."""
        self._patience = patience
        self._expected = 0
        self._last: bytes | None = None
        self._is_reconnected = False
        self._replay: _Replay | None = None
        self.deadline: float | None = None

    @property
    def is_replaying(self) -> bool:
        """Whether a replay is in progress: until it ends, pass no live message."""
        return self._replay is not None

    def note_connection(self) -> None:
        """Note that live messages come over a new connection from now on."""
        self._is_reconnected = self._last is not None

    def take_live(self, number: int, payload: bytes, now: float) -> Sequence[Action]:
        """Take a live message; return the actions that follow, in their order."""
        if number < self._expected:
            # No number comes twice over one connection, so the publisher was restarted.
            return [Notice(RESTARTED), *self._restart(number, payload, now)]
        known = self._last if self._is_reconnected and self._patience is not None else None
        self._is_reconnected = False
        if number == self._expected and known is None:
            return self._deliver(number, payload)
        actions: list[Action] = []
        if number > self._expected:
            actions.append(Notice(LATE_START if self._last is None else GAP))
        return [*actions, *self._request(number, payload, known, now)]

    def take_reply(self, number: int, payload: bytes, now: float) -> Sequence[Action]:
        """Take a message of the replay; return the actions that follow."""
        replay = self._replay
        if replay is None or number < self._expected - 1:
            return ()
        known, replay.known = replay.known, None
        if known is not None and number == self._expected - 1:
            return self._compare(replay, known, payload, now)
        if number < self._expected:
            return ()
        if number >= replay.number:
            return self.end_replay(NON_CONTIGUOUS if replay.got else STARTED_LATE)
        if number > self._expected:
            replay.flaw = replay.flaw or (NON_CONTIGUOUS if replay.got else STARTED_LATE)
            replay.lost += number - self._expected
        replay.got += 1
        return [*self._deliver(number, payload), *self._continue(replay, now)]

    def end_replay(self, outcome: str = "") -> Sequence[Action]:
        """End the replay; return the actions that follow."""
        replay = self._replay
        if replay is None:
            return ()
        outcome = replay.flaw or outcome or (ENDED_EARLY if replay.got else EMPTY)
        lost = replay.lost + replay.number - self._expected
        self._replay = self.deadline = None
        losses = [Loss(lost)] if lost else []
        return [ReplayEnd(outcome), *losses, *self._deliver(replay.number, replay.payload)]

    def tick(self, now: float) -> Sequence[Action]:
        """End a replay that is late; return the actions that follow."""
        late = self.deadline is not None and now >= self.deadline
        return self.end_replay(TIMEOUT) if late else ()

    def _deliver(self, number: int, payload: bytes) -> Sequence[Action]:
        """Deliver a message, and expect the next number."""
        self._expected, self._last = number + 1, payload
        return (Delivery(payload),)

    def _restart(self, number: int, payload: bytes, now: float) -> Sequence[Action]:
        """Take a live message as one of a new publisher."""
        self._expected, self._last, self._is_reconnected = 0, None, False
        return self.take_live(number, payload, now)

    def _request(
        self, number: int, payload: bytes, known: bytes | None, now: float
    ) -> Sequence[Action]:
        """Ask for the messages that are missing before this one, or count them as lost."""
        if self._patience is None:
            return [Loss(number - self._expected), *self._deliver(number, payload)]
        self._replay = _Replay(number, payload, known, now + LONGEST * self._patience)
        self.deadline = now + self._patience
        return [ReplayRequest(self._expected if known is None else self._expected - 1)]

    def _compare(
        self, replay: _Replay, known: bytes, payload: bytes, now: float
    ) -> Sequence[Action]:
        """Check whether the replay is of the publisher whose last message is *known*."""
        if payload == known:
            return self._continue(replay, now)
        self._replay = self.deadline = None
        actions = self._restart(replay.number, replay.payload, now)
        return [ReplayEnd(RESTARTED), Notice(RESTARTED), *actions]

    def _continue(self, replay: _Replay, now: float) -> Sequence[Action]:
        """End the replay if no message is missing any more, else wait for its next one."""
        if self._expected == replay.number:
            return self.end_replay(COMPLETE)
        self.deadline = min(now + (self._patience or 0), replay.latest)
        return ()
