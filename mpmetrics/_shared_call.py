"""Calls that overlap and share one result."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Generic, TypeVar

from mpmetrics._forks import reset_in_children

if TYPE_CHECKING:
    from collections.abc import Callable

_Result = TypeVar("_Result")


class SharedCall(Generic[_Result]):
    """A function that never runs twice at once.

    A call that begins while the function runs waits for that run, and has its result or its
    exception, whatever the arguments of the two calls are.
    """

    def __init__(self, function: Callable[..., _Result]) -> None:
        """Share the calls of *function*."""
        self._function = function
        self.reset_after_fork()
        reset_in_children(self)

    def reset_after_fork(self) -> None:
        """Forget the run: in a forked child, no thread finishes it."""
        self._lock = threading.Lock()
        self._running: Future[_Result] | None = None

    def __call__(self, *arguments: object) -> _Result:
        """Call the function with the *arguments*, or wait for the call that runs."""
        with self._lock:
            running = self._running
            mine: Future[_Result] = Future()
            if running is None:
                self._running = mine
        return self._run(mine, arguments) if running is None else running.result()

    def _run(self, mine: Future[_Result], arguments: tuple[object, ...]) -> _Result:
        """Call the function and pass its outcome to all calls that wait for *mine*."""
        try:
            result = self._function(*arguments)
        except BaseException as error:  # a panic in Rust code is no Exception
            self._running = None
            mine.set_exception(error)
            raise
        self._running = None
        mine.set_result(result)
        return result
