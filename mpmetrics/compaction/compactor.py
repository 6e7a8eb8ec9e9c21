"""Compaction: the files of dead workers become one archive, each counted exactly once.

What happens, in this order, and what is true after each step:

1. The files of the dead, and the archives of their kinds, are read and merged. The new archives
   and the new MANIFEST are written under temporary names. Nobody looks at those: nothing that can
   fail for lack of room has changed anything.
2. A lease is taken on each of the files. From now on whoever opens one of them has to wait, and
   the kernel tells us. A file that was opened or has changed since it was read is left out, and
   all begins anew without it.
3. The files are renamed to names of the next generation, at which prometheus_client does not
   look. Our readers go on to count them. If somebody waits for one of them by now, all get their
   names back, and all begins anew.
4. The new MANIFEST is renamed into place. With that the archives count and the files do not.
5. The old archives are removed, the new ones get their final names, and the files are removed.

Whoever comes after a compactor that was killed sees from the names how far it came, and finishes
or undoes what it left. See `mpmetrics.directory.manifest` for what counts when.
"""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final

from mpmetrics.compaction.commit import FoldBatch, HeldFile
from mpmetrics.compaction.folding import Folder, digest
from mpmetrics.compaction.policy import DEAD_GAUGES, Fate, Policy
from mpmetrics.compaction.result import Compaction, Skipped
from mpmetrics.directory import (
    FOLDING,
    MANIFEST,
    OWN_PREFIX,
    PROBE_PREFIX,
    PROVER,
    QUARANTINED,
    FileName,
    LeaseProver,
    Liveness,
    Manifest,
    ReadBuffer,
    WorkerFile,
    find_free_name,
    has_waiting_writer,
    list_directory,
    make_compaction_lock,
    open_for_lease,
    release_lease,
    rename_if_free,
    require_directory,
    select_files,
    sync_directory,
    take_lease,
    temporary_name,
    write_new_file,
)
from mpmetrics.errors import CompactionError, DamagedError, Problem
from mpmetrics.format import HEADER_SIZE
from mpmetrics.merging import GONE, KEPT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mpmetrics.compaction.folding import Folding
    from mpmetrics.directory import Listing

_BATCH_FILES: Final = 256
_BATCH_BYTES: Final = 64 << 20
_ATTEMPTS: Final = 3


def compact(
    path: str | os.PathLike[str] | None,
    keep_dead_gauges: bool = False,  # noqa: FBT001, FBT002 - public API
    *,
    dead_gauges: Mapping[str, Fate] | None = None,
    dry_run: bool = False,
) -> Compaction:
    """Fold the files of dead workers in the directory *path* into archives.

    Gauges of mode `all` have a series for each process, and those of the dead are dropped unless
    *keep_dead_gauges*; then their files stay. *dead_gauges* says by the prefix of a family
    whether its gauges are "kept" or "gone" with their worker, on top of `DEAD_GAUGES`. With
    *dry_run* nothing is changed, and the result says what would be.

    Any number of processes may call this at once, and readers need not be told. Raises
    `DirectoryError` when there is no such directory, `CompactionError` when it cannot be
    changed; then it counts as before.
    """
    compactor = Compactor(path, keep_dead_gauges, dead_gauges=dead_gauges)
    return compactor.preview() if dry_run else compactor.compact()


class Compactor:
    """Compacts one directory again and again, and remembers the keys that it has met."""

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        keep_dead_gauges: bool = False,  # noqa: FBT001, FBT002 - as in `compact`
        *,
        dead_gauges: Mapping[str, Fate] | None = None,
        prover: LeaseProver = PROVER,
    ) -> None:
        """Configure what `compact` does. Raises `DirectoryError`."""
        self.path = require_directory(path)
        self._policy = Policy(keep_dead_gauges, {**DEAD_GAUGES, **(dead_gauges or {})})
        self._folder = Folder()
        self._prover = prover

    def compact(self) -> Compaction:
        """Fold what there is to fold, unless somebody else is at it. Raises `CompactionError`."""
        with _reported(self.path):
            lock = make_compaction_lock(self.path)
            try:
                lock.acquire(timeout=0)
            except TimeoutError:
                return Compaction(self.path, "busy")
            try:
                return _Work(self.path, self._policy, self._folder, self._prover).do()
            finally:
                lock.release()

    def preview(self) -> Compaction:
        """Say what `compact` would do now, and change nothing. Raises `CompactionError`."""
        with _reported(self.path):
            return _Work(self.path, self._policy, self._folder, self._prover).preview()


@contextmanager
def _reported(path: str) -> Iterator[None]:
    """Turn what the system says into a `CompactionError`."""
    try:
        yield
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise CompactionError(path, why) from error


class _Work:
    """One compaction, and what there is to report of it."""

    def __init__(self, path: str, policy: Policy, folder: Folder, prover: LeaseProver) -> None:
        self._path = path
        self._policy = policy
        self._folder = folder
        self._prover = prover
        self._buffer = ReadBuffer()
        self._manifest = Manifest()
        self._folded: list[str] = []
        self._dropped: list[str] = []
        self._skipped: list[Skipped] = []
        self._quarantined: list[Problem] = []
        self._problems: dict[Problem, None] = {}

    # -- the whole --------------------------------------------------------------------------

    def do(self) -> Compaction:
        """Finish what others left, then fold batch after batch."""
        listing = self._look()
        if self._prover.has_proof(self._path):
            self._recover(listing)
            listing = self._look()
        for files in _batches(self._candidates(listing)):
            self._compact(files)
        return self._report()

    def preview(self) -> Compaction:
        """Find out what `do` would do, as far as that can be seen without doing it."""
        for files in _batches(self._candidates(self._look())):
            self._note(self._prepare(files))
        return self._report()._replace(outcome="preview")

    def _look(self) -> Listing:
        """List the directory and find out what counts. Raises `CompactionError`."""
        listing = list_directory(self._path)
        selection = select_files(self._path, listing)
        if isinstance(selection.found, Problem):
            why = f"its {MANIFEST} cannot be used: {selection.found.detail}"
            raise CompactionError(self._path, why)
        self._manifest = selection.manifest
        return listing

    def _report(self) -> Compaction:
        done = self._folded or self._dropped or self._quarantined
        return Compaction(
            self._path,
            "folded" if done else "nothing",
            self._manifest.generation,
            self._folded,
            self._dropped,
            self._skipped,
            self._quarantined,
            list(self._problems),
        )

    def _note(self, batch: FoldBatch) -> None:
        """Report the files of a *batch* as done."""
        for file in batch.files:
            (self._folded if file.path in batch.digests else self._dropped).append(file.path)

    def _skip(self, file: WorkerFile, reason: str, detail: str) -> None:
        self._skipped.append(Skipped(file.path, reason, detail))

    def _in(self, name: str) -> str:
        """Return the path of *name* in the directory."""
        return os.path.join(self._path, name)

    def _place(self, name: str) -> str:
        """Return the path of the archive called *name*: a preview does not finish its renaming."""
        waiting = self._in(temporary_name(name))
        return waiting if os.path.lexists(waiting) else self._in(name)

    # -- what an earlier compactor has left ---------------------------------------------------

    def _recover(self, listing: Listing) -> None:
        """Finish what was committed, and undo what was not, of whoever was killed here."""
        wanted = {temporary_name(name): name for name in self._manifest.archives}
        for own in sorted(listing.own):
            if own in wanted:
                os.rename(self._in(own), self._in(wanted[own]))
            elif own.endswith(temporary_name("").removeprefix(OWN_PREFIX)) or self._is_old_probe(
                own
            ):
                os.unlink(self._in(own))
        for file in listing.files:
            if file.folding:
                self._recover_file(file, listing)
            elif file.name.is_archive and self._is_superseded(file):
                os.unlink(file.path)

    def _is_old_probe(self, own: str) -> bool:
        """Tell whether *own* is a scratch file that nobody uses any more."""
        return own.startswith(PROBE_PREFIX) and self._prover.examine(self._in(own)) is Liveness.DEAD

    def _is_superseded(self, archive: WorkerFile) -> bool:
        """Tell whether a newer archive has the values of this one."""
        named = os.path.basename(archive.path) in self._manifest.archives
        return not named and archive.name.generation <= self._manifest.generation

    def _recover_file(self, file: WorkerFile, listing: Listing) -> None:
        """Deal with a file that somebody began to fold."""
        if file.folding > self._manifest.generation:
            if any(other.inode == file.inode and not other.folding for other in listing.files):
                os.unlink(file.path)  # it has its old name, too
            else:
                # Whatever becomes of it: the next commit, which may be one without it, is of
                # the generation in its name, and would take it for done.
                self._give_back(file.path, file.name)
        elif self._prover.examine(file.path) is Liveness.DEAD:
            os.unlink(file.path)  # its values are in an archive
        else:
            self._skip(file, "stranded", "its values are in an archive, but it is open again")

    def _give_back(self, aside: str, name: FileName) -> None:
        """Give a file its worker's name back, or one like it if another worker has that now."""
        number = 0
        free = name
        while not rename_if_free(aside, self._in(free.format())):
            number += 1
            free = name._replace(id=f"{name.id}.{number}")

    # -- what there is to fold ------------------------------------------------------------------

    def _candidates(self, listing: Listing) -> Iterator[WorkerFile]:
        """Yield the files of the dead; note why the others stay."""
        for file in listing.files:
            is_done = file.folding and file.folding <= self._manifest.generation
            if file.name.is_archive or is_done:
                continue
            liveness = self._prover.examine(file.path)
            if liveness is not Liveness.DEAD:
                self._skip(file, liveness.value, _WHY[liveness])
            elif self._policy.fate(file.name) == KEPT:
                self._skip(file, "kept", "gauges of the dead are kept on demand")
            else:
                yield file

    def _prepare(self, files: Sequence[WorkerFile]) -> FoldBatch:
        """Merge *files* and their archives, in memory; note those that have to stay."""
        by_kind: dict[FileName, list[WorkerFile]] = defaultdict(list)
        for file in files:
            by_kind[file.name._replace(id="")].append(file)
        batch: list[WorkerFile] = []
        archives: dict[str, bytes] = {}
        replaced: set[str] = set()
        digests: dict[str, bytes] = {}
        for kind, group in by_kind.items():
            if self._policy.fate(kind) == GONE:
                batch += group
                continue
            old = [
                name
                for name in self._manifest.archives
                if (parsed := FileName.parse(name)) and parsed._replace(id="") == kind
            ]
            folding = self._fold(kind, group, old)
            if folding is not None:
                batch += [file for file in group if file.path in folding.digests]
                digests.update(folding.digests)
                replaced.update(old)
                if len(folding.data) > HEADER_SIZE:
                    name = kind.archive(self._manifest.generation + 1).format()
                    archives[name] = folding.data
        return FoldBatch(batch, archives, frozenset(replaced), digests)

    def _fold(
        self, kind: FileName, group: Sequence[WorkerFile], old: Sequence[str]
    ) -> Folding | None:
        """Fold the files of a *group* into the *old* archive; None when nothing can be folded."""
        archives = [WorkerFile(self._place(name), FileName.parse(name) or kind) for name in old]
        keeps = self._policy.keeps if kind.type == "gauge" else _always
        while group:
            folding = self._folder.fold([*archives, *group], keeps)
            if any(archive.path not in folding.digests for archive in archives):
                self._refuse(group, "archive", "the archive of its kind cannot be read")
                return None
            losses = {problem.path: problem for problem in folding.losses}
            rest = [file for file in group if file.path not in losses]
            if not losses:
                self._note_problems(folding, group)
                return folding
            if len(rest) == len(group):
                problem = next(iter(losses.values()))
                self._refuse(group, problem.reason, problem.detail)
                return None
            for problem in losses.values():
                self._skipped.append(Skipped(*problem))
            group = rest
        return None

    def _refuse(self, group: Iterable[WorkerFile], reason: str, detail: str) -> None:
        """Leave all files of a *group* as they are."""
        for file in group:
            self._skip(file, reason, detail)

    def _note_problems(self, folding: Folding, group: Sequence[WorkerFile]) -> None:
        """Sort out what was wrong with files that could not be read, and what with the rest."""
        unread = {file.path for file in group if file.path not in folding.digests}
        for problem in folding.problems:
            if problem.path not in unread:
                self._problems[problem] = None
            elif problem.reason == "damaged":
                self._quarantined.append(problem)
            else:
                self._skipped.append(Skipped(*problem))

    # -- doing it -------------------------------------------------------------------------------

    def _compact(self, files: Sequence[WorkerFile]) -> None:
        """Fold *files*, without those that turn out to be alive after all."""
        for _ in range(_ATTEMPTS):
            known = len(self._quarantined)
            batch = self._prepare(files)
            self._quarantined[known:] = filter(self._set_aside, self._quarantined[known:])
            if not batch.files:
                return
            lost = self._commit(batch)
            if not lost:
                self._note(batch)
                return
            files = [file for file in batch.files if file.path not in lost]
            self._skipped += [Skipped(path, "changed", why) for path, why in lost.items()]
        self._refuse(files, "changed", f"files next to it were opened, {_ATTEMPTS} times")

    def _set_aside(self, problem: Problem) -> bool:
        """Rename the damaged file that is the *problem*, unless somebody has it open now."""
        with ExitStack() as leases:
            try:
                aside = find_free_name(f"{problem.path}{QUARANTINED}")
                descriptor = open_for_lease(problem.path)
                leases.callback(release_lease, descriptor)
                take_lease(descriptor)
            except OSError as error:
                why = error.strerror or str(error)
                self._skipped.append(Skipped(problem.path, "changed", why))
                return False
            os.rename(problem.path, aside)
            return True

    def _commit(self, batch: FoldBatch) -> Mapping[str, str]:
        """Have the archives of *batch* count instead of its files.

        Returns why files were lost on the way, by path; then nothing has changed.
        """
        generation = self._manifest.generation + 1
        names = {*self._manifest.archives} - batch.replaced | batch.archives.keys()
        manifest = Manifest(generation, tuple(sorted(names)))
        contents = {**batch.archives, MANIFEST: manifest.format()}
        with ExitStack() as temporaries:
            for name, data in contents.items():
                write_new_file(self._in(temporary_name(name)), data)
                temporaries.callback(_remove, self._in(temporary_name(name)))
            with ExitStack() as leases:
                held, lost = self._hold(batch, generation, leases)
                lost = lost or self._swap(held)
                if not lost:
                    temporaries.pop_all()
                    self._manifest = manifest
                    self._finish(batch, held)
        return lost

    def _hold(
        self, batch: FoldBatch, generation: int, leases: ExitStack
    ) -> tuple[list[HeldFile], dict[str, str]]:
        """Take the leases on all files of *batch* and see that they are what was merged."""
        held: list[HeldFile] = []
        lost: dict[str, str] = {}
        for file in batch.files:
            try:
                aside = find_free_name(f"{self._in(file.name.format())}{FOLDING}{generation}")
                descriptor = open_for_lease(file.path)
                leases.callback(release_lease, descriptor)
                take_lease(descriptor)
                if file.path in batch.digests:
                    used, _ = self._buffer.load_open(descriptor, file.path)
                    if digest(self._buffer.used_bytes(used)) != batch.digests[file.path]:
                        lost[file.path] = "somebody wrote to it after it was read"
            except (OSError, DamagedError) as error:
                lost[file.path] = getattr(error, "strerror", None) or str(error)
            else:
                held.append(HeldFile(file, descriptor, aside))
        return held, lost

    def _swap(self, held: Sequence[HeldFile]) -> dict[str, str]:
        """Put the files aside and commit; or give all of them back, and say which are wanted."""
        with ExitStack() as undo:
            for each in held:
                os.rename(each.file.path, each.aside)
                undo.callback(self._give_back, each.aside, each.file.name)
            wanted = [each.file.path for each in held if not each.is_ours]
            if not wanted:
                os.rename(self._in(temporary_name(MANIFEST)), self._in(MANIFEST))
                undo.pop_all()
        return dict.fromkeys(wanted, "somebody opened it while it was being folded")

    def _finish(self, batch: FoldBatch, held: Sequence[HeldFile]) -> None:
        """Tidy up after the commit; who finds this half done can do the rest."""
        for name in batch.replaced:
            _remove(self._in(name))
        for name in batch.archives:
            os.rename(self._in(temporary_name(name)), self._in(name))
        sync_directory(self._path)
        for each in held:
            if has_waiting_writer(each.descriptor):
                # Its values count already; who waits for it shall start from nothing.
                os.ftruncate(each.descriptor, 0)
                self._give_back(each.aside, each.file.name)
            else:
                os.unlink(each.aside)


_WHY: Final = {
    Liveness.ALIVE: "its worker has it open",
    Liveness.UNKNOWN: "whether its worker is alive cannot be known here",
}


def _always(_: str) -> bool:
    """Keep every family: only gauges can lose their meaning."""
    return True


def _remove(path: str) -> None:
    """Remove the file *path*, if it is there."""
    with suppress(FileNotFoundError):
        os.unlink(path)


def _batches(files: Iterable[WorkerFile]) -> Iterator[list[WorkerFile]]:
    """Divide *files* so that each part needs few descriptors and little memory."""
    batch: list[WorkerFile] = []
    size = 0
    for file in files:
        batch.append(file)
        with suppress(OSError):
            size += os.stat(file.path).st_size
        if len(batch) >= _BATCH_FILES or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
