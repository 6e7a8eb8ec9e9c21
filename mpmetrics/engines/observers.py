"""Calls of observers that cannot hurt the caller: they neither raise into it nor block it.

An exception in a stat logger ends vLLM's output handler, and with it every request. Here a thread
of its own makes the calls of an observer; an exception is counted by source, logged once, and goes
no further.
"""

from __future__ import annotations

import inspect
import threading
import weakref
from collections import Counter
from contextlib import suppress
from queue import SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from mpmetrics._forks import ForkSafeLock, reset_in_children
from mpmetrics._log_limit import get_log

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TIMEOUT: Final = 0.05
"""Seconds after which a call of an observer is late."""

_WAITING_SHARE: Final = 0.01
"""The share of the caller's time that may be spent waiting for one observer."""

_SHORTEST_WAIT: Final = 0.0001
"""Seconds; a shorter wait is not worth its cost."""

_log = get_log()


class ObserverErrors:
    """Counts of failed calls of observers, by source and reason.

    The reasons: "raised", an exception; "late", the call did not return in time; "busy", the next
    call came while the late one was still running; "coroutine", the call returned a coroutine,
    which is not awaited.
    """

    def __init__(self) -> None:
        """Create empty counts."""
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = ForkSafeLock()

    def count(self, source: str, reason: str, error: BaseException | None = None) -> None:
        """Count one failure of *source*; log it if it is the first for this *reason*."""
        with self._lock:
            self._counts[source, reason] += 1
            is_first = self._counts[source, reason] == 1
        if is_first:
            with suppress(Exception):  # a log handler that fails must not hurt the engine, either
                _log.warning(
                    "observer %s: %s; from now on this is only counted",
                    source,
                    reason,
                    exc_info=error,
                )

    def counts(self) -> Mapping[tuple[str, str], int]:
        """Return the counts by source and reason."""
        with self._lock:
            return dict(self._counts)


ERRORS: Final = ObserverErrors()
"""The counts of this process, which the pages of endpoints show as `mpmetrics_observe_errors`.

They are process-wide because the callers are created by the engine, one by one and by different
ways, and know of no page. As counters they are never cleared. A forked child goes on with a
copy, as it does with all values in memory.
"""


class Observer:
    """An observer that is called in a thread of its own; the caller waits for calls that are quick.

    The caller waits so that an observer that is quick has done its work when `notify` returns. On
    average, it waits no more than a hundredth of its time. While a call is running, the last of
    the calls that come in waits for it; the others are dropped.
    """

    def __init__(
        self, source: str, *, timeout: float = TIMEOUT, errors: ObserverErrors = ERRORS
    ) -> None:
        """Count failures in *errors* under the name *source*; wait at most *timeout* seconds."""
        self.source = source
        self._timeout = timeout
        self._errors = errors
        self.reset_after_fork()
        reset_in_children(self)

    def reset_after_fork(self) -> None:
        """Start from scratch in a forked child, which does not have the thread."""
        self._queue: _CallQueue | None = None
        self._budget = self._timeout
        self._budget_at = monotonic()

    def notify(self, function: Callable[..., object], *arguments: object, **named: object) -> None:
        """Call *function* in the observer's thread, now or after the running call. Never raises."""
        call = _Call(function, arguments, named)
        try:
            running = self._open_queue().put(call)
        except RuntimeError as error:  # no thread can be started, or the interpreter is ending
            self._errors.count(self.source, "raised", error)
            return
        if running is None:
            self._wait(call)
        elif running.is_late:
            self._errors.count(self.source, "busy")
        elif monotonic() - running.started_at > self._timeout:
            self._mark_late(running)

    def _wait(self, call: _Call) -> None:
        """Wait for *call* as long as the budget allows.

        The budget is a token bucket of seconds: it grows by `_WAITING_SHARE` of the time that
        passes, up to the timeout, and each wait is taken from it.
        """
        before = monotonic()
        budget = self._budget + (before - self._budget_at) * _WAITING_SHARE
        budget = min(budget, self._timeout)
        is_done = budget > _SHORTEST_WAIT and call.done.wait(budget)
        self._budget_at = monotonic()
        # Waking up may take far longer than the timeout of the wait: that is taken off, too.
        self._budget = budget - (self._budget_at - before)
        if not is_done and budget >= self._timeout:
            self._mark_late(call)

    def _mark_late(self, call: _Call) -> None:
        call.is_late = True
        self._errors.count(self.source, "late")

    def _open_queue(self) -> _CallQueue:
        """Return the queue of the thread, which is started on first use."""
        if self._queue is None:
            queue = _CallQueue(self.source, self._errors)
            threading.Thread(target=queue.run, name=f"mpmetrics-{self.source}", daemon=True).start()
            self._queue = queue
            weakref.finalize(self, queue.close).atexit = False
        return self._queue


class _CallQueue:
    """The queue of an observer's thread. It has one place: a call replaces the one that waits."""

    def __init__(self, source: str, errors: ObserverErrors) -> None:
        self._source = source
        self._errors = errors
        self._lock = threading.Lock()
        self._wakeups: SimpleQueue[int] = SimpleQueue()
        """1 for each waiting call, 0 for the end of the thread."""
        self._waiting: _Call | None = None
        self._running: _Call | None = None

    def put(self, call: _Call) -> _Call | None:
        """Put *call* in the place of the waiting call; return the running call, if there is one."""
        with self._lock:
            if self._waiting is None:
                self._wakeups.put(1)
            self._waiting = call
            return self._running

    def close(self) -> None:
        """End the thread after the waiting call."""
        self._wakeups.put(0)  # without the lock: the garbage collector calls this at any time

    def run(self) -> None:
        """Make the calls until the queue is closed: what the thread of the observer does."""
        while self._wakeups.get():
            with self._lock:
                call, self._waiting = self._waiting, None
                if call is not None:
                    call.started_at = monotonic()
                self._running = call
            if call is not None:
                failure = call.run()
                if failure is not None:
                    self._errors.count(self._source, *failure)
                with self._lock:
                    self._running = None
                call.done.set()
                del call, failure  # the arguments may be large


class _Call:
    """One call of an observer."""

    def __init__(
        self,
        function: Callable[..., object],
        arguments: tuple[object, ...],
        named: Mapping[str, object],
    ) -> None:
        self.done = threading.Event()
        self.started_at = 0.0
        self.is_late = False
        self._call = (function, arguments, named)

    def run(self) -> tuple[str, BaseException | None] | None:
        """Make the call; return the reason and exception of its failure, None if it succeeded."""
        function, arguments, named = self._call
        try:
            result: Any = function(*arguments, **named)
            if inspect.iscoroutine(result):
                result.close()
                return ("coroutine", None)
        except BaseException as error:
            return ("raised", error)
        return None
