"""The source that is a multiprocess directory."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

from mpmetrics.directory import Liveness, is_alive, is_made_for_run
from mpmetrics.pages.source import Gathered
from mpmetrics.scrape import DirectoryView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mpmetrics.directory import WorkerFile


class DirectorySource:
    """The merged view of a multiprocess directory, or its part of that of several directories."""

    in_process = False

    def __init__(
        self, path: str | os.PathLike[str], *, name: str = "", liveness: bool = False
    ) -> None:
        """Configure only; the directory *path* need not exist yet.

        The *name* stands for the directory on the page; without one, the path does. With
        *liveness*, ask the kernel at each scrape which of its processes are alive.
        """
        self.path = os.fspath(path)
        self.name = name or default_name(self.path)
        self._view = DirectoryView(self.path)
        self._state_of = make_state_of(liveness=liveness)

    def gather(self) -> Gathered:
        """Read and merge the directory. Raises `DirectoryError` when it cannot be listed."""
        collection = self._view.collect()
        processes = count_processes(collection.files, self._state_of)
        return Gathered(collection.families, collection.problems, collection, processes)

    def read_segments(self) -> Gathered:
        """Read the directory, to merge it with others. Raises `DirectoryError` as `gather`."""
        reading = self._view.read()
        processes = count_processes(reading.files, self._state_of)
        readings = [reading._replace(processes=processes)]
        return Gathered((), reading.problems, readings=readings)


def default_name(path: str) -> str:
    """Return what the directory *path* is called on a page: the path.

    A directory that was made for one run has another path each time: its name is "directory".
    """
    return "directory" if is_made_for_run(path) else path


def count_processes(
    files: Iterable[WorkerFile], state_of: Callable[[str], Liveness]
) -> Mapping[str, int]:
    """Count the processes that wrote *files*, by state; one file of each decides."""
    one_each = {file.name.id: file for file in files if not file.name.is_archive}
    return Counter(state_of(file.path).value for file in one_each.values())


def make_state_of(*, liveness: bool) -> Callable[[str], Liveness]:
    """Return a function that asks who is alive, or with *liveness* off, one that does not."""
    return is_alive if liveness else _unknown


def _unknown(_: str) -> Liveness:
    return Liveness.UNKNOWN
