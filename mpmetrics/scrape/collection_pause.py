"""A pause of the garbage collector, while a scrape builds what it remembers."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from mpmetrics._forks import reset_in_children

if TYPE_CHECKING:
    from types import TracebackType


class CollectionPause:
    """A pause of the garbage collector for a block.

    Building a great many tuples starts a collection every few hundred of them, in vain: they form
    no cycles. The collections take a third of the time of a first scrape. A scrape without a new
    file has no pause, so the garbage of the server waits some tenths of a second at worst.

    The pause ends in a forked child, too. It does not start a collector that was off before.
    """

    def __init__(self) -> None:
        """Make a pause that has not begun."""
        self._is_on = False

    def __enter__(self) -> None:
        """Stop the collector, if it is on."""
        if gc.isenabled():
            self._is_on = True
            reset_in_children(self)
            gc.disable()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Start the collector again."""
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Start the collector again, in a forked child or at the end of the block."""
        if self._is_on:
            self._is_on = False
            gc.enable()
