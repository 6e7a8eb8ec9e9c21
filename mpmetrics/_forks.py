"""What a forked child has to make anew.

A fork copies memory but not threads: a lock that another thread held stays locked for ever in
the child, and what that thread was about to finish stays half done.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class ForkAware(Protocol):
    """Something that a child process starts anew."""

    def reset_after_fork(self) -> None:
        """Start anew, whoever holds a lock: nothing of the old state is used any more."""
        ...  # pragma: no cover - a protocol has no body


_things: weakref.WeakSet[ForkAware] = weakref.WeakSet()


def reset_in_children(thing: ForkAware) -> None:
    """Have every child process, as long as *thing* lives, begin by telling it to forget."""
    _things.add(thing)


def _forget_all() -> None:
    for thing in list(_things):
        thing.reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
