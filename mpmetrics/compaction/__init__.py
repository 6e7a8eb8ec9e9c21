"""Compaction: merge the files of dead workers into archives, and count each value exactly once.

`compactor` is the whole and lists the steps of a compaction; `commit` and `recovery` do the steps
that change the directory, and `openings` proves that no process is about to open a file.
`background` compacts in a thread, for a server.
"""

from __future__ import annotations

from mpmetrics.compaction.background import DEFAULT_INTERVAL, BackgroundCompactor
from mpmetrics.compaction.compactor import Compactor, compact
from mpmetrics.compaction.policy import Fate
from mpmetrics.compaction.result import Compaction

__all__ = [
    "DEFAULT_INTERVAL",
    "BackgroundCompactor",
    "Compaction",
    "Compactor",
    "Fate",
    "compact",
]
