"""When to publish a value that changes often: pure decisions, times are given.

A value waits until it has been quiet for a *window*, but no longer than *max_wait* since it first
differed from what was published; two publications are *min_interval* apart; a value that does not
change is published again every *heartbeat*, so that whoever comes late learns of it. After a
failure the newest value is tried again. All times are in seconds.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from mpmetrics.engines.errors import DebounceTimingError

_Value = TypeVar("_Value")


class DebounceTiming(NamedTuple):
    """The times of a debounce, in seconds; a *heartbeat* of 0 is none."""

    window: float = 0.001
    max_wait: float = 0.05
    min_interval: float = 0.0
    heartbeat: float = 10.0
    retry: float = 0.1
    """How long after a failure the newest value is tried again; without a pause it cannot be."""

    def checked(self) -> DebounceTiming:
        """Return the times. Raises `DebounceTimingError` for those that cannot be."""
        for name, seconds in self._asdict().items():
            if not 0 <= seconds < float("inf") or (name == "retry" and not seconds):
                raise DebounceTimingError(name, seconds)
        return self


class Debounce(Generic[_Value]):
    """The newest value of one thing, and when it is to be published."""

    def __init__(self, timing: DebounceTiming) -> None:
        """Begin with no value."""
        self._timing = timing
        self._newest: _Value | None = None
        self._published: _Value | None = None
        self._changed_first = 0.0
        """When the newest value, or one before it, first differed from the published one."""
        self._changed_last = 0.0
        self._tried: float | None = None
        self._failed = False
        self._taken = False

    @property
    def newest(self) -> _Value | None:
        """The newest value, published or not."""
        return self._newest

    @property
    def is_pending(self) -> bool:
        """Whether there is a value that has not been published."""
        return self._newest is not None and self._newest != self._published

    @property
    def is_waiting(self) -> bool:
        """Whether there is a value that nobody would ever hear of if another came now."""
        return self.is_pending and not self._taken

    def take(self) -> _Value | None:
        """Return the newest value, which is going to be published now."""
        self._taken = True
        return self._newest

    def change(self, value: _Value, now: float) -> bool:
        """Take a new *value*; tell whether it is one."""
        if value == self._newest:
            return False
        if not self.is_pending:
            self._changed_first = now
        self._newest = value
        self._taken = False
        self._changed_last = now
        return True

    def due(self) -> float | None:
        """Return when the newest value is to be published, None if there is nothing to do."""
        timing = self._timing
        if not self.is_pending:
            if self._newest is None or not timing.heartbeat or self._tried is None:
                return None
            return self._tried + (timing.retry if self._failed else timing.heartbeat)
        quiet = self._changed_last + timing.window
        due = min(quiet, self._changed_first + timing.max_wait)
        if self._tried is None:
            return due
        pause = max(timing.min_interval, timing.retry if self._failed else 0.0)
        return max(due, self._tried + pause)

    def published(self, value: _Value, now: float) -> None:
        """Take note that *value* has been published; a newer one may have come meanwhile."""
        self._published = value
        self._tried = now
        self._failed = False
        self._changed_first = self._changed_last if self.is_pending else now

    def failed(self, now: float) -> None:
        """Take note that publishing has failed."""
        self._tried = now
        self._failed = True
        self._taken = False
