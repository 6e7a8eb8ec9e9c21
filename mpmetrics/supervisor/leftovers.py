"""What earlier runs have left in a directory: it is folded before the server is started.

A worker that gets the pid of a dead one would open the dead one's file and go on with its values: a
gauge of requests in progress would start at what a crash has left of it. Once the file is folded,
there is none to open, and what counts on is in the archive.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from mpmetrics._text import plural
from mpmetrics.errors import MpmetricsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpmetrics.compaction import Compaction

_PATIENCE: Final = 5.0
"""Seconds to wait for another compactor of the directory."""

_POLL: Final = 0.05

_STAYS: Final = "a worker with the same pid goes on with their values"


def fold_leftovers(
    compact: Callable[[], Compaction],
    write_message: Callable[[str], None],
    *,
    patience: float = _PATIENCE,
) -> None:
    """Fold by *compact* the files of dead workers; write a line about what cannot be folded.

    If another compactor is at work, wait for it, *patience* seconds at most. Raises nothing.
    """
    deadline = time.monotonic() + patience
    try:
        while (result := compact()).outcome == "busy" and time.monotonic() < deadline:
            time.sleep(_POLL)
    except MpmetricsError as error:
        write_message(f"{error}; {_STAYS}")
        return
    if result.outcome == "busy":
        write_message(f"{result.path}: another process has been compacting it for {patience:g} s")
        return
    unknown = [each for each in result.skipped if each.reason == "unknown"]
    if unknown:
        write_message(
            f"{result.path}: {plural(len(unknown), 'file')} of earlier workers cannot be folded, "
            f"because {unknown[0].detail}; {_STAYS}"
        )
