"""Calls that overlap and share one result."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import Future

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


def waits_for_a_result(thread: threading.Thread) -> bool:
    """Return whether *thread* is inside `Future.result`."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None and frame.f_code is not Future.result.__code__:
        frame = frame.f_back
    return frame is not None


def test_overlapping_calls_share_one_run() -> None:
    """Calls that begin while the function runs have its result; the next call is a new run."""
    function = Blocking()
    shared = SharedCall(function)
    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(shared())) for _ in range(8)]
    threads[0].start()
    assert function.has_begun.wait(PATIENCE)
    for thread in threads[1:]:
        thread.start()
    while not all(waits_for_a_result(thread) for thread in threads[1:]):
        threads[0].join(0.001)
    function.release.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert results == [1] * 8
    assert shared() == 2


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
