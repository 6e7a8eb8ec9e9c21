"""Gaps in the numbers of an engine's messages: what is missing, and how to get it by a replay.

A publisher numbers its messages from 0. A message that is not the next one is kept until a replay
has brought what is missing, or has failed; meanwhile nothing else is read. This module has no clock
and no sockets: `GapTracker` takes numbers and times, and returns actions.

An engine answers with everything that it has, up to its newest message, and the replay is read to
its end. The messages behind the one that was kept come live later; a second delivery is left out if
its payload is that of the replay. So many gaps in a row cost one replay. A replay that breaks off
after it has brought something is requested again from there on: the engine may still have the rest.

After a lost connection the publisher may be another one, whose numbers are already beyond those of
the one before. So the first replay after a new connection begins one message earlier, with one
that is known, and so does one that is requested again because the publisher fell silent. If that
message differs, or the live one, the publisher was restarted. Messages of the one before may still
wait to be read, and cannot be told from those of the new one: all that wait are discarded, and the
new one replays its own from 0 on. A jump that no engine can make is a restart, too.
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
"""The time limit of a replay, with all its repetitions, as a multiple of that for one message."""

FASTEST: Final = 1_000_000
"""More messages than an engine publishes in a second, or than it can be ahead of a listener."""

MOST_MISSED: Final = 1 << 32
"""More messages than an engine has published when a listener starts."""

MOST_AHEAD: Final = 1 << 20
"""The most messages that a replay may bring beyond the one that showed the gap."""

_NOTHING_KEPT: Final = -1

_FOR_THE_END: Final = 1.0
"""Seconds to wait for more of a replay that has brought all that was missing."""


class Delivery(NamedTuple):
    """The delivery of a message, which is the next one."""

    payload: bytes


class Notice(NamedTuple):
    """A notice of `NOTICES`: numbers are missing, begin late, or begin again."""

    what: str


class Discard(NamedTuple):
    """The discarding of the live messages that wait: some may be of a publisher that is gone."""


class ReplayRequest(NamedTuple):
    """A request for a replay from the number *start* on; until it ends, read no live message."""

    start: int


class ReplayEnd(NamedTuple):
    """The end of a replay: close it, and go on with live messages."""

    outcome: str


class Loss(NamedTuple):
    """A number of messages that are lost for good."""

    messages: int


Action = Delivery | Notice | Discard | ReplayRequest | ReplayEnd | Loss


class _Replay:
    """A replay in progress, and the live message that is kept until it has brought what is missing.

    *number* and *payload* are those of the live message, *known* is the payload of the last message
    before it, if the replay has to repeat that one. *latest* is the time limit. `got` counts
    messages, `flaw` is the first fault of the replay, "" if it has none, and it `is_complete` when
    the live message is delivered. A replay of everything that a publisher has keeps none: *number*
    is that of no message.
    """

    def __init__(self, number: int, payload: bytes, known: bytes | None, latest: float) -> None:
        self.number = number
        self.payload = payload
        self.known = known
        self.latest = latest
        self.got = 0
        self.flaw = ""
        self.is_complete = number == _NOTHING_KEPT


class GapTracker:
    """The numbers of one publisher. With *patience*, in seconds, missing ones are requested."""

    def __init__(self, patience: float | None = None) -> None:
        """Expect message 0."""
        self._patience = patience
        self._expected = 0
        self._last: bytes | None = None
        self._heard = 0.0  # when the last live message came
        self._most_missed: float = MOST_MISSED  # what a publisher can have sent since then
        self._ahead: dict[int, int] = {}  # what replays brought ahead of live messages: hashes
        self._is_reconnected = False
        self._is_doubtful = False  # no replay has shown whether the publisher is the same
        self._replay: _Replay | None = None
        self.deadline: float | None = None

    @property
    def is_replaying(self) -> bool:
        """Whether a replay is in progress: until it ends, pass no live message."""
        return self._replay is not None

    def note_connection(self) -> None:
        """Note that live messages come over a new connection from now on."""
        self._is_reconnected = self._last is not None or self._replay is not None

    def take_live(self, number: int, payload: bytes, now: float) -> Sequence[Action]:
        """Take a live message; return the actions that follow, in their order."""
        # It does not show the publisher: it may have waited since before the last new connection.
        if self._was_ahead(number, payload):
            return ()
        if self._last is not None:
            self._most_missed = FASTEST * (1 + max(0.0, now - self._heard))
        self._heard = now
        if not 0 <= number - self._expected <= self._most_missed and self._last is not None:
            # No number comes twice over one connection, so the publisher was restarted.
            return [Notice(RESTARTED), *self._restart(number, payload, now)]
        self._ahead.clear()
        is_new = self._is_reconnected or (self._is_doubtful and number > self._expected)
        known = self._last if is_new and self._patience is not None else None
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
        if replay is None:
            return ()
        if number == replay.number and payload != replay.payload:
            return self._replace_publisher(now)
        if number < self._expected:
            return self._take_old(replay, number, payload, now)
        replay.known = None
        if number > self._expected:
            return self._skip(replay, number, payload, now)
        return self._take_next(replay, number, payload, now)

    def end_replay(self, outcome: str = "", now: float | None = None) -> Sequence[Action]:
        """End the replay; return the actions that follow.

        If it has brought something, but not all, it is requested again, unless *now* is None.
        """
        replay = self._replay
        if replay is None:
            return ()
        self._replay = self.deadline = None
        self._is_doubtful = replay.known is not None
        if replay.number == _NOTHING_KEPT and self._last is None:
            return [ReplayEnd(outcome or EMPTY)]
        if replay.is_complete:
            return [ReplayEnd(replay.flaw or COMPLETE)]
        end = ReplayEnd(replay.flaw or outcome or (ENDED_EARLY if replay.got else EMPTY))
        if now is not None and replay.got and now < replay.latest:
            # A publisher that falls silent may have been restarted.
            known = self._last if outcome == TIMEOUT else None
            again = _Replay(replay.number, replay.payload, known, replay.latest)
            return [end, self._begin(again, self._expected - (known is not None), now)]
        return [end, *self._lose_until(replay.number), *self._deliver_kept(replay)]

    def tick(self, now: float) -> Sequence[Action]:
        """End a replay that is late; return the actions that follow."""
        late = self.deadline is not None and now >= self.deadline
        return self.end_replay(TIMEOUT, now) if late else ()

    def _take_old(
        self, replay: _Replay, number: int, payload: bytes, now: float
    ) -> Sequence[Action]:
        """Take a message of the replay that was delivered before; it may show the publisher."""
        if number < self._expected - 1:
            return ()
        known, replay.known = replay.known, None
        return () if known is None else self._compare(replay, known, payload, now)

    def _take_next(
        self, replay: _Replay, number: int, payload: bytes, now: float
    ) -> Sequence[Action]:
        """Take the next message of the replay."""
        if replay.is_complete:
            return self._deliver_ahead(replay, number, payload, now)
        if number == replay.number:  # nothing was missing but the one that was to be compared
            return self._continue(replay, now)
        replay.got += 1
        return [*self._deliver(number, payload), *self._continue(replay, now)]

    def _was_ahead(self, number: int, payload: bytes) -> bool:
        """Return whether a replay has brought this live message already."""
        found = self._ahead.get(number)
        if found is None or found != hash(payload):
            return False
        while self._ahead and (first := next(iter(self._ahead))) <= number:
            del self._ahead[first]
        return True

    def _deliver(self, number: int, payload: bytes) -> Sequence[Action]:
        """Deliver a message, and expect the next number."""
        self._expected, self._last = number + 1, payload
        return (Delivery(payload),)

    def _deliver_kept(self, replay: _Replay) -> Sequence[Action]:
        """Deliver the live message that was kept."""
        replay.is_complete = True
        return self._deliver(replay.number, replay.payload)

    def _deliver_ahead(
        self, replay: _Replay, number: int, payload: bytes, now: float
    ) -> Sequence[Action]:
        """Deliver a message of the replay that will come live, too."""
        self._ahead[number] = hash(payload)
        actions = [*self._deliver(number, payload), *self._continue(replay, now)]
        return [*actions, *self.end_replay()] if len(self._ahead) >= MOST_AHEAD else actions

    def _lose_until(self, number: int) -> Sequence[Action]:
        """Expect *number*; return the loss of the messages before it, if they can be counted."""
        lost, self._expected = number - self._expected, number
        return [Loss(lost)] if 0 < lost <= self._most_missed else []

    def _restart(self, number: int, payload: bytes, now: float) -> Sequence[Action]:
        """Take a live message as one of a new publisher."""
        self._forget()
        self._is_doubtful = True  # it may have waited, and its publisher may be gone, too
        return self.take_live(number, payload, now)

    def _replace_publisher(self, now: float) -> Sequence[Action]:
        """Begin with a new publisher, since a replay has shown that the one before is gone."""
        self._forget()
        replay = _Replay(_NOTHING_KEPT, b"", None, now + LONGEST * (self._patience or 0))
        request = self._begin(replay, 0, now)
        return [ReplayEnd(RESTARTED), Notice(RESTARTED), Notice(LATE_START), Discard(), request]

    def _forget(self) -> None:
        """Forget the publisher."""
        self._expected, self._last = 0, None
        self._is_reconnected = self._is_doubtful = False
        self._ahead.clear()

    def _request(
        self, number: int, payload: bytes, known: bytes | None, now: float
    ) -> Sequence[Action]:
        """Ask for the messages that are missing before this one, or count them as lost."""
        if self._patience is None:
            return [*self._lose_until(number), *self._deliver(number, payload)]
        replay = _Replay(number, payload, known, now + LONGEST * self._patience)
        return [self._begin(replay, self._expected - (known is not None), now)]

    def _begin(self, replay: _Replay, start: int, now: float) -> ReplayRequest:
        """Begin a *replay* from the number *start* on."""
        self._replay = replay
        self._set_deadline(replay, now)
        return ReplayRequest(start)

    def _skip(self, replay: _Replay, number: int, payload: bytes, now: float) -> Sequence[Action]:
        """Take a message of the replay before which some are missing.

        The publisher no longer has them if it is the first one; else they were lost on the way.
        """
        is_first = replay.number == _NOTHING_KEPT and self._last is None
        if replay.got or (replay.is_complete and not is_first):
            return self.end_replay(NON_CONTIGUOUS, now)
        replay.flaw = STARTED_LATE
        if is_first:
            return [*self._lose_until(number), *self._deliver_ahead(replay, number, payload, now)]
        lost = self._lose_until(min(number, replay.number))
        if number < replay.number:
            return [*lost, *self._take_next(replay, number, payload, now)]
        actions = [*lost, *self._continue(replay, now)]
        return actions if number == replay.number else [*actions, *self.end_replay()]

    def _compare(
        self, replay: _Replay, known: bytes, payload: bytes, now: float
    ) -> Sequence[Action]:
        """Check whether the replay is of the publisher whose last message is *known*."""
        if payload == known:
            return self._continue(replay, now)
        return self._replace_publisher(now)

    def _continue(self, replay: _Replay, now: float) -> Sequence[Action]:
        """Wait for the next message; deliver the one that was kept if it is the next one."""
        is_next = self._expected == replay.number and not replay.is_complete
        actions = self._deliver_kept(replay) if is_next else ()
        self._set_deadline(replay, now)
        return actions

    def _set_deadline(self, replay: _Replay, now: float) -> None:
        patience = self._patience or 0
        has_all = replay.is_complete and self._last is not None
        wait = min(patience, _FOR_THE_END) if has_all else patience
        self.deadline = min(now + wait, replay.latest)
