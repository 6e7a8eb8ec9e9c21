"""The chain from the files of a listing to families, with a memory between two scrapes.

A `Scraper` reads with a `SegmentReader` and keeps the plan that follows from the keys of all
files. Where no key and no file is new, a scrape only reads values and merges them.
"""

from __future__ import annotations

import gc
import os
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple

from mpmetrics._forks import reset_in_children
from mpmetrics.directory import FileName
from mpmetrics.merging import Segment, make_plan
from mpmetrics.scrape.reader import SegmentReader

if TYPE_CHECKING:
    from types import TracebackType

    from mpmetrics.directory import Listing, WorkerFile
    from mpmetrics.errors import Problem
    from mpmetrics.merging import MergedFamily
    from mpmetrics.scrape.reader import FileSegment


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
        self._accumulate = accumulate
        self.reset_after_fork()
        reset_in_children(self)

    def reset_after_fork(self) -> None:
        """Replace the lock and the whole memory."""
        self._lock = threading.Lock()
        self._reader = SegmentReader()
        self._planned_for: list[FileSegment] = []
        self._plan = make_plan((), {})

    def scrape(self, listing: Listing) -> Scrape:
        """Read and merge the files of *listing*; never raise for what is in them."""
        is_warm = self._reader.knows(listing.files)
        with self._lock, nullcontext() if is_warm else _GarbageCollectionPause():
            reading = self._reader.read(listing.files)
            if reading.segments != self._planned_for:
                self._make_plan(reading.segments)
            self._reader.forget_unused_keys(reading.segments)
            families = self._plan.merge(reading.values)
            unexpected = [each for each in reading.problems if not _is_expected(each)]
            problems = [*listing.problems, *unexpected, *self._plan.problems]
        files = list(dict.fromkeys(file for file, _, _ in reading.segments))
        return Scrape(families, files, problems, reading.missed)

    def _make_plan(self, segments: list[FileSegment]) -> None:
        """Make the plan for other files or other keys than the last time."""
        plain = [Segment(each.file, each.layout.keys) for each in segments]
        self._plan = make_plan(plain, self._reader.meanings, accumulate=self._accumulate)
        self._planned_for = segments
        self._reader.forget_files(besides=segments)


def _is_expected(problem: Problem) -> bool:
    """Return whether *problem* is part of normal work: a live gauge may go at any moment."""
    name = FileName.parse(os.path.basename(problem.path))
    return problem.reason == "vanished" and name is not None and name.is_live


class _GarbageCollectionPause:
    """A pause of the garbage collector, while a scrape builds what it remembers.

    Building a great many tuples starts a collection every few hundred of them, in vain: they form
    no cycles. The collections take a third of the time of a first scrape. A scrape without a new
    file has no pause, so the garbage of the server waits some tenths of a second at worst.

    The pause ends in a forked child, too. It does not start a collector that was off before.
    """

    def __init__(self) -> None:
        self._is_on = False

    def __enter__(self) -> None:
        if gc.isenabled():
            self._is_on = True
            reset_in_children(self)
            gc.disable()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        if self._is_on:
            self._is_on = False
            gc.enable()
