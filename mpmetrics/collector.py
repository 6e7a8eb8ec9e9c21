"""The drop-in for prometheus_client's multiprocess collector, and `mark_process_dead`."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from glob import escape, glob
from typing import TYPE_CHECKING, Protocol

from mpmetrics._problem_log import ProblemLog
from mpmetrics.directory import (
    SUFFIX,
    adopt_old_variable,
    list_files,
    require_directory,
    resolve_directory,
)
from mpmetrics.errors import DirectoryError, Problem
from mpmetrics.scrape import PAUSES, DirectoryView, Scraper, is_covered

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client import Metric


class Registry(Protocol):
    """The part of a `prometheus_client.CollectorRegistry` that a collector needs to register."""

    def register(self, collector: MultiProcessCollector) -> None:
        """Add *collector* to the registry."""
        ...  # pragma: no cover - a protocol has no body


class MultiProcessCollector:
    """Drop-in for `prometheus_client.multiprocess.MultiProcessCollector`.

    It takes the same arguments and raises the same `ValueError` when the directory is missing at
    the start. Unlike prometheus_client's, it never raises for what it finds, or no longer finds,
    in the directory. It logs each problem once, as a warning of the logger "mpmetrics".
    """

    def __init__(
        self, registry: Registry | None, path: str | os.PathLike[str] | None = None
    ) -> None:
        """Collect the directory *path*, or the one that the environment names.

        The collector registers itself with *registry* unless that is None.
        """
        if path is None:
            adopt_old_variable()
        self._view = DirectoryView(require_directory(path))
        self._problem_log = ProblemLog()
        if registry is not None:
            registry.register(self)

    @property
    def path(self) -> str:
        """The directory that is collected."""
        return self._view.path

    def collect(self) -> Iterable[Metric]:
        """Return the merged families."""
        if is_covered(self.path):  # the page that asks has the directory as a source, too
            return []
        try:
            collection = self._view.collect()
        except DirectoryError as error:
            self._problem_log.report([Problem(error.path, "unreadable", error.why)])
            return []
        self._problem_log.report(collection.problems)
        return collection.families

    def describe(self) -> Iterable[Metric]:
        """Return no families, so that no names are claimed.

        The families change, and a registry holds its lock while it asks for them.
        """
        return []

    @staticmethod
    def merge(
        files: Iterable[str | os.PathLike[str]],
        accumulate: bool = True,  # noqa: FBT001, FBT002 - prometheus_client's signature
    ) -> Sequence[Metric]:
        """Merge the given *files* once and return the families.

        Without *accumulate*, histograms have the form of files: the buckets are not cumulative,
        and there is no `_count`. A problem is logged as a warning.
        """
        scraper, listing = Scraper(accumulate=accumulate), list_files(files)
        for pause in PAUSES:
            scrape = scraper.scrape(listing)
            if not scrape.has_leased_files:
                break
            time.sleep(pause)
        ProblemLog().report(scrape.problems)
        return scrape.families


def mark_process_dead(pid: int | str, path: str | os.PathLike[str] | None = None) -> None:
    """Remove the live gauges of the process *pid*, as prometheus_client's function does.

    Raises `DirectoryError` when no *path* is given and the environment names none.
    """
    directory = resolve_directory(path)
    pattern = os.path.join(escape(directory), f"gauge_live*_{escape(str(pid))}{SUFFIX}")
    for file in list_files(glob(pattern)).files:
        if file.name.is_live and file.name.id == str(pid):
            with suppress(FileNotFoundError):
                os.remove(file.path)
