"""The chain from a directory to families, with a memory between two scrapes.

`reader` reads the files, `scraper` remembers what does not change, and `view` reads until the
directory holds still. What a directory holds is a `part` of a merge, and `merger` merges the parts
of one directory or of several. `collection_pause` keeps the garbage collector from disturbing.
`directory_parts` tells several directories apart, `subdirectories` finds those of containers, and
`remains` keeps the totals of those that are gone. `by_process` shows each process by itself.
`coverage` keeps one directory from being read twice for one page.
"""

from __future__ import annotations

from mpmetrics.scrape.by_process import FamilySnapshot, NamedDirectory, Snapshot, take_snapshot
from mpmetrics.scrape.coverage import cover_directories, is_covered
from mpmetrics.scrape.directory_parts import (
    DIRECTORY_LABEL,
    NamedReading,
    choose_label,
    count_once,
    drop_known_strangers,
    find_free_name,
    join_names,
    unique_names,
)
from mpmetrics.scrape.merger import Merged, Merger
from mpmetrics.scrape.part import Part
from mpmetrics.scrape.reader import SegmentReader
from mpmetrics.scrape.remains import Remains
from mpmetrics.scrape.scraper import Scraper
from mpmetrics.scrape.subdirectories import SubdirectoriesView, list_subdirectories
from mpmetrics.scrape.view import PAUSES, Collection, DirectoryReading, DirectoryView, collect

__all__ = [
    "DIRECTORY_LABEL",
    "PAUSES",
    "Collection",
    "DirectoryReading",
    "DirectoryView",
    "FamilySnapshot",
    "Merged",
    "Merger",
    "NamedDirectory",
    "NamedReading",
    "Part",
    "Remains",
    "Scraper",
    "SegmentReader",
    "Snapshot",
    "SubdirectoriesView",
    "choose_label",
    "collect",
    "count_once",
    "cover_directories",
    "drop_known_strangers",
    "find_free_name",
    "is_covered",
    "join_names",
    "list_subdirectories",
    "take_snapshot",
    "unique_names",
]
