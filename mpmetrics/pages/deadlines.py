"""Sources that answer in time: with what they have, or with what they had last."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics._forks import reset_in_children
from mpmetrics.errors import Problem
from mpmetrics.pages.sources import Gathered

if TYPE_CHECKING:
    from collections.abc import Callable

NOT_UP: Final = frozenset({"source_failed", "source_late"})
"""The reasons of problems because of which a source is not up."""


class Answer(NamedTuple):
    """What a source *gathered*, and its *age* in seconds: 0 for now, None if nobody asks."""

    gathered: Gathered
    age: float | None = None


class _Asking:
    """One gathering in a thread of its own, and when it began."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.over = threading.Event()
        """Set when there is an answer, or nobody shall wait for it any more."""
        self.gathered: Gathered | None = None

    @property
    def was_good(self) -> bool:
        """Whether there is an answer and the source has not failed."""
        if self.gathered is None:
            return False
        return not any(problem.reason in NOT_UP for problem in self.gathered.problems)


class TimedSource:
    """A source that is asked in the background, by at most one thread at a time.

    One caller at a time: it calls `ask`, and then `answer`, which waits *timeout* seconds at
    the most. A source may even end its thread: it is asked again the next time.
    """

    def __init__(self, name: str, gather: Callable[[], Gathered], timeout: float) -> None:
        """Ask by calling *gather*; *name* is that of the source."""
        self._name = name
        self._gather = gather
        self._timeout = timeout
        self.reset_after_fork()
        reset_in_children(self)

    def reset_after_fork(self) -> None:
        """Start anew: in a forked child, nobody is going to finish what was begun."""
        self._asking: _Asking | None = None
        self._last: _Asking | None = None
        self._asked = 0.0

    def ask(self) -> None:
        """Begin to gather, unless it is still going on since the last time."""
        self._asked = time.monotonic()
        if self._asking is None or self._asking.gathered is not None:
            self._asking = asking = _Asking()
            # It may hang for ever: that must not keep the process from ending.
            thread = threading.Thread(
                target=self._run, args=[asking], name="mpmetrics-source", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:  # no thread to be had, or the interpreter ends
                self._failed(asking, error)

    def _run(self, asking: _Asking) -> None:
        try:
            asking.gathered = self._gather()
        except BaseException as error:
            self._failed(asking, error)
        asking.over.set()
        if asking.was_good:
            self._last = asking

    def _failed(self, asking: _Asking, error: BaseException) -> None:
        """Answer that there is nothing to be had."""
        problem = Problem(self._name, "source_failed", f"{type(error).__name__}: {error}")
        asking.gathered = Gathered((), [problem])
        asking.over.set()

    def give_up(self) -> None:
        """Have whoever waits for the source wait no longer; it is late."""
        if self._asking is not None:
            self._asking.over.set()

    def answer(self, within: float | None = None) -> Answer:
        """Wait until the time is over that began with `ask`; return what there is by then.

        The time is the timeout, or *within* seconds if that is less.
        """
        asking, last = self._asking, self._last
        patience = self._timeout if within is None else min(within, self._timeout)
        deadline = self._asked + patience
        if asking is not None:
            asking.over.wait(max(0.0, deadline - time.monotonic()))
            if asking.gathered is not None:
                is_new = asking.begun >= self._asked
                return Answer(asking.gathered, 0.0 if is_new else self._asked - asking.begun)
        # The same for all clients, whatever time they have, or it would be new each time.
        detail = f"no answer within {self._timeout:g} s, or what time the client has"
        if last is None or last.gathered is None:
            return Answer(Gathered((), [Problem(self._name, "source_failed", detail)]))
        late = Problem(self._name, "source_late", f"{detail}; what it gave last is served")
        return Answer(last.gathered._replace(problems=[late]), time.monotonic() - last.begun)
