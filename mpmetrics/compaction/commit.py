"""The commit of one batch: from one moment on, its archives count instead of its files.

`mpmetrics.compaction.compactor` lists the steps of a compaction. This module writes the temporary
files, which ends step 1, and takes steps 2 to 6.
"""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from mpmetrics.compaction.folding import digest
from mpmetrics.compaction.names import remove_if_there, restore_name
from mpmetrics.compaction.openings import AsideFile
from mpmetrics.directory import (
    FOLDING,
    MANIFEST,
    Manifest,
    Ownership,
    find_free_name,
    open_for_lease,
    sync_directory,
    temporary_name,
    write_new_file,
)
from mpmetrics.errors import DamagedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mpmetrics.compaction.batch import FoldBatch
    from mpmetrics.compaction.openings import Openings
    from mpmetrics.directory import ReadBuffer, WorkerFile


_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
"""Errors that are of the file system, and not of one file."""


class Commit:
    """The commit of a *batch* in a *directory* where *previous* is the MANIFEST.

    *manifest* is the MANIFEST after it.
    """

    def __init__(
        self,
        directory: str,
        previous: Manifest,
        batch: FoldBatch,
        buffer: ReadBuffer,
        openings: Openings,
    ) -> None:
        """Plan the commit; *buffer* is what files are read into."""
        names = {*previous.archives} - batch.replaced | batch.archives.keys()
        self.manifest = Manifest(previous.generation + 1, tuple(sorted(names)))
        self._directory = directory
        self._batch = batch
        self._buffer = buffer
        self._openings = openings

    def execute(self) -> Mapping[str, str]:
        """Commit the batch, unless a file of it turns out to be in use.

        Returns those files by path, and why each cannot be folded; then all files have their names.
        Raises `OSError`.
        """
        contents = {**self._batch.archives, MANIFEST: self.manifest.format()}
        with ExitStack() as temporaries:
            for name, data in contents.items():
                write_new_file(self._temporary(name), data, self._ownership(name))
                temporaries.callback(remove_if_there, self._temporary(name))
            with ExitStack() as descriptors, ExitStack() as undo:
                files, lost = self._put_aside(descriptors, undo)
                lost = lost or self._openings.withdraw(
                    files, self.manifest.generation, undo.pop_all
                )
                lost = lost or self._find_changed(files)
                if not lost:
                    os.rename(self._temporary(MANIFEST), self._path(MANIFEST))
                    undo.pop_all()
                    temporaries.pop_all()
                    self._finish(files)
        return lost

    def _ownership(self, name: str) -> Ownership:
        """Return whom the new archive, or the MANIFEST, called *name* belongs to."""
        prefix = name.rpartition("_")[0]  # "" is that of the MANIFEST
        files = [
            file.path for file in self._batch.files if file.name.prefix == prefix or not prefix
        ]
        old = [
            self._path(each) for each in self._batch.replaced if each.rpartition("_")[0] == prefix
        ]
        ownership = Ownership.like(self._directory, [*files, *old])
        return ownership if prefix else ownership.readable_in(self._directory)

    def _put_aside(
        self, descriptors: ExitStack, undo: ExitStack
    ) -> tuple[list[AsideFile], dict[str, str]]:
        """Give each file a second name, by which it is counted until the commit, and open it there.

        Returns the files, and by path why others cannot have such a name.
        """
        files: list[AsideFile] = []
        lost: dict[str, str] = {}
        for file in self._batch.files:
            try:
                aside = find_free_name(f"{file.path}{FOLDING}{self.manifest.generation}")
                os.link(file.path, aside, follow_symlinks=False)
                undo.callback(restore_name, self._directory, aside, file.name)
                descriptor = open_for_lease(aside)
            except OSError as error:
                if error.errno in _NO_ROOM:
                    raise
                lost[file.path] = error.strerror or str(error)
            else:
                descriptors.callback(os.close, descriptor)
                inode = os.fstat(descriptor).st_ino
                files.append(AsideFile(file, aside, descriptor, inode))
        return files, lost

    def _find_changed(self, files: Sequence[AsideFile]) -> dict[str, str]:
        """Return by path which *files* hold something else than was merged."""
        lost: dict[str, str] = {}
        for each in files:
            try:
                if self._has_changed(each.file, each.descriptor):
                    lost[each.file.path] = "its worker wrote to it after it was read"
            except DamagedError as error:
                lost[each.file.path] = str(error)
        return lost

    def _has_changed(self, file: WorkerFile, descriptor: int) -> bool:
        """Return whether *file* holds something else than was merged. Raises `DamagedError`."""
        if file.path not in self._batch.digests:
            return False  # its values end with their worker, whatever they are
        used, _ = self._buffer.load_open(descriptor, file.path)
        return digest(self._buffer.used_bytes(used)) != self._batch.digests[file.path]

    def _finish(self, files: Sequence[AsideFile]) -> None:
        """Tidy up after the commit; another compactor can finish this if it is interrupted."""
        for name in self._batch.replaced:
            remove_if_there(self._path(name))
        for name in self._batch.archives:
            os.rename(self._temporary(name), self._path(name))
        sync_directory(self._directory)
        for each in files:
            os.unlink(each.aside)

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)

    def _temporary(self, name: str) -> str:
        return self._path(temporary_name(name))
