"""Quarantine: a damaged file gets another name, and keeps its bytes."""

from __future__ import annotations

import os
from contextlib import ExitStack

from mpmetrics.compaction.names import move_if_free
from mpmetrics.directory import (
    QUARANTINED,
    find_free_name,
    open_for_lease,
    release_lease,
    take_lease,
)


def quarantine_file(path: str) -> None:
    """Rename the damaged file *path*, so that no reader looks at it any more.

    Raises `OSError` if a process has it open now, or if it cannot be renamed.
    """
    with ExitStack() as leases:
        aside = find_free_name(f"{path}{QUARANTINED}")
        descriptor = open_for_lease(path)
        leases.callback(release_lease, descriptor)
        take_lease(descriptor)
        inode = os.fstat(descriptor).st_ino
    # The lease has ended: a process that opens the file does not wait for the renaming.
    os.rename(path, aside)
    if os.lstat(aside).st_ino != inode:
        move_if_free(aside, path)  # another file has got the name meanwhile
