"""The merged view of a directory that changes while it is read."""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics.directory import (
    find_manifest,
    list_directory,
    list_inodes,
    make_compaction_lock,
    require_directory,
    select_files,
)
from mpmetrics.errors import DirectoryError, Problem
from mpmetrics.exposition import Format, render_families
from mpmetrics.scrape.reader import Scraper

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from mpmetrics.directory import Listing, Selection, WorkerFile
    from mpmetrics.merging import MergedFamily
    from mpmetrics.scrape.reader import Scrape

covered: ContextVar[frozenset[str]] = ContextVar("covered", default=frozenset())
"""Directories that a page reads itself, so that collectors of the same ones need not."""


# Seconds between attempts to find a directory at rest. A compactor holds files for milliseconds.
PAUSES: Final = (0.0, 0.0, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032)

_LOCK_PATIENCE: Final = 10.0
"""Seconds after which somebody who compacts a directory is taken to hang."""


class Collection:
    """The merged view of a directory at one moment.

    `families` are `prometheus_client.Metric` objects sorted by name, `problems` is what was
    wrong with the directory or its files, `files` are those that went into the view, and
    `quarantined` the paths of damaged ones that compaction has set aside.
    """

    def __init__(self, path: str, scrape: Scrape, listing: Listing) -> None:
        """Take what a *scrape* of the directory *path*, with this *listing*, gave."""
        self.path = path
        self.families: Sequence[MergedFamily] = scrape.families
        self.files: Sequence[WorkerFile] = scrape.files
        self.quarantined: Sequence[str] = listing.quarantined
        self.problems: Sequence[Problem] = scrape.problems

    def render(self, openmetrics: bool = False) -> bytes:  # noqa: FBT001, FBT002 - public API
        """Return the page: text format 0.0.4, or OpenMetrics 1.0."""
        return render_families(self.families, Format(openmetrics=openmetrics))


class DirectoryView:
    """A directory that is collected again and again; see `mpmetrics.scrape.reader`.

    While it is read, workers begin and end, and a compactor may rename, replace and delete
    files. So it is looked at before and after, and read again until nothing was missed.
    """

    def __init__(self, path: str) -> None:
        """Look at the directory *path*; it need not exist yet."""
        self.path = path
        self._scraper = Scraper()

    def collect(self) -> Collection:
        """Read and merge the directory as it is now.

        Raises `DirectoryError` when it cannot be listed, or not be read for all that is done
        to it; nothing else that lies in it raises.
        """
        try:
            return Collection(self.path, *self._settled())
        except OSError as error:
            raise DirectoryError(self.path, error.strerror or str(error)) from error

    def _settled(self) -> tuple[Scrape, Listing]:
        """Read until the directory was the same before and after.

        Whoever finds no quiet moment locks compactors out; by then only workers come and go.
        """
        for pause in PAUSES:
            reading = self._read()
            if reading.change is None:
                return reading.scrape, reading.listing
            time.sleep(pause)
        with _locked(self.path):
            for pause in PAUSES:
                reading = self._read()
                if reading.change is None:
                    break
                time.sleep(pause)
        if reading.change is _Change.COMPACTION:
            raise DirectoryError(self.path, "it is compacted faster than it can be read")
        return reading.scrape, reading.listing

    def _read(self) -> _Reading:
        """Read once, and find out whether that was good enough."""
        before = select_files(self.path, list_directory(self.path))
        scrape = self._scraper.scrape(before.listing)
        change = _change_since(before, self.path)
        if change is None and scrape.missed:
            change = _Change.FILES
        if scrape.is_kept_out:
            change = _Change.COMPACTION
        return _Reading(scrape, before.listing, change)


class _Change(Enum):
    """What happened to a directory while it was read."""

    COMPACTION = "compaction"
    """Other files count now, or one could not be read: sums can be anything."""

    FILES = "files"
    """A file came or went: its worker's values were missed, or there are none any more."""


class _Reading(NamedTuple):
    """A *scrape* of a *listing*, and what changed meanwhile, if anything did."""

    scrape: Scrape
    listing: Listing
    change: _Change | None


def _change_since(before: Selection, path: str) -> _Change | None:
    """Return what has happened to the directory *path* since its files were selected."""
    known = before.listing.inodes
    now = before.listing.files
    if not list_inodes(path) <= known:
        now = select_files(path, list_directory(path)).listing.files
    if find_manifest(path) != before.found:
        return _Change.COMPACTION
    # Archives are told by the MANIFEST, and have no inode here.
    came = any(file.inode and file.inode not in known for file in now)
    return _Change.FILES if came else None


@contextmanager
def _locked(path: str) -> Iterator[None]:
    """Keep compactors away, if this user may; they take milliseconds."""
    try:
        lock = make_compaction_lock(path)
        lock.acquire(timeout=_LOCK_PATIENCE)
    except TimeoutError as error:
        raise DirectoryError(path, f"it has been compacted for {_LOCK_PATIENCE} s") from error
    except OSError:  # read-only, or somebody else's
        yield
        return
    try:
        yield
    finally:
        lock.release()


def collect(path: str | os.PathLike[str]) -> Collection:
    """Read and merge the multiprocess directory *path* once.

    Raises `DirectoryError`, a `ValueError`, when there is no such directory.
    """
    return DirectoryView(require_directory(path)).collect()
