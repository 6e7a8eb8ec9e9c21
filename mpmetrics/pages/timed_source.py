"""A source that answers in time: with its current families, or with those it gave last."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics._forks import reset_in_children
from mpmetrics.errors import Problem
from mpmetrics.pages.source import Gathered, describe_failure

if TYPE_CHECKING:
    from collections.abc import Callable

_NOT_UP: Final = frozenset({"source_failed", "source_late"})
"""The reasons of problems because of which a source is not up."""


def is_up(gathered: Gathered) -> bool:
    """Return whether a source is up: it gave all its families, and gave them in time."""
    return not any(problem.reason in _NOT_UP for problem in gathered.problems)


class Answer(NamedTuple):
    """What a source *gathered*, and how many seconds ago (*age*): 0 if for this scrape.

    The age is None where the source has no time limit, or has nothing to give.
    """

    gathered: Gathered
    age: float | None = None


class _Request:
    """One call of a source, in a thread of its own."""

    def __init__(self) -> None:
        self.started_at = time.monotonic()
        self.finished = threading.Event()
        """Set when `gathered` is, or when nothing shall wait for it any more."""
        self.gathered: Gathered | None = None

    @property
    def has_succeeded(self) -> bool:
        """Whether the source has answered, and is up."""
        return self.gathered is not None and is_up(self.gathered)


def _start_daemon_thread(function: Callable[[], None]) -> None:
    # A daemon: a request that hangs must not keep the process from ending.
    threading.Thread(target=function, name="mpmetrics-source", daemon=True).start()


class TimedSource:
    """A source that is called in the background, by at most one thread at a time.

    It serves one caller at a time, which calls `start` and then `wait`. A request that is late
    goes on, and the next `start` waits for it instead of making another one.
    """

    def __init__(
        self,
        name: str,
        gather: Callable[[], Gathered],
        timeout: float,
        *,
        start_thread: Callable[[Callable[[], None]], None] = _start_daemon_thread,
    ) -> None:
        """Configure only. *gather* calls the source *name*, which has *timeout* seconds.

        *start_thread* runs a function in a thread, or raises `RuntimeError`.
        """
        self._name = name
        self._gather = gather
        self._timeout = timeout
        self._start_thread = start_thread
        self.reset_after_fork()
        reset_in_children(self)

    def reset_after_fork(self) -> None:
        """Forget all requests: in a forked child, no thread finishes them."""
        self._request: _Request | None = None
        self._last_good: _Request | None = None
        self._started_at = 0.0

    def start(self) -> None:
        """Start a request, unless the last one has not finished."""
        self._started_at = time.monotonic()
        if self._request is None or self._request.gathered is not None:
            self._request = request = _Request()
            try:
                self._start_thread(partial(self._run, request))
            except RuntimeError as error:  # there are no more threads, or the interpreter ends
                self._fail(request, error)

    def wait(self, within: float | None = None) -> Answer:
        """Wait for the request until the time limit, which began with `start`; return the answer.

        The limit is the timeout, or *within* seconds if that is less. A late source answers with
        what it gave last.
        """
        request, last = self._request, self._last_good
        limit = self._timeout if within is None else min(within, self._timeout)
        deadline = self._started_at + limit
        if request is not None:
            request.finished.wait(max(0.0, deadline - time.monotonic()))
            if request.gathered is not None:
                is_new = request.started_at >= self._started_at
                age = 0.0 if is_new else self._started_at - request.started_at
                return Answer(request.gathered, age)
        # The same text for all clients, however long each waits: else it would be a new problem.
        detail = f"no answer within {self._timeout:g} s, or what time the client has"
        if last is None or last.gathered is None:
            return Answer(Gathered((), [Problem(self._name, "source_failed", detail)]))
        late = Problem(self._name, "source_late", f"{detail}; what it gave last is served")
        return Answer(last.gathered._replace(problems=[late]), time.monotonic() - last.started_at)

    def give_up_waiting(self) -> None:
        """End the `wait` of the caller now; the source is late."""
        if self._request is not None:
            self._request.finished.set()

    def _run(self, request: _Request) -> None:
        try:
            request.gathered = self._gather()
        except BaseException as error:  # even one that ends the thread: the next request may do
            self._fail(request, error)
        request.finished.set()
        if request.has_succeeded:
            self._last_good = request

    def _fail(self, request: _Request, error: BaseException) -> None:
        """Finish *request* without families."""
        request.gathered = Gathered((), [describe_failure(self._name, error)])
        request.finished.set()
