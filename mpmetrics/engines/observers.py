"""Calls of observers that cannot hurt their caller: neither by raising nor by blocking.

An exception in a stat logger ends vLLM's output handler, and with it every request. Here it is
counted by source and logged once, and the caller goes on.
"""

from __future__ import annotations

import inspect
import logging
import threading
import weakref
from collections import Counter
from contextlib import suppress
from queue import SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from mpmetrics._forks import ForkSafeLock, reset_in_children

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PATIENCE: Final = 0.05
"""Seconds that a caller waits for an observer, now and then; one that takes longer is late."""

_SHARE: Final = 0.01
"""The part of the time that may go into waiting for one observer."""

_SHORTEST: Final = 0.0001
"""Seconds below which it is not worth while to wait."""

_log = logging.getLogger("mpmetrics")


class ObserverErrors:
    """How often observers have failed, by source and reason.

    The reasons: "raised" an exception; "late", it did not return in time; "busy", it was told
    more when it had still not returned; "coroutine", it returned one that nobody awaits.
    """

    def __init__(self) -> None:
        """Begin without errors."""
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = ForkSafeLock()

    def count(self, source: str, reason: str, error: BaseException | None = None) -> None:
        """Count one failure of *source*; log it if it is the first for this *reason*."""
        with self._lock:
            self._counts[source, reason] += 1
            is_first = self._counts[source, reason] == 1
        if is_first:
            with suppress(Exception):  # neither may a handler of the log hurt the engine
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
"""Those of this process."""


class Observer:
    """Somebody who is told of things, in a thread of its own.

    Its caller waits for it, so that what it does is done, only as long as it is quick: by and
    large, no more than a hundredth of the time goes into waiting. What it is told while it is
    still busy it does later, but only the last thing.
    """

    def __init__(
        self, source: str, *, patience: float = PATIENCE, errors: ObserverErrors = ERRORS
    ) -> None:
        """Count what goes wrong under the name *source*; wait *patience* seconds at the most."""
        self.source = source
        self._patience = patience
        self._errors = errors
        self.reset_after_fork()
        reset_in_children(self)

    def reset_after_fork(self) -> None:
        """Start anew in a forked child, where the thread is not."""
        self._mailbox: _Mailbox | None = None
        self._credit = self._patience
        self._credited_at = monotonic()

    def tell(self, function: Callable[..., object], *arguments: object, **named: object) -> None:
        """Call *function*, or have it called later if that takes too long. Never raises."""
        job = _Job(function, arguments, named)
        try:
            running = self._opened().put(job)
        except RuntimeError as error:  # no thread to be had, or the interpreter ends
            self._errors.count(self.source, "raised", error)
            return
        if running is None:
            self._wait(job)
        elif running.is_late:
            self._errors.count(self.source, "busy")
        elif monotonic() - running.started_at > self._patience:
            self._is_late(running)

    def _wait(self, job: _Job) -> None:
        """Wait for a *job*, but not for long, and not all the time."""
        before = monotonic()
        credit = self._credit + (before - self._credited_at) * _SHARE
        credit = min(credit, self._patience)
        is_done = credit > _SHORTEST and job.done.wait(credit)
        self._credited_at = monotonic()
        # To go on may take far longer than was asked for: that is paid back, too.
        self._credit = credit - (self._credited_at - before)
        if not is_done and credit >= self._patience:
            self._is_late(job)

    def _is_late(self, job: _Job) -> None:
        job.is_late = True
        self._errors.count(self.source, "late")

    def _opened(self) -> _Mailbox:
        """Return the mailbox of the thread, which is started when it is first needed."""
        if self._mailbox is None:
            mailbox = _Mailbox(self.source, self._errors)
            threading.Thread(
                target=mailbox.work, name=f"mpmetrics-{self.source}", daemon=True
            ).start()
            self._mailbox = mailbox
            weakref.finalize(self, mailbox.close).atexit = False
        return self._mailbox


class _Mailbox:
    """What an observer is still to be told: the last thing only."""

    def __init__(self, source: str, errors: ObserverErrors) -> None:
        self._source = source
        self._errors = errors
        self._lock = threading.Lock()
        self._calls: SimpleQueue[int] = SimpleQueue()
        self._waiting: _Job | None = None
        self._running: _Job | None = None

    def put(self, job: _Job) -> _Job | None:
        """Have a *job* done, instead of one that still waits; return the one that is running."""
        with self._lock:
            if self._waiting is None:
                self._calls.put(1)
            self._waiting = job
            return self._running

    def close(self) -> None:
        """Have the thread end when all is done."""
        self._calls.put(0)  # without the lock: the garbage collector calls at any time

    def work(self) -> None:
        """Do the jobs, until there will be no more."""
        while self._calls.get():
            with self._lock:
                job, self._waiting = self._waiting, None
                if job is not None:
                    job.started_at = monotonic()
                self._running = job
            if job is not None:
                failure = job.run()
                if failure is not None:
                    self._errors.count(self._source, *failure)
                with self._lock:
                    self._running = None
                job.done.set()
                del job, failure  # what it was told of may be large


class _Job:
    """One call."""

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
        """Call; return the failure, if it is one."""
        function, arguments, named = self._call
        try:
            result: Any = function(*arguments, **named)
            if inspect.iscoroutine(result):
                result.close()
                return ("coroutine", None)
        except BaseException as error:
            return ("raised", error)
        return None
