"""One commit."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from mpmetrics.directory import has_waiting_writer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mpmetrics.directory import WorkerFile


class FoldBatch(NamedTuple):
    """What one commit does: *files* go, the *archives* come.

    *archives* has the bytes of each new archive by its name, *replaced* the names of those that
    they take the place of, *digests* by path what each file held that is in an archive now.
    """

    files: Sequence[WorkerFile]
    archives: Mapping[str, bytes]
    replaced: frozenset[str]
    digests: Mapping[str, bytes]


class HeldFile(NamedTuple):
    """A *file* on which we have the lease, through *descriptor*, and where it goes (*aside*)."""

    file: WorkerFile
    descriptor: int
    aside: str

    @property
    def is_ours(self) -> bool:
        """Whether nobody waits to write to it, and it is what has been put aside."""
        return not has_waiting_writer(self.descriptor) and os.path.samestat(
            os.stat(self.aside), os.fstat(self.descriptor)
        )
