"""The chain from a directory to families, with a memory between two scrapes.

`reader` reads the files, `scraper` remembers what does not change, and `view` reads until the
directory holds still. What a directory holds is a `part` of a merge, and `merger` merges the parts
of one directory or of several. `collection_pause` keeps the garbage collector from disturbing.
`by_process` shows each process by itself. `coverage` keeps one directory from being read twice for
one page.
"""

from __future__ import annotations

from mpmetrics.scrape.by_process import PROCESS_LABEL, FamilySnapshot, Snapshot, take_snapshot
from mpmetrics.scrape.coverage import cover_directories, is_covered
from mpmetrics.scrape.merger import Merged, Merger
from mpmetrics.scrape.part import Part
from mpmetrics.scrape.reader import SegmentReader
from mpmetrics.scrape.scraper import Scraper
from mpmetrics.scrape.view import PAUSES, Collection, DirectoryReading, DirectoryView, collect

__all__ = [
    "PAUSES",
    "PROCESS_LABEL",
    "Collection",
    "DirectoryReading",
    "DirectoryView",
    "FamilySnapshot",
    "Merged",
    "Merger",
    "Part",
    "Scraper",
    "SegmentReader",
    "Snapshot",
    "collect",
    "cover_directories",
    "is_covered",
    "take_snapshot",
]
