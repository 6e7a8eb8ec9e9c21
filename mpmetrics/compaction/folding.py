"""Folding: the files of one kind and the archive of that kind become the next archive.

It is the merge of a scrape, over fewer files, and its result is written as a file. A page may leave
out a series that cannot be merged; an archive may not, since the files go. `NextArchive.losses`
names the files with such series, so that the compactor can leave them alone.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics.format import encode, format_key
from mpmetrics.merging import Segment, make_plan
from mpmetrics.scrape import SegmentReader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mpmetrics.directory import WorkerFile
    from mpmetrics.errors import Problem

_LOSSES: Final = frozenset({"odd_sample", "name_clash", "type_conflict", "mode_conflict"})
"""Reasons of problems by which the merge leaves out a value that no other series has."""


class NextArchive(NamedTuple):
    """The next archive of a kind: its bytes (*data*), and what each file held when it was read.

    *digests* has a digest of every file that is in the archive, by path. *problems* are those of
    the files that could not be read, and those of the merging.
    """

    data: bytes
    digests: Mapping[str, bytes]
    problems: Sequence[Problem]

    @property
    def losses(self) -> Sequence[Problem]:
        """The problems by which this archive lacks a value."""
        return [problem for problem in self.problems if problem.reason in _LOSSES]


class ArchiveMaker:
    """A maker of archives, which remembers the keys that it has read."""

    def __init__(self) -> None:
        """Start without keys."""
        self._reader = SegmentReader()

    def make(self, files: Sequence[WorkerFile], keeps: Callable[[str], bool]) -> NextArchive:
        """Merge *files*, all of one kind; drop the families for whose name *keeps* returns False.

        The archive comes first, so that its entries stay in front. Raises `OverflowError` if the
        result is too large for one file.
        """
        reader = self._reader
        reader.forget_files()
        digests: dict[str, bytes] = {}

        def add_digest(file: WorkerFile, data: memoryview) -> None:
            digests[file.path] = digest(data)

        reading = reader.read(files, add_digest)
        segments = [Segment(each.file, each.layout.keys) for each in reading.segments]
        plan = make_plan(segments, reader.meanings, accumulate=False)
        folded = [series for series in plan.fold(reading.values) if keeps(series.family)]
        data = encode(
            (format_key(family, sample, labels, help_text), value, second)
            for family, sample, labels, help_text, value, second in folded
        )
        reader.forget_unused_keys(reading.segments)
        return NextArchive(data, digests, [*reading.problems, *plan.problems])


def digest(data: bytes | memoryview) -> bytes:
    """Return a digest of *data*, by which a change of a file is noticed."""
    return hashlib.blake2b(data).digest()
