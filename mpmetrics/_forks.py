"""State that a forked child process has to reset.

A fork copies memory but not threads. A lock that another thread held stays locked for ever in the
child, and what that thread was about to finish stays half done.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from types import TracebackType


class ForkAware(Protocol):
    """An object with state that is of no use in a forked child."""

    def reset_after_fork(self) -> None:
        """Replace that state, locks included, without waiting for any lock."""
        ...  # pragma: no cover - a protocol has no body


_registered: weakref.WeakSet[ForkAware] = weakref.WeakSet()
"""A process has one list of what a fork resets, as it has one list of hooks in `os`."""


def reset_in_children(thing: ForkAware) -> None:
    """Reset *thing* at the start of every child that is forked while *thing* lives."""
    _registered.add(thing)


def _reset_all() -> None:
    for thing in list(_registered):
        thing.reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)


class ForkSafeLock:
    """A lock that is free in a forked child, even if a thread of the parent held it.

    For state that is whole between any two instructions, so that the child can use it as it
    finds it. State that must be replaced as well belongs to a `ForkAware` class.
    """

    def __init__(self) -> None:
        """Make a free lock."""
        self.reset_after_fork()
        self._held = self._lock
        reset_in_children(self)

    def reset_after_fork(self) -> None:
        """Replace the lock by a free one."""
        self._lock = threading.Lock()

    def acquire(self, *, timeout: float = -1) -> bool:
        """Take the lock, waiting *timeout* seconds at most, or for ever; return whether it did."""
        lock = self._lock
        if not lock.acquire(timeout=timeout):
            return False
        self._held = lock
        return True

    def release(self) -> None:
        """Free the lock that was taken, which after a fork may be that of the parent."""
        self._held.release()

    def __enter__(self) -> None:
        """Take the lock."""
        self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Free the lock."""
        self.release()
