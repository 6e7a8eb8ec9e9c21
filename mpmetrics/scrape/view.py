"""The merged view of a directory: a loop that scrapes again while the directory changes.

Workers begin and end, and a compactor renames, replaces and deletes files. So a view looks at the
directory before and after each attempt, and reads again until nothing was missed.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics.directory import (
    find_manifest,
    list_directory,
    list_inodes,
    make_compaction_lock,
    require_directory,
    select_files,
    try_lock,
)
from mpmetrics.errors import DirectoryError, Problem
from mpmetrics.exposition import Format, render_families
from mpmetrics.scrape.merger import Merger
from mpmetrics.scrape.scraper import Scrape, Scraper
from mpmetrics.system import measure_space, read_birth

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mpmetrics.directory import Listing, Selection, WorkerFile
    from mpmetrics.merging import MergedFamily
    from mpmetrics.scrape.part import Part
    from mpmetrics.system import Space

PAUSES: Final = (0.0, 0.0, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032)
"""Seconds to wait after each attempt to read. A compactor holds files for milliseconds."""

_LOCK_PATIENCE: Final = 3.0
"""Seconds after which a compactor is taken to hang, or to be stopped; a scrape may take ten."""


def collect(path: str | os.PathLike[str]) -> Collection:
    """Read and merge the multiprocess directory *path* once.

    Raises `DirectoryError`, a `ValueError`, when there is no such directory.
    """
    return DirectoryView(require_directory(path)).collect()


class Collection:
    """The merged view of a directory at one moment.

    `families` are `prometheus_client.Metric` objects sorted by name, `problems` is what was
    wrong with the directory or its files, `files` are those that went into the view, and
    `quarantined` the paths of damaged ones that compaction has set aside.
    """

    def __init__(self, path: str, scrape: Scrape, listing: Listing) -> None:
        """Take the results of a *scrape* of the directory *path*, which had this *listing*."""
        self.path = path
        self.families: Sequence[MergedFamily] = scrape.families
        self.files: Sequence[WorkerFile] = scrape.files
        self.quarantined: Sequence[str] = listing.quarantined
        self.problems: Sequence[Problem] = scrape.problems

    def render(self, openmetrics: bool = False) -> bytes:  # noqa: FBT001, FBT002 - public API
        """Return the page: text format 0.0.4, or OpenMetrics 1.0."""
        return render_families(self.families, Format(openmetrics=openmetrics))


class DirectoryReading(NamedTuple):
    """What the directory *path* held at one moment: a *part* for a merge, and its *listing*.

    *identity* tells whether two paths are those of one directory. *born_ns* is when it was made, 0
    if that is not known, and *changed_ns* when a file last came or went. *generation* is that of
    the last compaction. *processes* is how many processes wrote the files, by state, if that was
    asked for. *name* is that of a sub-directory on the page, if it was found there. *space* is that
    of its file system, None if it is not known.
    """

    path: str
    part: Part
    listing: Listing
    identity: tuple[int, int]
    born_ns: int
    changed_ns: int
    generation: int
    processes: Mapping[str, int] = {}
    name: str = ""
    space: Space | None = None

    @property
    def files(self) -> Sequence[WorkerFile]:
        """The files that could be read."""
        return self.part.files

    @property
    def quarantined(self) -> Sequence[str]:
        """The paths of damaged files that compaction has set aside."""
        return self.listing.quarantined

    @property
    def problems(self) -> Sequence[Problem]:
        """What was wrong with the directory and its files."""
        return [*self.listing.problems, *self.part.problems]


class DirectoryView:
    """A directory that is collected again and again.

    What does not change is remembered from one collection to the next: see
    `mpmetrics.scrape.scraper`. Several views may share a *scraper*.
    """

    def __init__(self, path: str, scraper: Scraper | None = None) -> None:
        """Remember the directory *path*, which need not exist yet."""
        self.path = path
        self._scraper = scraper or Scraper()
        self._merger = Merger()

    def collect(self) -> Collection:
        """Read and merge the directory.

        Raises `DirectoryError` when it cannot be listed, or when compactions keep it from being
        read. Nothing that lies in the directory raises.
        """
        reading = self.read()
        merged = self._merger.merge([reading.part])
        problems = [*reading.problems, *merged.problems]
        scrape = Scrape(merged.families, reading.part.files, problems)
        return Collection(self.path, scrape, reading.listing)

    def read(self) -> DirectoryReading:
        """Read the directory, to merge it with others. Raises `DirectoryError` as `collect`."""
        try:
            attempt = self._read_until_stable()
        except DirectoryError:
            raise
        except (OSError, ValueError) as error:  # a path may have a character that none can have
            why = error.strerror if isinstance(error, OSError) else None
            raise DirectoryError(self.path, why or str(error)) from error
        part, (listing, manifest, _), status, _ = attempt
        identity, born_ns = (status.st_dev, status.st_ino), read_birth(self.path)
        return DirectoryReading(
            *(self.path, part, listing, identity, born_ns, status.st_mtime_ns, manifest.generation),
            space=measure_space(self.path),
        )

    def _read_until_stable(self) -> _Attempt:
        """Read until the directory was the same before and after.

        If no attempt is stable, take the compaction lock; under it only workers come and go, and
        the last attempt is good enough.
        """
        attempt = self._try_repeatedly()
        if attempt.change is not None:
            with _lock_out_compactors(self.path):
                attempt = self._try_repeatedly()
        if attempt.change is _Change.COMPACTION:
            raise DirectoryError(self.path, "it is compacted faster than it can be read")
        return attempt

    def _try_repeatedly(self) -> _Attempt:
        """Return the first stable attempt, or the last one if none is stable."""
        vanished: frozenset[str] = frozenset()
        for pause in PAUSES:
            attempt = self._try(vanished)
            if attempt.change is None:
                break
            vanished = attempt.part.vanished
            time.sleep(pause)
        return attempt

    def _try(self, vanished: frozenset[str]) -> _Attempt:
        """Read once, and find out whether the directory changed meanwhile.

        *vanished* are the paths that were not there at the attempt before. If just these are
        missing again, they are archives that the MANIFEST names in vain: no attempt will find them.
        """
        before = select_files(self.path, list_directory(self.path))
        part = self._scraper.read(before.listing, self.path)
        change = _change_since(before, self.path)
        if change is None and part.vanished != vanished:
            change = _Change.FILES if part.vanished else None
        if part.has_leased_files:
            change = _Change.COMPACTION
        return _Attempt(part, before, os.stat(self.path), change)


class _Change(Enum):
    """What happened to a directory while it was read."""

    COMPACTION = "compaction"
    """Other files count now, or one could not be read: sums can be anything."""

    FILES = "files"
    """A file came or went: its worker's values were missed, or there are none any more."""


class _Attempt(NamedTuple):
    """A reading of the files of a *selection*; *change* is what happened meanwhile.

    In a stable attempt that is None. *status* is that of the directory.
    """

    part: Part
    selection: Selection
    status: os.stat_result
    change: _Change | None


def _change_since(before: Selection, path: str) -> _Change | None:
    """Return what has happened to the directory *path* since its files were selected."""
    known = before.listing.inodes
    now = before.listing.files
    if not list_inodes(path) <= known:
        now = select_files(path, list_directory(path)).listing.files
    if find_manifest(path) != before.found:
        return _Change.COMPACTION
    # The MANIFEST names the archives, which have no inode here.
    came = any(file.inode and file.inode not in known for file in now)
    return _Change.FILES if came else None


@contextmanager
def _lock_out_compactors(path: str) -> Iterator[None]:
    """Hold the compaction lock within the block, if this user may take it.

    A compactor that holds it for too long may be stopped. Then it changes nothing meanwhile, and
    the block has to find out whether that is so.
    """
    try:
        lock = make_compaction_lock(path)
        is_taken = try_lock(lock, timeout=_LOCK_PATIENCE)
    except OSError:  # the directory is read-only, or another user's
        yield
        return
    try:
        yield
    finally:
        if is_taken:
            lock.release()
