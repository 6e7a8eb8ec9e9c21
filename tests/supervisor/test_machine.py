"""The decisions of a wrapper: histories of events, and the actions that they cause."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpmetrics.supervisor.machine import (
    STOPPING,
    ChildEnded,
    Compact,
    Finish,
    Forward,
    KillAll,
    Machine,
    Signalled,
    Ticked,
    Warn,
    WorkerEnded,
    WorkerStarted,
)

TERM, INT, HUP, USR2 = signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2


def history(machine: Machine, *events: Any) -> list[list[Any]]:
    """Return the actions of *machine* for each of the *events*, warnings without their text."""
    actions = [machine.handle(event) for event in events]
    return [[Warn if isinstance(each, Warn) else each for each in some] for some in actions]


HISTORIES: dict[str, tuple[Machine, list[tuple[Any, list[Any]]]]] = {
    "signals go to the main process": (
        Machine(7),
        [
            (Signalled(HUP, 1.0), [Forward(7, HUP)]),
            (Signalled(HUP, 1.0), [Forward(7, HUP)]),
            (Signalled(TERM, 2.0, from_terminal=True), [Forward(7, TERM)]),
        ],
    ),
    "what the terminal has sent already is not sent again": (
        Machine(7, shares_terminal=True),
        [
            (Signalled(INT, 1.0, from_terminal=True), []),
            (Signalled(INT, 1.0), [Forward(7, INT)]),
        ],
    ),
    "it ends as the main process does": (
        Machine(7),
        [
            (ChildEnded(8, -9), []),
            (ChildEnded(7, 3), [Finish(3)]),
            (Signalled(TERM, 1.0), []),
            (ChildEnded(9, 0), []),
        ],
    ),
    "it ends by the same signal": (Machine(7), [(ChildEnded(7, -15), [Finish(-15)])]),
    "a new main process takes over": (
        Machine(7),
        [
            (Signalled(USR2, 1.0), [Forward(7, USR2)]),
            (ChildEnded(7, 0, successors=[20, 21]), [Warn]),
            (Signalled(HUP, 2.0), [Forward(20, HUP)]),
            (ChildEnded(7, 0), []),
            (ChildEnded(20, 4), [Finish(4)]),
        ],
    ),
    "a successor that takes over while the server is to end, ends, too": (
        Machine(7),
        [
            (Signalled(TERM, 1.0), [Forward(7, TERM)]),
            (ChildEnded(7, 0, successors=[20]), [Warn, Forward(20, TERM)]),
            (ChildEnded(20, 0), [Finish(0)]),
        ],
    ),
    "grace ends once": (
        Machine(7, grace=5),
        [
            (Ticked(100.0), []),
            (Signalled(HUP, 101.0), [Forward(7, HUP)]),
            (Ticked(110.0), []),
            (Signalled(TERM, 110.0), [Forward(7, TERM)]),
            (Signalled(TERM, 114.0), [Forward(7, TERM)]),
            (Ticked(114.9), []),
            (Ticked(115.0), [Warn, KillAll()]),
            (Ticked(116.0), []),
            (ChildEnded(7, -9, successors=[8]), [Warn, Forward(8, TERM), KillAll()]),
            (ChildEnded(8, -9), [Finish(-9)]),
        ],
    ),
    "without grace nothing is killed": (
        Machine(7),
        [(Signalled(TERM, 1.0), [Forward(7, TERM)]), (Ticked(1e9), [])],
    ),
    "a dead worker is folded": (
        Machine(7),
        [(WorkerStarted(8), []), (WorkerEnded(8, 100.0, 100.0, 0), [Compact()])],
    ),
    "a crash loop is a warning, but not all the time": (
        Machine(7),
        [
            *((WorkerEnded(pid, 1.0, pid / 10, 1), [Compact()]) for pid in range(1, 5)),
            (WorkerEnded(5, 1.0, 0.5, 1), [Compact(), Warn]),
            *((WorkerEnded(pid, 1.0, pid / 10, None), [Compact()]) for pid in range(6, 600)),
            (WorkerEnded(606, 1.0, 60.6, None), [Compact(), Warn]),
        ],
    ),
    "recycling is no crash loop": (
        Machine(7),
        [(WorkerEnded(pid, 1.0, pid / 10, pid % 2 * 155), [Compact()]) for pid in range(100)],
    ),
    "nor are workers that have lived, or die now and then": (
        Machine(7),
        [
            *((WorkerEnded(pid, 10.0, 0.0, 1), [Compact()]) for pid in range(100)),
            *((WorkerEnded(pid, 1.0, pid * 20.0, 1), [Compact()]) for pid in range(100)),
        ],
    ),
    "nor are those that end with the server": (
        Machine(7),
        [
            (Signalled(TERM, 1.0), [Forward(7, TERM)]),
            *((WorkerEnded(pid, 1.0, 2.0, -15), [Compact()]) for pid in range(100)),
        ],
    ),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_histories(name: str) -> None:
    """Each event of a history causes its actions, in their order."""
    machine, story = HISTORIES[name]
    events = [event for event, _ in story]
    assert history(machine, *events) == [actions for _, actions in story]


def test_the_text_of_the_warning() -> None:
    """The warning of short lives has their number, their length, and the last status if known."""
    machine = Machine(7)
    for pid in range(4):
        machine.handle(WorkerEnded(pid, 1.0, 0.0, 3))
    assert list(machine.handle(WorkerEnded(4, 1.0, 0.0, 3))) == [
        Compact(),
        Warn(
            "5 workers have ended within 10 s of their start, the last with status 3; see what the "
            "server itself says"
        ),
    ]


def test_restarts_are_counted() -> None:
    """A worker that begins where one has ended is a restart; one more worker is not."""
    machine = Machine(7)
    history(
        machine,
        *(WorkerStarted(1), WorkerStarted(2), WorkerEnded(1, 99.0, 99.0, -9), WorkerStarted(3)),
        *(WorkerStarted(4), WorkerEnded(2, 99.0, 99.0, None)),
    )
    assert (machine.workers.exits, machine.workers.restarts) == (2, 1)
    assert machine.workers.running == 2
    assert machine.workers.last_status == -9


def test_the_main_process_is_no_worker() -> None:
    """A worker that becomes the main process is no worker any more, and its end is not counted."""
    machine = Machine(1)
    history(machine, WorkerStarted(2), WorkerStarted(20), WorkerStarted(21))
    history(machine, WorkerEnded(2, 99.0, 99.0, 0), ChildEnded(1, 0, successors=[20]))
    assert (machine.workers.running, machine.workers.exits) == (1, 1)
    assert history(machine, WorkerEnded(20, 99.0, 99.0, 3)) == [[Compact()]]
    assert (machine.workers.running, machine.workers.exits) == (1, 1)
    assert machine.workers.last_status == 0


PIDS = st.integers(1, 5)
EVENTS = st.one_of(
    st.builds(Signalled, st.sampled_from([TERM, INT, HUP, USR2]), st.floats(0, 1e6), st.booleans()),
    st.builds(ChildEnded, PIDS, st.integers(-15, 255), st.lists(st.integers(6, 9), max_size=2)),
    st.builds(WorkerStarted, PIDS),
    st.builds(WorkerEnded, PIDS, st.floats(0, 100), st.floats(0, 1e6), st.none() | st.integers(0)),
    st.builds(Ticked, st.floats(0, 1e6)),
)


@given(
    events=st.lists(EVENTS, max_size=30), shares=st.booleans(), grace=st.none() | st.floats(0, 10)
)
def test_any_history(*, events: list[Any], shares: bool, grace: float | None) -> None:
    """The machine ends exactly with its main process, and forwards each signal to it once."""
    machine = Machine(1, shares_terminal=shares, grace=grace)
    for event in events:
        main, over = machine.main, machine.is_over
        actions = machine.handle(event)
        forwarded = [each for each in actions if isinstance(each, Forward)]
        finished = [each for each in actions if isinstance(each, Finish)]
        if over:
            assert actions == []
        elif isinstance(event, Signalled):
            is_known = shares and event.from_terminal
            assert forwarded == ([] if is_known else [Forward(main, event.number)])
        elif isinstance(event, ChildEnded) and event.pid == main and not event.successors:
            assert finished == [Finish(event.returncode)]
        elif isinstance(event, ChildEnded) and event.pid == main:
            assert machine.main == event.successors[0]
            assert all(each.number in STOPPING for each in forwarded)
        else:
            assert not forwarded
            assert not finished
        assert machine.is_over == (over or bool(finished))


ASKED = Signalled(TERM, 100.0)


def reload_lines(*events: Any) -> list[str]:
    """Return the warnings that *events* cause, once a worker has been told from the others."""
    machine = Machine(1)
    machine.handle(WorkerStarted(2, 50.0))
    actions = [action for event in events for action in machine.handle(event)]
    return [action.text for action in actions if isinstance(action, Warn)]


def test_a_server_that_reloads_instead_of_ending() -> None:
    """New workers that still run seconds after SIGTERM cause one line."""
    reloaded = (ASKED, WorkerEnded(2, 50.0, 100.5, 0), WorkerStarted(3, 100.7))
    (line,) = reload_lines(*reloaded, Ticked(104.9), Ticked(105.0), Ticked(106.0))
    assert line.startswith("the server has started new workers after SIGTERM: it seems to reload")
    assert reload_lines(*reloaded, Ticked(104.9)) == []


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([WorkerStarted(3, 99.0)], id="seen-late"),
        pytest.param([WorkerStarted(3)], id="start-unknown"),
        pytest.param([WorkerStarted(3, 101.0), WorkerEnded(3, 1.0, 102.0, 0)], id="a-last-one"),
        pytest.param([], id="takes-its-time"),
    ],
)
def test_a_server_that_ends_slowly_has_no_line(events: list[Any]) -> None:
    """A server that just takes its time to end, or whose worker was seen late, has no line."""
    assert reload_lines(ASKED, *events, Ticked(110.0)) == []
