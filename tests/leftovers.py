"""What a test leaves behind: threads and descriptors that have to end soon after it."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.servers import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

_DESCRIPTORS: Final = Path("/proc/self/fd")


@contextmanager
def no_threads_left() -> Iterator[None]:
    """Wait at the end until all threads of mpmetrics that have started inside have ended.

    Threads that ran before are those of other tests, and may end at any time.
    """
    before = {*_find_threads()}
    yield
    eventually(lambda: before.issuperset(_find_threads()), "the end of all threads")


def _find_threads() -> Iterator[threading.Thread]:
    return (thread for thread in threading.enumerate() if "mpmetrics" in thread.name)


def count_descriptors() -> int:
    """Return how many files and sockets this process has open."""
    return len(list(_DESCRIPTORS.iterdir()))


def wait_for_descriptors(most: int) -> None:
    """Wait until no more than *most* descriptors are open."""
    eventually(lambda: count_descriptors() <= most, f"no more than {most} descriptors are open")
