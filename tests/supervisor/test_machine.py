"""The supervisor's decisions: histories of events, and what it does about them."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpmetrics.supervisor.machine import (
    STOPPING,
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

TERM, INT, HUP, USR2 = signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2


def history(supervisor: Supervisor, *events: Any) -> list[list[Any]]:
    """Return what *supervisor* does about each of the *events*; of words only that there are."""
    actions = [supervisor.handle(event) for event in events]
    return [[Say if isinstance(each, Say) else each for each in some] for some in actions]


HISTORIES: dict[str, tuple[Supervisor, list[tuple[Any, list[Any]]]]] = {
    "signals go to the main process": (
        Supervisor(7),
        [
            (Signalled(HUP, 1.0), [Forward(7, HUP)]),
            (Signalled(HUP, 1.0), [Forward(7, HUP)]),
            (Signalled(TERM, 2.0, from_terminal=True), [Forward(7, TERM)]),
        ],
    ),
    "what the terminal has sent already is not sent again": (
        Supervisor(7, shares_terminal=True),
        [
            (Signalled(INT, 1.0, from_terminal=True), []),
            (Signalled(INT, 1.0), [Forward(7, INT)]),
        ],
    ),
    "it ends as the main process does": (
        Supervisor(7),
        [
            (Ended(8, -9), []),
            (Ended(7, 3), [Finish(3)]),
            (Signalled(TERM, 1.0), []),
            (Ended(9, 0), []),
        ],
    ),
    "it ends by the same signal": (Supervisor(7), [(Ended(7, -15), [Finish(-15)])]),
    "a new main process takes over": (
        Supervisor(7),
        [
            (Signalled(USR2, 1.0), [Forward(7, USR2)]),
            (Ended(7, 0, heirs=[20, 21]), [Say]),
            (Signalled(HUP, 2.0), [Forward(20, HUP)]),
            (Ended(7, 0), []),
            (Ended(20, 4), [Finish(4)]),
        ],
    ),
    "who takes over while the server is to end, ends, too": (
        Supervisor(7),
        [
            (Signalled(TERM, 1.0), [Forward(7, TERM)]),
            (Ended(7, 0, heirs=[20]), [Say, Forward(20, TERM)]),
            (Ended(20, 0), [Finish(0)]),
        ],
    ),
    "grace ends once": (
        Supervisor(7, grace=5),
        [
            (Ticked(100.0), []),
            (Signalled(HUP, 101.0), [Forward(7, HUP)]),
            (Ticked(110.0), []),
            (Signalled(TERM, 110.0), [Forward(7, TERM)]),
            (Signalled(TERM, 114.0), [Forward(7, TERM)]),
            (Ticked(114.9), []),
            (Ticked(115.0), [Say, KillAll()]),
            (Ticked(116.0), []),
            (Ended(7, -9, heirs=[8]), [Say, Forward(8, TERM), KillAll()]),
            (Ended(8, -9), [Finish(-9)]),
        ],
    ),
    "without grace there is all the time in the world": (
        Supervisor(7),
        [(Signalled(TERM, 1.0), [Forward(7, TERM)]), (Ticked(1e9), [])],
    ),
    "a dead worker is folded": (
        Supervisor(7),
        [(WorkerBegan(8), []), (WorkerEnded(8, 100.0, 100.0, 0), [Compact()])],
    ),
    "a crash loop is told, but not all the time": (
        Supervisor(7),
        [
            *((WorkerEnded(pid, 1.0, pid / 10, 1), [Compact()]) for pid in range(1, 5)),
            (WorkerEnded(5, 1.0, 0.5, 1), [Compact(), Say]),
            *((WorkerEnded(pid, 1.0, pid / 10, None), [Compact()]) for pid in range(6, 600)),
            (WorkerEnded(606, 1.0, 60.6, None), [Compact(), Say]),
        ],
    ),
    "recycling is no crash loop": (
        Supervisor(7),
        [(WorkerEnded(pid, 1.0, pid / 10, pid % 2 * 155), [Compact()]) for pid in range(100)],
    ),
    "nor are workers that have lived, or die now and then": (
        Supervisor(7),
        [
            *((WorkerEnded(pid, 10.0, 0.0, 1), [Compact()]) for pid in range(100)),
            *((WorkerEnded(pid, 1.0, pid * 20.0, 1), [Compact()]) for pid in range(100)),
        ],
    ),
    "nor are those that end with the server": (
        Supervisor(7),
        [
            (Signalled(TERM, 1.0), [Forward(7, TERM)]),
            *((WorkerEnded(pid, 1.0, 2.0, -15), [Compact()]) for pid in range(100)),
        ],
    ),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_histories(name: str) -> None:
    """Each event has its actions, in their order."""
    supervisor, story = HISTORIES[name]
    events = [event for event, _ in story]
    assert history(supervisor, *events) == [actions for _, actions in story]


def test_what_the_warning_says() -> None:
    """How many, how soon, and with which status, if that is known."""
    supervisor = Supervisor(7)
    for pid in range(4):
        supervisor.handle(WorkerEnded(pid, 1.0, 0.0, 3))
    assert list(supervisor.handle(WorkerEnded(4, 1.0, 0.0, 3))) == [
        Compact(),
        Say(
            "5 workers have ended within 10 s of their start, the last with status 3; see what the "
            "server itself says"
        ),
    ]


def test_restarts_are_counted() -> None:
    """A worker that begins where one has ended is a restart; one more worker is not."""
    supervisor = Supervisor(7)
    history(
        supervisor,
        *(WorkerBegan(1), WorkerBegan(2), WorkerEnded(1, 99.0, 99.0, -9), WorkerBegan(3)),
        *(WorkerBegan(4), WorkerEnded(2, 99.0, 99.0, None)),
    )
    assert (supervisor.worker_exits, supervisor.worker_restarts) == (2, 1)
    assert supervisor.workers == 2
    assert supervisor.last_status == -9


def test_who_becomes_the_main_process_was_no_worker() -> None:
    """It looked like one, as a child that runs the same program; neither it nor its end counts."""
    supervisor = Supervisor(1)
    history(supervisor, WorkerBegan(2), WorkerBegan(20), WorkerBegan(21))
    history(supervisor, WorkerEnded(2, 99.0, 99.0, 0), Ended(1, 0, heirs=[20]))
    assert (supervisor.workers, supervisor.worker_exits) == (1, 1)
    assert history(supervisor, WorkerEnded(20, 99.0, 99.0, 3)) == [[Compact()]]
    assert (supervisor.workers, supervisor.worker_exits) == (1, 1)
    assert supervisor.last_status == 0


PIDS = st.integers(1, 5)
EVENTS = st.one_of(
    st.builds(Signalled, st.sampled_from([TERM, INT, HUP, USR2]), st.floats(0, 1e6), st.booleans()),
    st.builds(Ended, PIDS, st.integers(-15, 255), st.lists(st.integers(6, 9), max_size=2)),
    st.builds(WorkerBegan, PIDS),
    st.builds(WorkerEnded, PIDS, st.floats(0, 100), st.floats(0, 1e6), st.none() | st.integers(0)),
    st.builds(Ticked, st.floats(0, 1e6)),
)


@given(st.lists(EVENTS, max_size=30), st.booleans(), st.none() | st.floats(0, 10))
def test_whatever_happens(events: list[Any], shares: bool, grace: float | None) -> None:  # noqa: FBT001
    """It ends exactly with its main process, and passes each signal on once, to nobody else."""
    supervisor = Supervisor(1, shares_terminal=shares, grace=grace)
    for event in events:
        main, over = supervisor.main, supervisor.is_over
        actions = supervisor.handle(event)
        forwarded = [each for each in actions if isinstance(each, Forward)]
        finished = [each for each in actions if isinstance(each, Finish)]
        if over:
            assert actions == []
        elif isinstance(event, Signalled):
            is_known = shares and event.from_terminal
            assert forwarded == ([] if is_known else [Forward(main, event.number)])
        elif isinstance(event, Ended) and event.pid == main and not event.heirs:
            assert finished == [Finish(event.returncode)]
        elif isinstance(event, Ended) and event.pid == main:
            assert supervisor.main == event.heirs[0]
            assert all(each.number in STOPPING for each in forwarded)
        else:
            assert not forwarded
            assert not finished
        assert supervisor.is_over == (over or bool(finished))
