"""A batch: the files that one commit folds, merged in memory."""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics.directory import FileName, WorkerFile, temporary_name
from mpmetrics.format import HEADER_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mpmetrics.compaction.folding import ArchiveMaker, NextArchive
    from mpmetrics.compaction.policy import Policy
    from mpmetrics.compaction.result import CompactionReport
    from mpmetrics.directory import Manifest
    from mpmetrics.errors import Problem


class BatchLimits(NamedTuple):
    """The largest batch: its number of *files*, and their *size* in bytes.

    Each file of a batch costs a descriptor while it is committed, and its values are in memory.
    """

    files: int = 256
    size: int = 64 << 20

    def split(
        self, files: Iterable[WorkerFile], first: int | None = None
    ) -> Iterator[list[WorkerFile]]:
        """Divide *files* into batches; the last file of a batch may exceed the size.

        If the *first* is to have fewer files, each of the next has at most twice as many.
        """
        most = min(first or self.files, self.files)
        batch: list[WorkerFile] = []
        size = 0
        for file in files:
            batch.append(file)
            with suppress(OSError):
                size += os.stat(file.path).st_size
            if len(batch) >= most or size >= self.size:
                yield batch
                batch, size = [], 0
                most = min(2 * most, self.files)
        if batch:
            yield batch


DEFAULT_LIMITS: Final = BatchLimits()


class FoldBatch(NamedTuple):
    """What one commit does: it removes *files* and adds *archives*.

    *archives* has the bytes of each new archive by its name, *replaced* the names of the archives
    that they replace. *digests* has, by path, a digest of what each file held that is in a new
    archive. *damaged* has the files that could not be read; those are not among the *files*.
    """

    files: Sequence[WorkerFile]
    archives: Mapping[str, bytes]
    replaced: frozenset[str]
    digests: Mapping[str, bytes]
    damaged: Sequence[Problem]


class BatchBuilder:
    """A builder of batches: it merges files of dead workers in memory, kind by kind.

    It reports the files that have to stay.
    """

    def __init__(
        self, directory: str, policy: Policy, maker: ArchiveMaker, report: CompactionReport
    ) -> None:
        """Build batches of files in *directory* by *policy*; *report* the files that stay."""
        self._directory = directory
        self.policy = policy
        self._maker = maker
        self.report = report

    def build(self, files: Sequence[WorkerFile], manifest: Manifest) -> FoldBatch:
        """Merge *files* with the archives of their kinds that *manifest* names."""
        by_kind: dict[FileName, list[WorkerFile]] = defaultdict(list)
        for file in files:
            by_kind[file.name._replace(id="")].append(file)
        batch: list[WorkerFile] = []
        archives: dict[str, bytes] = {}
        replaced: set[str] = set()
        digests: dict[str, bytes] = {}
        damaged: list[Problem] = []
        for kind, group in by_kind.items():
            if self.policy.treatment(kind) == "dropped":
                batch += group
                continue
            old = list(_archives_of_kind(manifest, kind))
            archive = self._make_archive(kind, group, old)
            if archive is not None:
                damaged += self._report_problems(archive, group)
                batch += [file for file in group if file.path in archive.digests]
                digests.update(archive.digests)
                replaced.update(old)
                if len(archive.data) > HEADER_SIZE:
                    name = kind.archive(manifest.generation + 1).format()
                    archives[name] = archive.data
        return FoldBatch(batch, archives, frozenset(replaced), digests, damaged)

    def _make_archive(
        self, kind: FileName, group: Sequence[WorkerFile], old: Sequence[str]
    ) -> NextArchive | None:
        """Fold a *group* of files into the *old* archive; return None if no file can be folded.

        Files with series that the archive would lack are left out.
        """
        previous = [WorkerFile(self._path_of(name), FileName.parse(name) or kind) for name in old]
        keeps = self.policy.keeps if kind.type == "gauge" else _keeps_all
        while group:
            archive = self._maker.make([*previous, *group], keeps)
            if any(file.path not in archive.digests for file in previous):
                detail = "the archive of its kind cannot be read"
                self.report.skip_all(group, "archive", detail)
                return None
            losses = {problem.path: problem for problem in archive.losses}
            if not losses:
                return archive
            rest = [file for file in group if file.path not in losses]
            if len(rest) == len(group):
                problem = next(iter(losses.values()))
                self.report.skip_all(group, problem.reason, problem.detail)
                return None
            for problem in losses.values():
                self.report.skip(*problem)
            group = rest
        return None

    def _path_of(self, archive: str) -> str:
        """Return the path of an *archive*; it has its temporary name if a commit was not finished.

        A preview does not finish it.
        """
        unfinished = os.path.join(self._directory, temporary_name(archive))
        return unfinished if os.path.lexists(unfinished) else os.path.join(self._directory, archive)

    def _report_problems(
        self, archive: NextArchive, group: Sequence[WorkerFile]
    ) -> Iterator[Problem]:
        """Report all problems of an *archive* but those of damaged files, which are yielded."""
        unread = {file.path for file in group if file.path not in archive.digests}
        for problem in archive.problems:
            if problem.path not in unread:
                self.report.add_problem(problem)
            elif problem.reason == "damaged":
                yield problem
            else:
                self.report.skip(*problem)


def _archives_of_kind(manifest: Manifest, kind: FileName) -> Iterator[str]:
    """Yield the names of the archives of one *kind* (type and mode) that *manifest* names."""
    for name in manifest.archives:
        parsed = FileName.parse(name)
        if parsed is not None and parsed._replace(id="") == kind:
            yield name


def _keeps_all(_: str) -> bool:
    """Keep every family: only gauges can lose their meaning with their worker."""
    return True
