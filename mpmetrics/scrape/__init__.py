"""The chain from a directory to families, with a memory between two scrapes.

`reader` reads the files, `scraper` merges what they hold, `view` does so until the directory holds
still, and `by_process` shows each process by itself. `coverage` keeps one directory from being
read twice for one page.
"""

from __future__ import annotations

from mpmetrics.scrape.by_process import FamilySnapshot, Snapshot, take_snapshot
from mpmetrics.scrape.coverage import cover_directories, is_covered
from mpmetrics.scrape.reader import SegmentReader
from mpmetrics.scrape.scraper import Scraper
from mpmetrics.scrape.view import PAUSES, Collection, DirectoryView, collect

__all__ = [
    "PAUSES",
    "Collection",
    "DirectoryView",
    "FamilySnapshot",
    "Scraper",
    "SegmentReader",
    "Snapshot",
    "collect",
    "cover_directories",
    "is_covered",
    "take_snapshot",
]
