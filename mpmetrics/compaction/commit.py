"""The commit of one batch: from one moment on, its archives count instead of its files.

`mpmetrics.compaction.compactor` lists the steps of a compaction. This module writes the temporary
files, which ends step 1, and takes steps 2 to 5.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, NamedTuple

from mpmetrics.compaction.folding import digest
from mpmetrics.directory import (
    FOLDING,
    MANIFEST,
    Manifest,
    find_free_name,
    has_waiting_writer,
    open_for_lease,
    release_lease,
    rename_if_free,
    sync_directory,
    take_lease,
    temporary_name,
    write_new_file,
)
from mpmetrics.errors import DamagedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mpmetrics.compaction.batch import FoldBatch
    from mpmetrics.directory import FileName, ReadBuffer, WorkerFile


class HeldFile(NamedTuple):
    """A *file* on which we hold the lease, through *descriptor*, and its name *aside* to come."""

    file: WorkerFile
    descriptor: int
    aside: str

    @property
    def is_undisturbed(self) -> bool:
        """Whether no process waits to write to it, and it is the file that was put aside."""
        return not has_waiting_writer(self.descriptor) and os.path.samestat(
            os.stat(self.aside), os.fstat(self.descriptor)
        )


class Commit:
    """The commit of a *batch* in a *directory* where *previous* is the MANIFEST.

    *manifest* is the MANIFEST after it.
    """

    def __init__(
        self, directory: str, previous: Manifest, batch: FoldBatch, buffer: ReadBuffer
    ) -> None:
        """Plan the commit; *buffer* is what files are read into."""
        names = {*previous.archives} - batch.replaced | batch.archives.keys()
        self.manifest = Manifest(previous.generation + 1, tuple(sorted(names)))
        self._directory = directory
        self._batch = batch
        self._buffer = buffer

    def execute(self) -> Mapping[str, str]:
        """Commit the batch, unless a file of it turns out to be in use.

        Returns those files by path, and why each cannot be folded; then nothing has changed.
        Raises `OSError`.
        """
        contents = {**self._batch.archives, MANIFEST: self.manifest.format()}
        with ExitStack() as temporaries:
            for name, data in contents.items():
                write_new_file(self._temporary(name), data)
                temporaries.callback(_remove, self._temporary(name))
            with ExitStack() as leases:
                held, lost = self._hold_files(leases)
                lost = lost or self._swap(held)
                if not lost:
                    temporaries.pop_all()
                    self._finish(held)
        return lost

    def _hold_files(self, leases: ExitStack) -> tuple[list[HeldFile], dict[str, str]]:
        """Take the leases on all files, and compare what each holds with what was merged."""
        held: list[HeldFile] = []
        lost: dict[str, str] = {}
        for file in self._batch.files:
            try:
                aside = find_free_name(
                    f"{self._path(file.name.format())}{FOLDING}{self.manifest.generation}"
                )
                descriptor = open_for_lease(file.path)
                leases.callback(release_lease, descriptor)
                take_lease(descriptor)
                if self._has_changed(file, descriptor):
                    lost[file.path] = "its worker wrote to it after it was read"
            except (OSError, DamagedError) as error:
                lost[file.path] = getattr(error, "strerror", None) or str(error)
            else:
                held.append(HeldFile(file, descriptor, aside))
        return held, lost

    def _has_changed(self, file: WorkerFile, descriptor: int) -> bool:
        """Return whether *file* holds something else than was merged. Raises `DamagedError`."""
        if file.path not in self._batch.digests:
            return False  # its values end with their worker, whatever they are
        used, _ = self._buffer.load_open(descriptor, file.path)
        return digest(self._buffer.used_bytes(used)) != self._batch.digests[file.path]

    def _swap(self, held: Sequence[HeldFile]) -> dict[str, str]:
        """Put the files aside and rename MANIFEST into place: this is the commit.

        If a process waits for one of the files, all of them get their names back instead; returns
        the files that are waited for.
        """
        with ExitStack() as undo:
            for each in held:
                os.rename(each.file.path, each.aside)
                undo.callback(restore_name, self._directory, each.aside, each.file.name)
            lost = [each.file.path for each in held if not each.is_undisturbed]
            if not lost:
                os.rename(self._temporary(MANIFEST), self._path(MANIFEST))
                undo.pop_all()
        return dict.fromkeys(lost, "a process opened it while it was being folded")

    def _finish(self, held: Sequence[HeldFile]) -> None:
        """Tidy up after the commit; another compactor can finish this if it is interrupted."""
        for name in self._batch.replaced:
            _remove(self._path(name))
        for name in self._batch.archives:
            os.rename(self._temporary(name), self._path(name))
        sync_directory(self._directory)
        for each in held:
            if has_waiting_writer(each.descriptor):
                # Its values are in an archive already: the process that waits for it shall start
                # with an empty file.
                os.ftruncate(each.descriptor, 0)
                restore_name(self._directory, each.aside, each.file.name)
            else:
                os.unlink(each.aside)

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)

    def _temporary(self, name: str) -> str:
        return self._path(temporary_name(name))


def restore_name(directory: str, aside: str, name: FileName) -> None:
    """Give the file *aside* the *name* that its worker chose, or one like it if that is taken."""
    number = 0
    free = name
    while not rename_if_free(aside, os.path.join(directory, free.format())):
        number += 1
        free = name._replace(id=f"{name.id}.{number}")


def _remove(path: str) -> None:
    """Remove the file *path*, if there is one."""
    with suppress(FileNotFoundError):
        os.unlink(path)
