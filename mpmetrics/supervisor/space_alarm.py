"""The alarm of a file system that fills up: decisions without clock and without system.

A worker that touches a new page of a metrics file is killed by SIGBUS where no space is left, which
nothing in the log of a server explains. So there is one line in good time, one when the file system
is full, and one that names the cause of such deaths.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mpmetrics._text import plural

if TYPE_CHECKING:
    from mpmetrics.system import Space

_LOW: Final = 0.2
_LOW_BYTES: Final = 128 << 20
_LOW_INODES: Final = 2000
"""The share that is low, and what is enough however large the file system."""

_AMPLE: Final = 1.5
"""How many times what is low has to be free before there is another line."""

_WHILE: Final = 60.0
"""Seconds for which a file system counts as full after it was, and between two lines of deaths."""

_REMEDY: Final = (
    "make it larger (a tmpfs: mount -o remount,{}=…), or fold more often; do not delete files, "
    "or totals fall"
)
_REMEDY_BYTES: Final = _REMEDY.format("size")
_REMEDY_INODES: Final = _REMEDY.format("nr_inodes")

_LEVELS: Final = ("ample", "low", "full")


class SpaceAlarm:
    """The alarm of the file system that *directory* lies on."""

    def __init__(self, directory: str) -> None:
        """Start with enough space."""
        self._directory = directory
        self._level = 0
        self._full_until = 0.0
        self._silent_until = 0.0
        self._deaths = 0

    def note(self, space: Space, now: float) -> str:
        """Take the *space* at the time *now*; return a line if there is less than before.

        What has been low or full stays so until there is ample space again.
        """
        if space.has_no_page:
            self._full_until = now + _WHILE
        level = 2 if space.is_full else int(is_low(space))
        if level <= self._level:
            if not is_low(space, _AMPLE):
                self._level = 0
            return ""
        self._level = level
        if level == 1:
            effect = (
                f"when nothing is left, workers are killed by SIGBUS: {_REMEDY_BYTES}"
                if _is_short(space)
                else f"when no inode is left, workers cannot make files (ENOSPC): {_REMEDY_INODES}"
            )
            return f"the file system of {self._directory} fills up: {space.describe()}; {effect}"
        effect = (
            f"workers that touch a metric are killed by SIGBUS: {_REMEDY_BYTES}"
            if space.has_no_page
            else f"workers that make a file fail with ENOSPC: {_REMEDY_INODES}"
        )
        return f"the file system of {self._directory} is full: {space.describe()}; {effect}"

    def explain_bus_error(self, space: Space | None, now: float) -> str:
        """Count a process that SIGBUS has ended; return a line if the reason is a lack of space.

        There is one line in a minute, with the number of such ends since the last one.
        """
        if space is not None and space.has_no_page:
            self._full_until = now + _WHILE
        if now >= self._full_until:
            return ""
        self._deaths += 1
        if now < self._silent_until:
            return ""
        count, self._deaths = self._deaths, 0
        self._silent_until = now + _WHILE
        free = "" if space is None else f" ({space.describe()})"
        verb = "has" if count == 1 else "have"
        processes = plural(count, "process", "es")
        return f"{processes} {verb} ended by SIGBUS: the directory {self._directory} is full{free}"


def is_low(space: Space, factor: float = 1.0) -> bool:
    """Return whether less *space* is left than is low, or than so many times (*factor*) that."""
    is_out = space.free_inodes < factor * min(_LOW * space.inodes, _LOW_INODES)
    return _is_short(space, factor) or is_out


def _is_short(space: Space, factor: float = 1.0) -> bool:
    """Return whether fewer bytes are left than are low, or than so many times (*factor*) that."""
    return space.free < factor * min(_LOW * space.size, _LOW_BYTES)
