"""The files of dead workers become one archive, each value counted exactly once."""

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
