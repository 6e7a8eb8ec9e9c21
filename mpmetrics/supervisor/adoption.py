"""The adoption of directories that the server chose itself: on the page, and compacted.

A library that sets the variable for its processes writes to a directory of its own. Once the
lookout has found it, its files are segments like those of the run's directory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpmetrics._log_limit import get_log
from mpmetrics.errors import MpmetricsError
from mpmetrics.pages import DirectorySource, Gathered, describe_failure

if TYPE_CHECKING:
    from collections.abc import Callable

_log = get_log()


class AdoptedDirectories:
    """A source of a page: the directories that have been adopted so far; at first there are none.

    *compact* is called with the path of each, to have it compacted from now on. It may raise
    `MpmetricsError`; then the directory is read all the same.
    """

    name = "adopted"
    in_process = False
    has_many = True

    def __init__(self, compact: Callable[[str], None]) -> None:
        """Start without directories."""
        self._compact = compact
        self._sources: tuple[DirectorySource, ...] = ()

    def adopt(self, path: str) -> None:
        """Take over the directory *path*; any thread may call this."""
        self._sources = (*self._sources, DirectorySource(path, liveness=True))
        try:
            self._compact(path)
        except MpmetricsError as error:
            _log.warning("%s: not compacted: %s", path, error)

    def gather(self) -> Gathered:
        """Return what `read_segments` returns: a page merges it with its other directories."""
        return self.read_segments()

    def read_segments(self) -> Gathered:
        """Read all directories; one that cannot be read is a problem."""
        gathered = Gathered(())
        for source in self._sources:
            name = f"{self.name}{source.path}"
            try:
                found = source.read_segments()
            except Exception as error:  # noqa: BLE001 - the others are served
                found = Gathered((), [describe_failure(source.path, error)])
            gathered = gathered._replace(
                problems=[*gathered.problems, *found.problems],
                readings=[
                    *gathered.readings,
                    *(each._replace(name=name) for each in found.readings),
                ],
                is_up={**gathered.is_up, name: bool(found.readings)},
            )
        return gathered
