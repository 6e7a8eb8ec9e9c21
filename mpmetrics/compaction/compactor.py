"""Compaction: the files of dead workers become one archive, and each is counted exactly once.

A compaction takes these steps, in this order:

1. Read and merge the files of dead workers and the archives of their kinds. Write the new archives
   and the new MANIFEST under temporary names, which no reader looks at. What can fail for lack of
   room fails here, where nothing has changed yet.
2. Give each of the files a second name, of the next generation. prometheus_client does not look at
   such names; readers of this project count a file with both names once.
3. Take the first names away, and prove that no process has one of the files open or is about to
   open it (`mpmetrics.compaction.openings`). From now on the files are out of reach: a worker that
   looks for one makes a new file. If there is no proof, give all files their names back, and start
   from scratch without those that may be in use.
4. Compare what the files hold with what was merged. If one has changed, do the same.
5. Rename the new MANIFEST into place. From this moment on the archives count and the files do not.
6. Remove the old archives, give the new ones their final names, and remove the files.

No lease is held in any of these steps, so that no process ever waits for a compactor, even if that
is stopped. If a compactor is killed, the names of the files show how far it came, and the next
compactor finishes or undoes what it left. See `mpmetrics.directory.manifest` for what counts when.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from mpmetrics.compaction.batch import DEFAULT_LIMITS, BatchBuilder
from mpmetrics.compaction.commit import Commit
from mpmetrics.compaction.folding import ArchiveMaker
from mpmetrics.compaction.openings import Openings
from mpmetrics.compaction.policy import DEAD_GAUGES, Fate, Policy
from mpmetrics.compaction.quarantine import quarantine_file
from mpmetrics.compaction.recovery import Recovery
from mpmetrics.compaction.result import Compaction, CompactionReport
from mpmetrics.directory import (
    MANIFEST,
    PROVER,
    LeaseProver,
    Liveness,
    Manifest,
    ReadBuffer,
    has_reserve,
    list_directory,
    make_compaction_lock,
    release_reserve,
    require_directory,
    select_files,
    try_lock,
)
from mpmetrics.errors import CompactionError, Problem

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from mpmetrics.compaction.batch import BatchLimits
    from mpmetrics.directory import Listing, WorkerFile

_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

_STARTS: Final = 64
"""How often one compaction is started where there is little space; the next one goes on."""

_BATCH_ATTEMPTS: Final = 3
"""How often a batch is started from scratch because files of it were opened."""

_NOT_DEAD: Final[Mapping[Liveness, str]] = {
    Liveness.ALIVE: "its worker has it open",
    Liveness.UNKNOWN: "whether its worker is alive cannot be known here",
}


def compact(
    path: str | os.PathLike[str] | None,
    keep_dead_gauges: bool = False,  # noqa: FBT001, FBT002 - public API
    *,
    dead_gauges: Mapping[str, Fate] | None = None,
    dry_run: bool = False,
) -> Compaction:
    """Fold the files of dead workers in the directory *path* into archives.

    Gauges of mode `all` have a series for each process. Those of dead workers are dropped; with
    *keep_dead_gauges* their files stay instead. *dead_gauges* decides by the prefix of a family's
    name whether its gauges are "kept" or "gone" when their worker is dead, and adds to
    `DEAD_GAUGES`. With *dry_run* nothing is changed, and the result is what would be done.

    Any number of processes may call this at once; readers need not know of it. Raises
    `DirectoryError` if there is no such directory, and `CompactionError` if it cannot be changed;
    then everything counts as before.
    """
    compactor = Compactor(path, keep_dead_gauges, dead_gauges=dead_gauges)
    return compactor.preview() if dry_run else compactor.compact()


class Compactor:
    """A compactor of one directory, which remembers the keys that it has read."""

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        keep_dead_gauges: bool = False,  # noqa: FBT001, FBT002 - as in `compact`
        *,
        dead_gauges: Mapping[str, Fate] | None = None,
        limits: BatchLimits = DEFAULT_LIMITS,
        prover: LeaseProver = PROVER,
    ) -> None:
        """Configure the compactor as `compact` does.

        *limits* are those of one commit; *prover* finds out which files are those of dead workers.
        Raises `DirectoryError`.
        """
        self.path = require_directory(path)
        self._policy = Policy(keep_dead_gauges, {**DEAD_GAUGES, **(dead_gauges or {})})
        self._limits = limits
        self._prover = prover
        self._maker = ArchiveMaker()
        self._proven: set[int] = set()

    def compact(self) -> Compaction:
        """Fold the files of the dead, unless another process is at it. Raises `CompactionError`."""
        with _compaction_errors(self.path):
            lock = make_compaction_lock(self.path)
            try:
                is_locked = try_lock(lock)
            except PermissionError as error:
                raise CompactionError(self.path, _describe_refusal(lock.lock_file)) from error
            if not is_locked:
                return Compaction(self.path, "busy")
            try:
                return self._compact_within_room()
            finally:
                lock.release()

    def preview(self) -> Compaction:
        """Return what `compact` would do now; change nothing. Raises `CompactionError`."""
        with _compaction_errors(self.path):
            return self._start(self.openings(), CompactionReport()).preview()

    def openings(self) -> Openings:
        """Return what finds out which files of the directory may be about to be opened."""
        return Openings(self.path, self._proven)

    def _compact_within_room(self) -> Compaction:
        """Compact; without space for it, release the reserve and start again with one file.

        Each start is a whole compaction: it recovers from what the last one left, as from one that
        was killed, and never goes on with it. It has the space of the files that were folded before
        it, so there is another start as long as that helps. Raises `OSError`.
        """
        is_kept = has_reserve(self.path)
        report = CompactionReport()
        for start in range(1, _STARTS + 1):
            with self.openings() as openings:
                run = self._start(openings, report)
                try:
                    return run.compact(first=self._limits.files if start == 1 else 1)
                except OSError as error:
                    may_help = is_kept if start == 1 else run.has_folded
                    if error.errno not in _NO_SPACE or not may_help or start == _STARTS:
                        raise
                    if run.is_committed():
                        raise  # the next compaction finishes it
            release_reserve(self.path)
            report.forget_skipped()
        raise CompactionError(self.path, os.strerror(errno.ENOSPC))

    def _start(self, openings: Openings, report: CompactionReport) -> _Run:
        builder = BatchBuilder(self.path, self._policy, self._maker, report)
        return _Run(self.path, self._limits, self._prover, openings, builder)


@contextmanager
def _compaction_errors(path: str) -> Iterator[None]:
    """Turn errors of the system into `CompactionError`."""
    try:
        yield
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise CompactionError(path, why) from error


def _describe_refusal(lock: str) -> str:
    """Return why this user cannot take the lock file *lock*, and what helps."""
    try:
        status = os.stat(lock)
    except OSError as error:
        return f"this user may not make {os.path.basename(lock)} there ({error.strerror})"
    return (
        f"{os.path.basename(lock)} belongs to user {status.st_uid} with mode "
        f"{status.st_mode & 0o777:04o}: compact once as that user or as root, or remove the file "
        "while no compaction runs"
    )


class _Run:
    """One compaction of the directory *path*, or one preview."""

    def __init__(
        self,
        path: str,
        limits: BatchLimits,
        prover: LeaseProver,
        openings: Openings,
        builder: BatchBuilder,
    ) -> None:
        self._path = path
        self._limits = limits
        self._prover = prover
        self._openings = openings
        self._builder = builder
        self._policy = builder.policy
        self._report = builder.report
        self._buffer = ReadBuffer()
        self._manifest = Manifest()
        self.has_folded = False

    def compact(self, first: int) -> Compaction:
        """Recover from compactors that were killed, then fold one batch after the other.

        The *first* batch has so many files at most. Raises `OSError`; then only another compaction
        may go on.
        """
        listing = self._select_files()
        if self._prover.prove(self._path):
            recovery = Recovery(self._path, listing, self._manifest, self._prover, self._openings)
            recovery.run(self._report)
            listing = self._select_files()
        candidates = self._candidates(listing, self._openings.examine())
        for files in self._limits.split(candidates, first):
            if self._openings.prove():
                self._compact_batch(files)
            else:
                self._report.skip_all(files, Liveness.UNKNOWN.value, _NOT_DEAD[Liveness.UNKNOWN])
        return self._report.finish(self._path, self._manifest.generation)

    def is_committed(self) -> bool:
        """Return whether the batch that has failed counts as folded. Raises `OSError`."""
        found = select_files(self._path, list_directory(self._path)).manifest
        return found.generation != self._manifest.generation

    def preview(self) -> Compaction:
        """Find out what `compact` would do, as far as that can be seen without doing it."""
        candidates = self._candidates(self._select_files(), self._openings.list_doubtful())
        for files in self._limits.split(candidates):
            batch = self._builder.build(files, self._manifest)
            for problem in batch.damaged:
                self._report.add_quarantined(problem)
            self._report.add_batch(batch)
        result = self._report.finish(self._path, self._manifest.generation)
        return result._replace(outcome="preview")

    def _select_files(self) -> Listing:
        """List the directory and find out what counts. Raises `CompactionError`."""
        listing = list_directory(self._path)
        selection = select_files(self._path, listing)
        if isinstance(selection.found, Problem):
            why = f"its {MANIFEST} cannot be used: {selection.found.detail}"
            raise CompactionError(self._path, why)
        self._manifest = selection.manifest
        return listing

    def _candidates(self, listing: Listing, doubtful: Collection[int]) -> Iterator[WorkerFile]:
        """Yield the files of dead workers; report why the others stay.

        *doubtful* are the inodes of files that a process may be in the middle of opening.
        """
        for file in listing.files:
            is_folded = file.folding_into and file.folding_into <= self._manifest.generation
            if file.name.is_archive or is_folded:
                continue
            liveness = self._prover.examine(file.path)
            if liveness is not Liveness.DEAD:
                self._report.skip(file.path, liveness.value, _NOT_DEAD[liveness])
            elif file.inode in listing.shared:
                detail = "it has another name here, under which its values would count again"
                self._report.skip(file.path, "linked", detail)
            elif file.inode in doubtful:
                detail = "a process may be in the middle of opening it"
                self._report.skip(file.path, "opening", detail)
            elif self._policy.treatment(file.name) == "left":
                self._report.skip(file.path, "kept", "gauges of the dead are kept on demand")
            else:
                yield file

    def _compact_batch(self, files: Sequence[WorkerFile]) -> None:
        """Fold *files*, but those that turn out to be in use."""
        for _ in range(_BATCH_ATTEMPTS):
            batch = self._builder.build(files, self._manifest)
            for problem in batch.damaged:
                self._quarantine(problem)
            if not batch.files:
                return
            commit = Commit(self._path, self._manifest, batch, self._buffer, self._openings)
            lost = commit.execute()
            if not lost:
                self._manifest = commit.manifest
                self.has_folded = True
                self._report.add_batch(batch)
                return
            files = [file for file in batch.files if file.path not in lost]
            for path, why in lost.items():
                self._report.skip(path, "changed", why)
        detail = f"files next to it were opened, {_BATCH_ATTEMPTS} times"
        self._report.skip_all(files, "changed", detail)

    def _quarantine(self, problem: Problem) -> None:
        """Rename the damaged file that is the *problem*, unless a process has it open now."""
        try:
            quarantine_file(problem.path)
        except OSError as error:
            self._report.skip(problem.path, "changed", error.strerror or str(error))
        else:
            self._report.add_quarantined(problem)
