"""The source that is a directory with a sub-directory for each container."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from mpmetrics.directory import unusable_reason
from mpmetrics.pages.directory_source import count_processes, make_state_of
from mpmetrics.pages.source import Gathered
from mpmetrics.scrape import DIRECTORY_LABEL, Merger, NamedReading, SubdirectoriesView, join_names

if TYPE_CHECKING:
    from collections.abc import Sequence


class SubdirectoriesSource:
    """The merged view of all sub-directories of a directory, which are listed at each scrape.

    Totals of a sub-directory that vanishes stay for as long as the page does; its live gauges go.
    Names that begin with a dot, and `lost+found`, are left out. Workers' files in the directory
    itself count, too.
    """

    in_process = False
    has_many: Final = True

    def __init__(
        self, path: str | os.PathLike[str], *, name: str = "", liveness: bool = False
    ) -> None:
        """Configure only; the directory *path* need not exist yet.

        Sub-directories have their own names on the page; with a *name*, that and a slash stand
        before them. With *liveness*, ask the kernel at each scrape which processes are alive.
        """
        self.path = os.fspath(path)
        self.name = name or self.path
        self._prefix = name
        self._view = SubdirectoriesView(self.path)
        self._state_of = make_state_of(liveness=liveness)
        self._merger = Merger()

    def paths(self) -> Sequence[str]:
        """Return the paths of the sub-directories now. Raises `DirectoryError`."""
        return self._view.paths()

    def readiness_errors(self) -> Sequence[str]:
        """Return a line if the directory cannot be listed now."""
        why = unusable_reason(self.path)
        return [f"{self.path}: {why}"] if why else []

    def gather(self) -> Gathered:
        """Read and merge what is there now. Raises `DirectoryError` if *path* cannot be listed."""
        gathered = self.read_segments()
        named = [NamedReading(each.name or self.name, each) for each in gathered.readings]
        merged = self._merger.merge([each.part(DIRECTORY_LABEL) for each in named])
        problems = [*gathered.problems, *merged.problems]
        return gathered._replace(families=merged.families, problems=problems)

    def read_segments(self) -> Gathered:
        """Read what is there now, to merge it with others. Raises `DirectoryError` as `gather`."""
        found = self._view.read()
        readings = [
            each._replace(
                name=join_names(self._prefix, each.name),
                processes=count_processes(each.files, self._state_of),
            )
            for each in found.readings
        ]
        problems = [problem for each in readings for problem in each.problems]
        is_up = {each.name or self.name: True for each in readings}
        is_up |= {join_names(self._prefix, name) or self.name: False for name in found.failed}
        return Gathered((), [*found.problems, *problems], readings=readings, is_up=is_up)
