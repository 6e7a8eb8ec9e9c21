"""A memory of what was seen lately, which is bounded in size and time."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

_Key = TypeVar("_Key", bound="Hashable")


class RecentKeys(Generic[_Key]):
    """Keys that were added lately: the last *most* of them, each for so many *seconds*."""

    def __init__(
        self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin without keys; *clock* returns seconds."""
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._added: OrderedDict[_Key, float] = OrderedDict()

    def add(self, key: _Key) -> None:
        """Add *key*, whose time begins now, and forget the oldest one if there are too many."""
        self._added[key] = self._clock()
        self._added.move_to_end(key)
        if len(self._added) > self._most:
            self._added.popitem(last=False)

    def __contains__(self, key: _Key) -> bool:
        """Return whether *key* was added, and its time is not over."""
        added = self._added.get(key)
        return added is not None and self._clock() - added < self._seconds
