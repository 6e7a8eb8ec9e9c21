"""Who may change a directory: one process at a time, by a lock that the kernel takes back.

The lock is on a file that stays: whoever removes a lock file lets in two at once.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from mpmetrics.directory.files import OWN_PREFIX

if TYPE_CHECKING:
    from filelock import BaseFileLock

_COMPACTION: Final = f"{OWN_PREFIX}compaction.lock"


def make_compaction_lock(directory: str) -> BaseFileLock:
    """Return the lock, not yet taken, that a compactor of *directory* holds while it works.

    Raises `OSError` when there is no such directory: the taking would make it, and a directory
    that has been removed shall stay so. Taking the lock raises `filelock.Timeout` when somebody
    else has it for too long, and another `OSError` where this user may not write.
    """
    # Not at the top: who only reads a directory in which nothing happens never needs it.
    from filelock import FileLock  # noqa: PLC0415 - it takes 10 ms, and most readers need no lock

    os.stat(directory)
    return FileLock(os.path.join(directory, _COMPACTION), thread_local=False)
