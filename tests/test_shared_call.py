"""Calls that overlap and share one result."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mpmetrics._shared_call import SharedCall
from tests.workers import PATIENCE


class Blocking:
    """A function that returns the number of its call once it is released."""

    def __init__(self) -> None:
        """Block every call."""
        self.calls = 0
        self.has_begun = threading.Event()
        self.release = threading.Event()

    def __call__(self) -> int:
        """Return the number of the call."""
        self.calls += 1
        number = self.calls
        self.has_begun.set()
        assert self.release.wait(PATIENCE)
        return number


def test_overlapping_calls_share_one_run() -> None:
    """Calls that begin while the function runs have its result; the next call is a new run."""
    function = Blocking()
    shared = SharedCall(function)
    with ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(shared)]
        assert function.has_begun.wait(PATIENCE)
        waiting = threading.Barrier(8)

        def wait_and_call() -> int:
            waiting.wait(PATIENCE)
            return shared()

        calls += [threads.submit(wait_and_call) for _ in range(7)]
        waiting.wait(PATIENCE)
        function.release.set()
        # One that came a moment after the first run shares the second.
        assert {call.result(PATIENCE) for call in calls} <= {1, 2}
        assert calls[0].result() == 1
    assert shared() == function.calls


def test_an_exception_is_shared_too() -> None:
    """A call has the exception of the run, and the next call runs the function again."""
    outcomes = iter([OSError("no"), None])

    def fail_once() -> str:
        outcome = next(outcomes)
        if outcome is not None:
            raise outcome
        return "well"

    shared = SharedCall(fail_once)
    with pytest.raises(OSError, match="no"):
        shared()
    assert shared() == "well"


def test_a_forked_child_runs_the_function_itself() -> None:
    """In a forked child a call does not wait for the run that a thread of the parent is in."""
    function = Blocking()
    shared = SharedCall(function)
    thread = threading.Thread(target=shared)
    thread.start()
    assert function.has_begun.wait(PATIENCE)
    shared.reset_after_fork()
    function.release.set()
    assert shared() == 2
    thread.join()
