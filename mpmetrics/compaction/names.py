"""The names of files that are put aside, and the way back to the name that a worker chose.

A compaction gives a file the name *aside* beside the name that its worker chose, before it takes
that away. So at any moment the file has a name by which readers count it.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from mpmetrics.directory import rename_if_free
from mpmetrics.system import move_without_replacing

if TYPE_CHECKING:
    from mpmetrics.directory import FileName


def restore_name(directory: str, aside: str, name: FileName) -> None:
    """Give the file *aside* the *name* that its worker chose, or one like it if that is taken.

    If it has one of these names already, it only loses the name aside. Raises `OSError`.
    """
    number = 0
    target = os.path.join(directory, name.format())
    while True:
        if _is_same_file(aside, target):
            os.unlink(aside)
            return
        if move_if_free(aside, target):
            return
        number += 1
        target = os.path.join(directory, name._replace(id=f"{name.id}.{number}").format())


def move_if_free(source: str, target: str) -> bool:
    """Move *source* to *target* unless *target* exists; return whether it was moved.

    Other than with `rename_if_free`, a process that is in the middle of opening *source* opens what
    is then called *target*. Raises `OSError`.
    """
    try:
        move_without_replacing(source, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in {errno.ENOSYS, errno.EINVAL}:
            raise
        return rename_if_free(source, target)
    return True


def remove_if_there(path: str) -> None:
    """Remove the file *path*, if there is one. Raises `OSError`."""
    with suppress(FileNotFoundError):
        os.unlink(path)


def _is_same_file(path: str, other: str) -> bool:
    """Return whether both names exist and are names of one file."""
    try:
        return os.path.samestat(os.lstat(path), os.lstat(other))
    except FileNotFoundError:
        return False
