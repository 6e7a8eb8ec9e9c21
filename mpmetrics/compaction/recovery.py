"""Recovery from a compactor that was killed: what it committed is finished, the rest is undone.

It runs while the compaction lock is held: no other compactor is at work.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from mpmetrics.compaction.names import restore_name
from mpmetrics.directory import OWN_PREFIX, PROBE_PREFIX, Liveness, temporary_name

if TYPE_CHECKING:
    from mpmetrics.compaction.openings import Openings
    from mpmetrics.compaction.result import CompactionReport
    from mpmetrics.directory import LeaseProver, Listing, Manifest, WorkerFile

_TEMPORARY_SUFFIX: Final = temporary_name("").removeprefix(OWN_PREFIX)


class Recovery:
    """The recovery of a *directory*, given its *listing* and the *manifest* that counts.

    *prover* finds out which files no process has open, *openings* has the names that were moved.
    """

    def __init__(
        self,
        directory: str,
        listing: Listing,
        manifest: Manifest,
        prover: LeaseProver,
        openings: Openings,
    ) -> None:
        """Plan the recovery; nothing is changed before `run`."""
        self._directory = directory
        self._listing = listing
        self._manifest = manifest
        self._prover = prover
        self._openings = openings

    def run(self, report: CompactionReport) -> None:
        """Finish what was committed and undo what was not; *report* files that have to stay.

        Raises `OSError`.
        """
        self._finish_archives()
        self._openings.settle(self._listing)
        for file in self._listing.files:
            if file.folding_into > self._manifest.generation:
                self._undo_folding(file)
            elif file.folding_into:
                self._finish_folding(file, report)
            elif file.name.is_archive and self._is_superseded(file):
                os.unlink(file.path)

    def _finish_archives(self) -> None:
        """Give committed archives their final names; remove all other temporary files."""
        final_names = {temporary_name(name): name for name in self._manifest.archives}
        for own in sorted(self._listing.own):
            if own in final_names:
                os.rename(self._path(own), self._path(final_names[own]))
            elif own.endswith(_TEMPORARY_SUFFIX) or self._is_old_probe(own):
                os.unlink(self._path(own))

    def _is_old_probe(self, own: str) -> bool:
        """Return whether *own* is a scratch file that no process has open any more."""
        return (
            own.startswith(PROBE_PREFIX) and self._prover.examine(self._path(own)) is Liveness.DEAD
        )

    def _is_superseded(self, archive: WorkerFile) -> bool:
        """Return whether a newer archive has the values of this *archive*."""
        is_named = os.path.basename(archive.path) in self._manifest.archives
        return not is_named and archive.name.generation <= self._manifest.generation

    def _undo_folding(self, file: WorkerFile) -> None:
        """Give a *file* its name back that was put aside for a commit that did not happen.

        It cannot stay aside, even if it is to be folded next: the next commit is of the generation
        in its name, and if it is one without this file, it would make the file pass for folded.
        """
        files = self._listing.files
        if any(other.inode == file.inode and not other.folding_into for other in files):
            os.unlink(file.path)  # it has its old name, too
        else:
            restore_name(self._directory, file.path, file.name)

    def _finish_folding(self, file: WorkerFile, report: CompactionReport) -> None:
        """Remove a *file* whose values are in an archive.

        Before the commit it was proven that no process has it open. Older releases had no such
        proof, so a file that a process has open now stays.
        """
        if self._prover.examine(file.path) is Liveness.DEAD:
            os.unlink(file.path)
        else:
            detail = "its values are in an archive, but it is open again"
            report.skip(file.path, "stranded", detail)

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)
