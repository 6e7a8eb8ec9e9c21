"""The sub-directories of a directory, each of which is a multiprocess directory: listed and read.

This is the form that containers have: each writes to a sub-directory of its own. They come and go.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics.directory import MANIFEST, FileName
from mpmetrics.errors import DirectoryError, Problem
from mpmetrics.scrape.scraper import Scraper
from mpmetrics.scrape.view import DirectoryView

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpmetrics.scrape.view import DirectoryReading


_LOST: Final = "lost+found"
"""The directory that some file systems have at the top; mostly it cannot be listed."""


def list_subdirectories(path: str) -> list[str]:
    """Return the names of the multiprocess directories below *path*, sorted.

    Names that begin with a dot are left out, and `lost+found`. If workers' files lie in the
    directory *path* itself, it is one of them, by the name "". Raises `DirectoryError`.
    """
    names = []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if _is_directory(entry):
                    names.append(entry.name)
                elif FileName.parse(entry.name) or entry.name == MANIFEST:
                    names.append("")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else None
        raise DirectoryError(path, why or str(error)) from error
    return sorted(name for name in set(names) - {_LOST} if not name.startswith("."))


def _is_directory(entry: os.DirEntry[str]) -> bool:
    """Return whether *entry* is a directory or leads to one; a link in a circle does not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


class SubdirectoryReadings(NamedTuple):
    """The *readings* of all sub-directories, and the *problems* with each of the *failed* ones."""

    readings: Sequence[DirectoryReading]
    problems: Sequence[Problem]
    failed: Sequence[str]


class SubdirectoriesView:
    """The sub-directories of the directory *path*, read again and again.

    They share one memory: containers mostly run the same code, and have the same keys.
    """

    def __init__(self, path: str) -> None:
        """Remember the directory *path*, which need not exist yet."""
        self.path = path
        self._scraper = Scraper()

    def paths(self) -> list[str]:
        """Return the paths of the sub-directories now. Raises `DirectoryError`."""
        return [os.path.join(self.path, name) for name in list_subdirectories(self.path)]

    def read(self) -> SubdirectoryReadings:
        """Read all sub-directories that there are now. Raises `DirectoryError`."""
        readings: list[DirectoryReading] = []
        problems: list[Problem] = []
        failed: list[str] = []
        names = list_subdirectories(self.path)
        for name in names:
            path = os.path.join(self.path, name) if name else self.path
            try:
                reading = DirectoryView(path, self._scraper).read()
            except DirectoryError as error:
                if os.path.isdir(path):  # else it has gone since it was listed
                    failed.append(name)
                    problems.append(Problem(path, "unreadable", error.why))
            else:
                readings.append(reading._replace(name=name))
        self._scraper.forget(besides={each.path for each in readings})
        return SubdirectoryReadings(readings, problems, failed)
