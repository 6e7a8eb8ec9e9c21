"""The chain from a directory to families, with a memory between two scrapes."""

from __future__ import annotations

from mpmetrics.scrape.by_process import Snapshot, View, take_snapshot
from mpmetrics.scrape.reader import Memory, Scraper, let_go, read_all
from mpmetrics.scrape.view import PAUSES, Collection, DirectoryView, collect, covered

__all__ = [
    "PAUSES",
    "Collection",
    "DirectoryView",
    "Memory",
    "Scraper",
    "Snapshot",
    "View",
    "collect",
    "covered",
    "let_go",
    "read_all",
    "take_snapshot",
]
