"""A part of what is merged: what some files held at one moment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from mpmetrics.directory import FileName

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mpmetrics.directory import WorkerFile
    from mpmetrics.errors import Problem
    from mpmetrics.format import Key, Labels
    from mpmetrics.scrape.reader import Reading


class Part(NamedTuple):
    """A part of what is merged: a *reading*, and what its raw keys mean (*meanings*).

    In the result, series of single processes have these *labels* beside that of their process.
    """

    reading: Reading
    meanings: Mapping[bytes, Key]
    labels: Labels = ()

    @property
    def files(self) -> list[WorkerFile]:
        """The files that could be read."""
        return list(dict.fromkeys(segment.file for segment in self.reading.segments))

    @property
    def has_leased_files(self) -> bool:
        """Whether a file could not be read because another process has a lease on it."""
        return any(problem.reason == "leased" for problem in self.reading.problems)

    @property
    def vanished(self) -> frozenset[str]:
        """The paths of files that could not be opened because they were no longer there."""
        problems = self.reading.problems
        return frozenset(problem.path for problem in problems if problem.reason == "vanished")

    @property
    def problems(self) -> list[Problem]:
        """What was wrong with the files, without what is part of normal work."""
        return [problem for problem in self.reading.problems if not _is_expected(problem)]


def _is_expected(problem: Problem) -> bool:
    """Return whether *problem* is part of normal work: a live gauge may go at any moment."""
    name = FileName.parse(os.path.basename(problem.path))
    return problem.reason == "vanished" and name is not None and name.is_live
