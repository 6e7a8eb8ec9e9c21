"""The chain from the files of a listing to families, with a memory between two scrapes.

A `Scraper` reads with a `SegmentReader`, and its `Merger` keeps the plan that follows from the keys
of all files. Where no key and no file is new, a scrape only reads values and merges them.
"""

from __future__ import annotations

import threading
from contextlib import nullcontext
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from mpmetrics._forks import reset_in_children
from mpmetrics.scrape.collection_pause import CollectionPause
from mpmetrics.scrape.merger import Merger
from mpmetrics.scrape.part import Part
from mpmetrics.scrape.reader import SegmentReader

if TYPE_CHECKING:
    from collections.abc import Container

    from mpmetrics.directory import Listing, WorkerFile
    from mpmetrics.errors import Problem
    from mpmetrics.merging import MergedFamily
    from mpmetrics.scrape.reader import FileSegment, Reading


class Scrape(NamedTuple):
    """The merged *families* at one moment, the *files* they come from, and the *problems*.

    *missed* is how many files of the listing were no longer there, or could not be opened because
    another process asks whether their worker is alive. If there are any, a new listing may have
    more.
    """

    families: list[MergedFamily]
    files: list[WorkerFile]
    problems: list[Problem]
    missed: int = 0

    @property
    def has_leased_files(self) -> bool:
        """Whether a file could not be read because another process has a lease on it."""
        return any(problem.reason == "leased" for problem in self.problems)


class Scraper:
    """The chain from files to families, with a memory.

    Any number of threads may scrape at once; they take turns. In a forked child the memory is
    empty again: another thread may have been in the middle of a scrape when the fork happened.
    """

    def __init__(self, *, accumulate: bool = True) -> None:
        """Start with an empty memory. Without *accumulate*, buckets stay as they are in files."""
        self._merger = Merger(accumulate=accumulate)
        self.reset_after_fork()
        reset_in_children(self)

    def reset_after_fork(self) -> None:
        """Replace the lock and the whole memory."""
        self._lock = threading.Lock()
        self._reader = SegmentReader()
        self._segments: dict[str, list[FileSegment]] = {}

    def scrape(self, listing: Listing) -> Scrape:
        """Read and merge the files of *listing*; never raise for what is in them."""
        part = self.read(listing)
        merged = self._merger.merge([part])
        problems = [*listing.problems, *part.problems, *merged.problems]
        return Scrape(merged.families, part.files, problems, part.reading.missed)

    def read(self, listing: Listing, directory: str = "") -> Part:
        """Read the files of *listing*, which is that of a *directory*; never raise for them."""
        is_warm = self._reader.knows(listing.files)
        with self._lock, nullcontext() if is_warm else CollectionPause():
            reading = self._read(listing)
            known = self._segments
            if reading.segments != known.get(directory):
                known[directory] = reading.segments
                self._reader.forget_files(besides=chain.from_iterable(known.values()))
            if len(known) == 1:
                self._reader.forget_unused_keys(reading.segments)
            return Part(reading, self._reader.meanings)

    def _read(self, listing: Listing) -> Reading:
        """Read the files of *listing*; where memory is short, forget all that is remembered."""
        try:
            return self._reader.read(listing.files)
        except MemoryError:
            self._reader, self._segments = SegmentReader(), {}
            raise

    def forget(self, *, besides: Container[str]) -> None:
        """Forget all directories *besides* these, and keys that are in none of these.

        It has to be called at times if there are several.
        """
        with self._lock:
            known = self._segments
            self._segments = {path: known[path] for path in known if path in besides}
            if len(self._segments) < len(known):
                self._reader.forget_files(besides=chain.from_iterable(self._segments.values()))
            self._reader.forget_unused_keys(chain.from_iterable(self._segments.values()))
