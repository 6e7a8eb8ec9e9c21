"""The merged view of a directory: one collection at a time, or the drop-in for a registry."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from enum import Enum
from glob import escape, glob
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from mpmetrics.environment import adopt_old_variable, given_directory, usable_directory
from mpmetrics.errors import DirectoryError, Problem
from mpmetrics.exposition import Format, write
from mpmetrics.files import SUFFIX, inodes, list_directory, worker_files
from mpmetrics.locks import compaction_lock
from mpmetrics.manifest import look_for_manifest, select
from mpmetrics.scraping import Scraper
from mpmetrics.troubles import Troubles

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from prometheus_client import Metric

    from mpmetrics.families import MergedFamily
    from mpmetrics.files import Listing, WorkerFile
    from mpmetrics.manifest import Selection
    from mpmetrics.scraping import Scrape

covered: ContextVar[frozenset[str]] = ContextVar("covered", default=frozenset())
"""Directories that a page reads itself, so that collectors of the same ones need not."""


# Seconds between attempts to find a directory at rest. A compactor holds files for milliseconds.
_PAUSES: Final = (0.0, 0.0, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032)

_LOCK_PATIENCE: Final = 10.0
"""Seconds after which somebody who compacts a directory is taken to hang."""


class Registry(Protocol):
    """What is needed of a `prometheus_client.CollectorRegistry` to register with it."""

    def register(self, collector: MultiProcessCollector) -> None:
        """Add *collector* to the registry."""
        ...  # pragma: no cover - a protocol has no body


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
        return write(self.families, Format(openmetrics=openmetrics))


class DirectoryView:
    """A directory that is collected again and again; see `mpmetrics.scraping`.

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
        for pause in _PAUSES:
            reading = self._read()
            if reading.change is None:
                return reading.scrape, reading.listing
            time.sleep(pause)
        with _locked(self.path):
            for pause in _PAUSES:
                reading = self._read()
                if reading.change is None:
                    break
                time.sleep(pause)
        if reading.change is _Change.COMPACTION:
            raise DirectoryError(self.path, "it is compacted faster than it can be read")
        return reading.scrape, reading.listing

    def _read(self) -> _Reading:
        """Read once, and find out whether that was good enough."""
        before = select(self.path, list_directory(self.path))
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
    if not inodes(path) <= known:
        now = select(path, list_directory(path)).listing.files
    if look_for_manifest(path) != before.found:
        return _Change.COMPACTION
    # Archives are told by the MANIFEST, and have no inode here.
    came = any(file.inode and file.inode not in known for file in now)
    return _Change.FILES if came else None


@contextmanager
def _locked(path: str) -> Iterator[None]:
    """Keep compactors away, if this user may; they take milliseconds."""
    try:
        lock = compaction_lock(path)
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
    return DirectoryView(usable_directory(path)).collect()


class MultiProcessCollector:
    """Drop-in for `prometheus_client.multiprocess.MultiProcessCollector`.

    Takes the same arguments and raises the same `ValueError` when the directory is missing at
    the start. Unlike its model it never raises for what it finds, or no longer finds, in the
    directory: each problem is logged once, as a warning of the logger "mpmetrics".
    """

    def __init__(
        self, registry: Registry | None, path: str | os.PathLike[str] | None = None
    ) -> None:
        """Collect the directory *path*, or the one that the environment names.

        The collector registers itself with *registry* unless that is None.
        """
        if path is None:
            adopt_old_variable()
        self._view = DirectoryView(usable_directory(path))
        self._troubles = Troubles()
        if registry is not None:
            registry.register(self)

    @property
    def path(self) -> str:
        """The directory that is collected."""
        return self._view.path

    def collect(self) -> Iterable[Metric]:
        """Return the merged families."""
        if os.path.realpath(self.path) in covered.get():
            return []
        try:
            collection = self._view.collect()
        except DirectoryError as error:
            self._troubles.see([Problem(error.path, "unreadable", error.why)])
            return []
        self._troubles.see(collection.problems)
        return collection.families

    def describe(self) -> Iterable[Metric]:
        """Claim no names: the families change, and a registry asks while it holds its lock."""
        return []

    @staticmethod
    def merge(
        files: Iterable[str | os.PathLike[str]],
        accumulate: bool = True,  # noqa: FBT001, FBT002 - prometheus_client's signature
    ) -> Sequence[Metric]:
        """Merge the given *files* once and return the families.

        Without *accumulate* the buckets of histograms are not cumulative and there is no
        `_count`, which is the form to write back to files.
        """
        scraper, listing = Scraper(accumulate=accumulate), worker_files(files)
        for pause in _PAUSES:
            scrape = scraper.scrape(listing)
            if not scrape.is_kept_out:
                break
            time.sleep(pause)
        Troubles().see(scrape.problems)
        return scrape.families


def mark_process_dead(pid: int | str, path: str | os.PathLike[str] | None = None) -> None:
    """Remove the live gauges of the process *pid*, as prometheus_client's function does.

    Raises `DirectoryError` when no *path* is given and the environment names none.
    """
    directory = given_directory(path)
    pattern = os.path.join(escape(directory), f"gauge_live*_{escape(str(pid))}{SUFFIX}")
    for file in worker_files(glob(pattern)).files:
        if file.name.is_live and file.name.id == str(pid):
            with suppress(FileNotFoundError):
                os.remove(file.path)
