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
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from mpmetrics.forks import forget_in_children

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PATIENCE: Final = 0.05
"""Seconds that a caller waits for an observer, once; one that is still busy is passed over."""

_log = logging.getLogger("mpmetrics")


class ObserverErrors:
    """How often observers have failed, by source and reason.

    The reasons: "raised" an exception; "late", it did not return in time; "busy", it was passed
    over, since it has still not returned; "coroutine", it returned one that nobody awaits.
    """

    def __init__(self) -> None:
        """Begin without errors."""
        self._counts: Counter[tuple[str, str]] = Counter()
        self.forget()
        forget_in_children(self)

    def forget(self) -> None:
        """Go on in a forked child with a lock that nobody holds."""
        self._lock = threading.Lock()

    def count(self, source: str, reason: str, error: BaseException | None = None) -> None:
        """Count one failure of *source*; log it if it is the first for this *reason*."""
        with self._lock:
            self._counts[source, reason] += 1
            is_first = self._counts[source, reason] == 1
        if is_first:
            _log.warning(
                "observer %s: %s; from now on this is only counted", source, reason, exc_info=error
            )

    def counts(self) -> Mapping[tuple[str, str], int]:
        """Return the counts by source and reason."""
        with self._lock:
            return dict(self._counts)


ERRORS: Final = ObserverErrors()
"""Those of this process."""


class Observer:
    """Somebody who is told of things, in a thread of its own."""

    def __init__(
        self, source: str, *, patience: float = PATIENCE, errors: ObserverErrors = ERRORS
    ) -> None:
        """Count what goes wrong under the name *source*; wait *patience* seconds at the most."""
        self.source = source
        self._patience = patience
        self._errors = errors
        self.forget()
        forget_in_children(self)

    def forget(self) -> None:
        """Start anew in a forked child, where the thread is not."""
        self._jobs: SimpleQueue[_Job | None] | None = None
        self._last: _Job | None = None

    def tell(self, function: Callable[..., object], *arguments: object, **named: object) -> None:
        """Call *function* and return when it has returned, or has taken too long. Never raises."""
        if self._last is not None and not self._last.done.is_set():
            self._errors.count(self.source, "busy")
            return
        job = _Job(function, arguments, named)
        try:
            self._thread().put(job)
        except RuntimeError as error:  # no thread to be had, or the interpreter ends
            self._errors.count(self.source, "raised", error)
            return
        self._last = job
        if not job.done.wait(self._patience):
            self._errors.count(self.source, "late")
        elif job.failure is not None:
            self._errors.count(self.source, *job.failure)

    def _thread(self) -> SimpleQueue[_Job | None]:
        """Return the queue of the thread, which is started when it is first needed."""
        if self._jobs is None:
            jobs: SimpleQueue[_Job | None] = SimpleQueue()
            threading.Thread(
                target=_work, args=[jobs], name=f"mpmetrics-{self.source}", daemon=True
            ).start()
            self._jobs = jobs
            weakref.finalize(self, jobs.put, None).atexit = False
        return self._jobs


class _Job:
    """One call, and what has become of it once it is `done`."""

    def __init__(
        self,
        function: Callable[..., object],
        arguments: tuple[object, ...],
        named: Mapping[str, object],
    ) -> None:
        self.done = threading.Event()
        self.failure: tuple[str, BaseException | None] | None = None
        self._call = (function, arguments, named)

    def run(self) -> None:
        """Call; remember the failure, if it is one."""
        function, arguments, named = self._call
        try:
            result: Any = function(*arguments, **named)
            if inspect.iscoroutine(result):
                result.close()
                self.failure = ("coroutine", None)
        except BaseException as error:  # noqa: BLE001 - an observer may raise anything
            self.failure = ("raised", error)
        finally:
            self.done.set()


def _work(jobs: SimpleQueue[_Job | None]) -> None:
    """Do the *jobs* one by one, until there is None."""
    while (job := jobs.get()) is not None:
        job.run()
        del job  # what it was told of may be large
