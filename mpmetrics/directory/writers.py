"""Where processes write their metrics: into the directory, into another one, or nowhere.

A process keeps its metrics files open as long as it lives, so the kernel's lists of its files tell.
They tell nothing of a process of another user.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, get_args

from mpmetrics.directory.files import SUFFIX, FileName
from mpmetrics.system import list_open_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mpmetrics.system import OpenFile

Place = Literal["directory", "elsewhere", "removed", "nothing", "unknown"]
"""Where a process writes: to the directory, to another one, to files that were removed from the
directory, nowhere, or nothing is known of it."""

PLACES: Final[tuple[Place, ...]] = get_args(Place)


class Writer(NamedTuple):
    """The process *pid*, the *place* where it writes, and if that is elsewhere, which directory."""

    pid: int
    place: Place
    elsewhere: str = ""


def find_writer(
    pid: int, directory: str, list_files: Callable[[int, str], Iterable[OpenFile]] = list_open_files
) -> Writer:
    """Find out where process *pid* writes, of which *directory* is expected. Raises nothing.

    One that writes to the directory and elsewhere has the place "elsewhere": it is not all here.
    """
    try:
        files = list_files(pid, SUFFIX)
    except OSError:
        return Writer(pid, "unknown")
    own = os.path.realpath(directory)
    found: set[tuple[str, bool]] = {
        (os.path.dirname(file.path), file.is_deleted)
        for file in files
        if FileName.parse(os.path.basename(file.path)) is not None
    }
    others = sorted(path for path, is_deleted in found if not is_deleted and not _is(path, own))
    if others:
        return Writer(pid, "elsewhere", others[0])
    here = {is_deleted for path, is_deleted in found if path == own or _is(path, own)}
    if not here:
        return Writer(pid, "nothing")
    return Writer(pid, "removed" if all(here) else "directory")


def _is(path: str, directory: str) -> bool:
    """Return whether *path* is the *directory*, perhaps by another name, as through a mount."""
    if path == directory:
        return True
    try:
        return os.path.samefile(path, directory)
    except OSError:
        return False
