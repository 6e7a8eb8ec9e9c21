"""Gaps in the numbers of messages and the actions that follow: histories, without any clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpmetrics.engines.events.gaps import (
    GAP,
    LATE_START,
    RESTARTED,
    Action,
    Delivery,
    Discard,
    GapTracker,
    Loss,
    Notice,
    ReplayEnd,
    ReplayRequest,
)
from mpmetrics.engines.events.source import take_reply

if TYPE_CHECKING:
    from collections.abc import Sequence

END = b"\xff" * 8

ANOTHER: list[Action] = [
    ReplayEnd(RESTARTED),
    Notice(RESTARTED),
    Notice(LATE_START),
    Discard(),
    ReplayRequest(0),
]
"""What follows when a replay shows that the publisher is another one."""


def payload(number: int) -> bytes:
    """Return a payload for the message with this *number*."""
    return b"message %d" % number


def messages(*numbers: int) -> list[Action]:
    """Return the deliveries of the messages with these *numbers*."""
    return [Delivery(payload(number)) for number in numbers]


def live(tracker: GapTracker, *numbers: int) -> list[Action]:
    """Return the actions that follow from live messages."""
    return [
        action for number in numbers for action in tracker.take_live(number, payload(number), 0.0)
    ]


def replay(tracker: GapTracker, *numbers: int, now: float = 0.0) -> list[Action]:
    """Return the actions that follow from messages of a replay."""
    return [
        action for number in numbers for action in tracker.take_reply(number, payload(number), now)
    ]


def test_messages_in_order() -> None:
    """Messages in order are delivered at once."""
    assert live(GapTracker(), 0, 1, 2) == messages(0, 1, 2)


@pytest.mark.parametrize(
    ("seen", "number", "what", "lost"),
    [((), 3, LATE_START, 3), ((0, 1), 5, GAP, 3), ((4,), 7, GAP, 2)],
)
def test_without_replay(seen: tuple[int, ...], number: int, what: str, lost: int) -> None:
    """Without replays, missing messages are lost and counted."""
    tracker = GapTracker()
    live(tracker, *seen)
    assert live(tracker, number) == [Notice(what), Loss(lost), *messages(number)]
    assert live(tracker, number + 1) == messages(number + 1)


@pytest.mark.parametrize("seen", [0, 5])
@pytest.mark.parametrize("number", [0, 2])
def test_a_number_that_goes_back(seen: int, number: int) -> None:
    """A number that goes back is a restart, and the messages before it are missing."""
    tracker = GapTracker()
    live(tracker, *range(seen + 3))
    late = [Notice(LATE_START), Loss(number)] if number else []
    assert live(tracker, number) == [Notice(RESTARTED), *late, *messages(number)]
    assert live(tracker, number + 1) == messages(number + 1)


def test_the_same_number_again() -> None:
    """The same number again is a restart: no message comes twice over one connection."""
    tracker = GapTracker()
    live(tracker, 0)
    assert live(tracker, 0) == [Notice(RESTARTED), *messages(0)]


def test_a_replay() -> None:
    """A replay is read to its end; what it brings beyond the gap does not come twice."""
    tracker = GapTracker(5)
    assert live(tracker, 0, 1, 4) == [*messages(0, 1), Notice(GAP), ReplayRequest(2)]
    assert tracker.is_replaying
    assert replay(tracker, 2) == messages(2)
    assert replay(tracker, 3) == messages(3, 4)
    assert replay(tracker, 4, 5, 6, 7) == messages(5, 6, 7)
    assert tracker.is_replaying
    assert tracker.end_replay() == [ReplayEnd("complete")]
    assert not tracker.is_replaying
    assert replay(tracker, 8) == []
    assert live(tracker, 5, 7, 8) == messages(8)


def test_a_restart_behind_a_replay() -> None:
    """Another payload with a number that a replay has brought is a restart."""
    tracker = GapTracker(5)
    live(tracker, 0, 2)
    replay(tracker, 1, 2, 3, 4)
    tracker.end_replay()
    assert live(tracker, 3) == []
    restarted = [Notice(RESTARTED), Notice(LATE_START), ReplayRequest(0)]
    assert tracker.take_live(4, b"another", 0.0) == restarted


def test_a_replay_of_another_publisher() -> None:
    """A replay that has another payload for the live message is of another publisher."""
    tracker = GapTracker(5)
    live(tracker, 0, 2)
    replay(tracker, 1)
    assert tracker.take_reply(2, b"another", 0.0) == ANOTHER
    assert replay(tracker, 0, 1) == messages(0, 1)
    assert tracker.end_replay() == [ReplayEnd("complete")]
    assert live(tracker, 1, 2) == messages(2)


def test_a_replay_without_an_end() -> None:
    """A replay that has brought all that was missing is not waited for long."""
    tracker = GapTracker(5)
    live(tracker, 0, 2)
    replay(tracker, 1, now=1.0)
    assert tracker.deadline == 2.0
    assert replay(tracker, 3, now=1.5) == messages(3)
    assert tracker.tick(2.5) == [ReplayEnd("complete")]


def test_a_burst_of_gaps() -> None:
    """A burst of gaps costs one replay, since the engine answers with everything that it has."""
    tracker = GapTracker(5)
    seen = [number for number in range(1000) if number % 5]
    actions = live(tracker, seen[0])
    actions += [*replay(tracker, *range(1000)), *tracker.end_replay()]
    actions += live(tracker, *seen[1:], 1000)
    assert [each for each in actions if not isinstance(each, Delivery)] == [
        Notice(LATE_START),
        ReplayRequest(0),
        ReplayEnd("complete"),
    ]
    assert [each for each in actions if isinstance(each, Delivery)] == messages(*range(1001))


@pytest.mark.parametrize("patience", [None, 5.0])
@pytest.mark.parametrize("number", [1 << 62, (1 << 64) - 2, 1 << 33, 1 << 31, 5_000_000])
def test_a_jump_that_no_engine_makes(patience: float | None, number: int) -> None:
    """An implausible jump is a restart: no messages are counted as lost that nothing sent."""
    tracker = GapTracker(patience)
    live(tracker, 0, 1)
    actions = [*live(tracker, number), *tracker.end_replay()]
    assert actions[:2] == [Notice(RESTARTED), Notice(LATE_START)]
    assert not any(isinstance(each, Loss) for each in actions)
    assert actions[-1:] == messages(number)
    assert live(tracker, number + 1) == messages(number + 1)


def test_a_long_absence() -> None:
    """A jump is plausible after a time in which an engine can have published so much."""
    tracker = GapTracker()
    live(tracker, 0)
    assert tracker.take_live(60_000_000, b"x", 60.0)[0] == Notice(GAP)


def test_a_replay_that_breaks_off() -> None:
    """A replay that breaks off is requested again, as long as it brings something."""
    tracker = GapTracker(5)
    live(tracker, 0, 6)
    assert replay(tracker, 1, 2, 4) == [
        *messages(1, 2),
        ReplayEnd("non_contiguous"),
        ReplayRequest(3),
    ]
    assert [*replay(tracker, 3), *tracker.end_replay(now=1.0)] == [
        *messages(3),
        ReplayEnd("ended_before_target"),
        ReplayRequest(4),
    ]
    assert replay(tracker, 4, now=2.0) == messages(4)
    # A publisher that falls silent may have been restarted: one message is compared.
    assert tracker.tick(7.0) == [ReplayEnd("timeout"), ReplayRequest(4)]
    assert tracker.tick(12.0) == [ReplayEnd("timeout"), Loss(1), *messages(6)]


def test_a_replay_after_a_restart() -> None:
    """After a restart a replay is requested from message 0 on."""
    tracker = GapTracker(5)
    assert live(tracker, 0, 1, 2, 1) == [
        *messages(0, 1, 2),
        Notice(RESTARTED),
        Notice(LATE_START),
        ReplayRequest(0),
    ]
    assert replay(tracker, 0) == messages(0, 1)


@pytest.mark.parametrize(
    ("replayed", "actions"),
    [
        ((), [ReplayEnd("empty"), Loss(4), *messages(6)]),
        ((2,), [*messages(2), ReplayEnd("ended_before_target"), Loss(3), *messages(6)]),
        ((4, 5), [Loss(2), *messages(4, 5, 6), ReplayEnd("started_after_requested")]),
        ((5, 6, 7), [Loss(3), *messages(5, 6, 7), ReplayEnd("started_after_requested")]),
        ((6, 7), [Loss(4), *messages(6, 7), ReplayEnd("started_after_requested")]),
        ((7,), [Loss(4), *messages(6), ReplayEnd("started_after_requested")]),
        (
            (2, 5),
            [
                *messages(2),
                ReplayEnd("non_contiguous"),
                ReplayRequest(3),
                ReplayEnd("empty"),
                Loss(3),
                *messages(6),
            ],
        ),
        (
            (0, 1, 2, 2, 3),
            [*messages(2, 3), ReplayEnd("ended_before_target"), Loss(2), *messages(6)],
        ),
    ],
)
def test_an_incomplete_replay(replayed: tuple[int, ...], actions: list[Action]) -> None:
    """Of a replay of messages 2 to 5 some come; the others are lost, and live messages go on."""
    tracker = GapTracker(5)
    live(tracker, 0, 1, 6)
    assert [*replay(tracker, *replayed), *tracker.end_replay()] == actions
    following = 8 if 7 in replayed and 6 in replayed else 7
    assert live(tracker, following) == messages(following)


def test_a_replay_has_its_time_for_each_message() -> None:
    """A replay has its time limit for each message, not only for the whole."""
    tracker = GapTracker(5)
    tracker.take_live(3, payload(3), 10.0)
    assert (tracker.deadline, tracker.tick(14.9)) == (15.0, ())
    assert replay(tracker, 0, now=14.0) == messages(0)
    assert tracker.tick(18.9) == ()
    assert tracker.tick(19.0) == [ReplayEnd("timeout"), ReplayRequest(0)]
    assert tracker.tick(24.0) == [ReplayEnd("timeout"), Loss(2), *messages(3)]
    assert (tracker.deadline, tracker.tick(99.0)) == (None, ())


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param(
            [[b"", bytes(8), b"a"], [b"", bytes(7) + b"\1", b"b"], [b"", END, b""]], id="3 frames"
        ),
        pytest.param(
            [
                [b"", b"topic", bytes(8), b"a"],
                [b"", b"", bytes(7) + b"\1", b"b"],
                [b"", b"", END, b""],
            ],
            id="4 frames",
        ),
    ],
)
def test_both_forms_of_answers(answers: list[list[bytes]]) -> None:
    """Answers of a replay are understood with a topic, as in new engines, and without."""
    tracker = GapTracker(5)
    tracker.take_live(3, b"live", 0.0)
    actions = [action for answer in answers for action in take_reply(tracker, answer, 0.0)]
    assert actions == [
        Delivery(b"a"),
        Delivery(b"b"),
        ReplayEnd("ended_before_target"),
        ReplayRequest(2),
    ]


@pytest.mark.parametrize(
    ("frames", "outcome"),
    [
        ([b"", bytes(8), b""], "empty"),
        ([b"", END, b"x"], "empty"),
        ([], "malformed"),
        ([b""], "malformed"),
        ([b"", b"x"], "malformed"),
        ([b"", bytes(7), b"x"], "malformed"),
        ([b"id", bytes(8), b"x"], "malformed"),
        ([b"", b"", b"", bytes(8), b"x"], "malformed"),
    ],
    ids=repr,
)
def test_answers_that_end_a_replay(frames: list[bytes], outcome: str) -> None:
    """An empty payload ends a replay like a marker, and so does an answer of another form."""
    tracker = GapTracker(5)
    tracker.take_live(1, b"live", 0.0)
    assert take_reply(tracker, frames, 0.0) == [ReplayEnd(outcome), Loss(1), Delivery(b"live")]


def test_a_replay_that_goes_on_and_on() -> None:
    """A replay whose messages are all in time ends when the whole takes too long."""
    tracker = GapTracker(5)
    tracker.take_live(1000, b"live", 0.0)
    for number in range(14):
        assert tracker.tick(number * 4.5) == ()
        replay(tracker, number, now=number * 4.5)
    assert tracker.deadline == 60
    assert tracker.tick(60)[0] == ReplayEnd("timeout")


def test_a_replay_that_is_stopped() -> None:
    """When a replay is stopped, the message that was kept is delivered."""
    tracker = GapTracker(5)
    assert tracker.end_replay("stopped") == ()
    live(tracker, 0, 3)
    replay(tracker, 1)
    assert tracker.end_replay("stopped") == [ReplayEnd("stopped"), Loss(1), *messages(3)]


# -- a new connection ------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [2, 5])
def test_the_same_publisher_after_a_lost_connection(number: int) -> None:
    """After a lost connection a publisher is the same if its last message is."""
    tracker = GapTracker(5)
    tracker.note_connection()
    live(tracker, 0, 1)
    tracker.note_connection()
    notice = [Notice(GAP)] if number > 2 else []
    assert live(tracker, number) == [*notice, ReplayRequest(1)]
    between = range(2, number)
    assert replay(tracker, 1, *between) == messages(*between, number)
    assert tracker.end_replay() == [ReplayEnd("complete")]
    assert live(tracker, number + 1) == messages(number + 1)


@pytest.mark.parametrize("number", [2, 5])
def test_another_publisher_after_a_lost_connection(number: int) -> None:
    """Another payload with the last number is a restart: the new messages are requested from 0."""
    tracker = GapTracker(5)
    live(tracker, 0, 1)
    tracker.note_connection()
    live(tracker, number)
    assert tracker.take_reply(1, b"something else", 0.0) == ANOTHER
    assert replay(tracker, *range(number + 1)) == messages(*range(number + 1))
    assert tracker.end_replay() == [ReplayEnd("complete")]
    assert live(tracker, number, number + 1) == messages(number + 1)


@pytest.mark.parametrize(
    ("first", "end"),
    [(3, [Loss(3), *messages(3), ReplayEnd("started_after_requested")]), (9, [ReplayEnd("empty")])],
)
def test_another_publisher_that_has_not_all(first: int, end: list[Action]) -> None:
    """Of a new publisher, what it no longer has is lost; if it has nothing, it is asked again."""
    tracker = GapTracker(5)
    live(tracker, 0, 1)
    tracker.note_connection()
    live(tracker, 2)
    tracker.take_reply(1, b"something else", 0.0)
    assert tracker.deadline == 5.0
    assert [*replay(tracker, *range(first, 4)), *tracker.end_replay()] == end
    following = messages(4) if first < 4 else [Notice(LATE_START), ReplayRequest(0)]
    assert live(tracker, 4) == following


def test_messages_that_waited_over_a_restart() -> None:
    """A message that waits since before a restart does not show that there was none.

    Neither does one that a replay of the publisher before has brought already.
    """
    tracker = GapTracker(5)
    live(tracker, 0, 2)
    replay(tracker, 1, 2, 3)
    tracker.end_replay()
    tracker.note_connection()
    assert live(tracker, 3) == []
    assert live(tracker, 4) == [ReplayRequest(3)]
    # The new publisher has not got so far yet, but it has when the first of its messages comes.
    assert tracker.end_replay() == [ReplayEnd("empty"), *messages(4)]
    assert live(tracker, 5, 7) == [*messages(5), Notice(GAP), ReplayRequest(5)]
    assert tracker.take_reply(5, b"another", 0.0) == ANOTHER


def test_a_restart_during_a_replay_after_a_restart() -> None:
    """A publisher that is restarted before it has answered at all is noticed, too."""
    tracker = GapTracker(5)
    live(tracker, 0, 1, 2, 1)
    tracker.note_connection()
    assert tracker.tick(5.0) == [ReplayEnd("timeout"), Loss(1), *messages(1)]
    assert live(tracker, 5) == [Notice(GAP), ReplayRequest(1)]
    assert tracker.take_reply(1, b"another", 0.0) == ANOTHER


def test_an_empty_replay_after_a_lost_connection() -> None:
    """If a replay brings nothing, the publisher counts as the same, and is not asked again."""
    tracker = GapTracker(5)
    live(tracker, 0, 1)
    tracker.note_connection()
    live(tracker, 2)
    assert tracker.end_replay() == [ReplayEnd("empty"), *messages(2)]
    assert live(tracker, 3) == messages(3)
    tracker.note_connection()
    live(tracker, 6)
    assert replay(tracker, 5) == [Loss(1), *messages(5, 6)]
    assert tracker.end_replay() == [ReplayEnd("started_after_requested")]


def test_a_lost_connection_without_replays() -> None:
    """Without replays, a publisher counts as the same after a lost connection."""
    tracker = GapTracker()
    live(tracker, 0, 1)
    tracker.note_connection()
    assert live(tracker, 2, 4) == [*messages(2), Notice(GAP), Loss(1), *messages(4)]


# -- histories -------------------------------------------------------------------------------------


@given(st.data())
def test_each_message_is_received_once_or_lost(data: st.DataObject) -> None:
    """Up to the last message of each publisher, each is received once or counted as lost.

    Replays are those of the publisher that is there. They begin as early as it likes, repeat
    messages, leave some out, go on up to its newest message, break off, or bring nothing.
    """
    tracker = GapTracker(5.0)
    got: list[bytes] = []
    lost = sent = 0

    def note(actions: Sequence[Action]) -> None:
        nonlocal lost
        got.extend(each.payload for each in actions if isinstance(each, Delivery))
        lost += sum(each.messages for each in actions if isinstance(each, Loss))

    for run in range(data.draw(st.integers(1, 3))):
        count = data.draw(st.integers(1, 15))
        said = [b"%d %d" % (run, number) for number in range(count)]
        tracker.note_connection()
        is_first = True
        for number in sorted(
            data.draw(st.sets(st.integers(0, count - 1), max_size=8)) | {count - 1}
        ):
            if data.draw(st.booleans()):
                tracker.note_connection()
            note(tracker.take_live(number, said[number], 0.0))
            while tracker.is_replaying:
                # A restart is noticed if the first replay is complete.
                first = 0 if is_first else data.draw(st.integers(0, count))
                end = number + 1 if is_first else data.draw(st.integers(0, count))
                leaves_out = -1 if is_first else data.draw(st.integers(-1, count))
                is_first = False
                for each in range(first, end):
                    for _ in range(data.draw(st.integers(1, 2)) if each != leaves_out else 0):
                        note(tracker.take_reply(each, said[each], 0.0))
                now = data.draw(st.sampled_from([None, 1.0]))
                note(
                    tracker.end_replay(now=now) if data.draw(st.booleans()) else tracker.tick(99.0)
                )
            is_first = False
        sent += count
    assert len(got) == len(set(got))
    assert got == sorted(got, key=lambda payload: tuple(map(int, payload.split())))
    assert len(got) + lost == sent
