"""The end of compaction in the background."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from mpmetrics.compaction import BackgroundCompactor, Compaction, Compactor
from tests.leftovers import no_threads_left

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


class FakeCompactor:
    """A compactor of no directory, which can hang."""

    path = "/d"

    def __init__(self, *, hangs: bool = False) -> None:
        """Take whether it hangs until `go_on` is set."""
        self.has_begun = threading.Event()
        self.go_on = threading.Event()
        if not hangs:
            self.go_on.set()

    def compact(self) -> Compaction:
        """Do nothing, sooner or later."""
        self.has_begun.set()
        self.go_on.wait()
        return Compaction(self.path, "nothing")


@contextmanager
def started(compactor: FakeCompactor) -> Iterator[BackgroundCompactor]:
    """Return a compaction in the background that is not due for an hour."""
    background = BackgroundCompactor(cast("Compactor", compactor), interval=3600)
    with no_threads_left():
        background.start()
        yield background
        compactor.go_on.set()


def test_a_compaction_that_hangs_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    """The end waits for a compaction, but not for ever, and says that it waits no longer."""
    compactor = FakeCompactor(hangs=True)
    with started(compactor) as background:
        background.stop(compact=True, seconds=0.1)
        assert compactor.has_begun.is_set()
    expected = "/d: a compaction has not ended within 0.1 s: going on without it"
    assert caplog.record_tuples == [("mpmetrics", logging.WARNING, expected)]


def test_the_last_compaction_is_on_demand() -> None:
    """The thread compacts once more before it ends if it is asked to."""
    for compact in False, True:
        compactor = FakeCompactor()
        with started(compactor) as background:
            background.stop(compact=compact)
            assert compactor.has_begun.is_set() is compact
