"""The time at which to publish a value that changes often: pure decisions, without a clock.

A value waits until it has not changed for a *window*, but no longer than *max_wait* since it first
differed from the published value. Two publications are at least *min_interval* apart. A value that
does not change is published again after every *heartbeat*, for receivers that have started late.
After a failure the newest value is tried again after *retry*. All times are in seconds.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from mpmetrics.engines.errors import DebounceTimingError

_Value = TypeVar("_Value")


class DebounceTiming(NamedTuple):
    """The times of a debounce, in seconds; with a *heartbeat* of 0 there is no heartbeat."""

    window: float = 0.001
    max_wait: float = 0.05
    min_interval: float = 0.0
    heartbeat: float = 10.0
    retry: float = 0.1
    """The pause after a failure, which cannot be 0."""

    def check(self) -> DebounceTiming:
        """Return this object. Raises `DebounceTimingError` if one of its times is invalid."""
        for name, seconds in self._asdict().items():
            if not 0 <= seconds < float("inf") or (name == "retry" and not seconds):
                raise DebounceTimingError(name, seconds)
        return self


class Debounce(Generic[_Value]):
    """The newest value of one quantity, and the time at which to publish it."""

    def __init__(self, timing: DebounceTiming) -> None:
        """Start without a value."""
        self._timing = timing
        self._newest: _Value | None = None
        self._published: _Value | None = None
        self._changed_first = 0.0
        """The time of the first change since the published value."""
        self._changed_last = 0.0
        self._tried: float | None = None
        """The time of the last attempt to publish."""
        self._has_failed = False
        self._is_taken = False

    @property
    def newest(self) -> _Value | None:
        """The newest value, published or not."""
        return self._newest

    @property
    def is_pending(self) -> bool:
        """Whether the newest value is not the published one."""
        return self._newest is not None and self._newest != self._published

    @property
    def is_waiting(self) -> bool:
        """Whether the newest value is neither published nor taken."""
        return self.is_pending and not self._is_taken

    def take(self) -> _Value | None:
        """Return the newest value, which the caller publishes now."""
        self._is_taken = True
        return self._newest

    def change(self, value: _Value, now: float) -> bool:
        """Set the newest *value*; return whether it differs from the one before."""
        if value == self._newest:
            return False
        if not self.is_pending:
            self._changed_first = now
        self._newest = value
        self._is_taken = False
        self._changed_last = now
        return True

    def due(self) -> float | None:
        """Return the time at which to publish the newest value, None if there is no such time."""
        timing = self._timing
        if not self.is_pending:
            if self._newest is None or not timing.heartbeat or self._tried is None:
                return None
            return self._tried + (timing.retry if self._has_failed else timing.heartbeat)
        quiet = self._changed_last + timing.window
        due = min(quiet, self._changed_first + timing.max_wait)
        if self._tried is None:
            return due
        pause = max(timing.min_interval, timing.retry if self._has_failed else 0.0)
        return max(due, self._tried + pause)

    def record_success(self, value: _Value, now: float) -> None:
        """Record that *value* has been published; there may be a newer one by now."""
        self._published = value
        self._tried = now
        self._has_failed = False
        self._changed_first = self._changed_last if self.is_pending else now

    def record_failure(self, now: float) -> None:
        """Record that publishing has failed."""
        self._tried = now
        self._has_failed = True
        self._is_taken = False
