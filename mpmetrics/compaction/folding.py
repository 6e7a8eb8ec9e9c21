"""Folding: the files of one kind and the archive of that kind become the next archive.

It is the merge of a scrape, over fewer files, written back as a file. What the page would leave
out, a file may not lose: files with such series are named, so that they can be left alone.
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
"""Reasons of problems that leave something out which is in no other series."""


class Folding(NamedTuple):
    """The next archive: its bytes (*data*), and what each file held when it was read.

    *digests* has an entry for every file that is in the archive, by path; *problems* is what was
    wrong with the others, and what the merging had to say.
    """

    data: bytes
    digests: Mapping[str, bytes]
    problems: Sequence[Problem]

    @property
    def losses(self) -> Sequence[Problem]:
        """The problems because of which this archive would lack something."""
        return [problem for problem in self.problems if problem.reason in _LOSSES]


class Folder:
    """Folds again and again, and remembers the keys that it has met."""

    def __init__(self) -> None:
        """Start with no memory."""
        self._reader = SegmentReader()

    def fold(self, files: Sequence[WorkerFile], keeps: Callable[[str], bool]) -> Folding:
        """Fold *files*, all of one kind; of families whose name *keeps* says no to, nothing stays.

        The order matters for the order of the entries only: an archive comes first. Raises
        `OverflowError` when all of them are too much for one file.
        """
        reader = self._reader
        reader.forget_files()
        digests: dict[str, bytes] = {}
        reading = reader.read(files, lambda file, data: _note(digests, file, data))
        segments = [Segment(each.file, each.layout.keys) for each in reading.columns]
        plan = make_plan(segments, reader.meanings, accumulate=False)
        folded = [series for series in plan.fold(reading.values) if keeps(series.family)]
        data = encode(
            (format_key(family, sample, labels, help_text), value, second)
            for family, sample, labels, help_text, value, second in folded
        )
        reader.forget_unused_keys(reading.columns)
        return Folding(data, digests, [*reading.problems, *plan.problems])


def _note(digests: dict[str, bytes], file: WorkerFile, data: memoryview) -> None:
    digests[file.path] = digest(data)


def digest(data: bytes | memoryview) -> bytes:
    """Return what tells whether a file holds the same bytes as before."""
    return hashlib.blake2b(data).digest()
