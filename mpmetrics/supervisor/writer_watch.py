"""What a wrapper says of the places where the processes of its server write: decisions only.

It logs a line for each directory other than the expected one, a line if processes write to files
that were removed, and a line if a server that lives has not written anything. Each comes once.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics._text import plural
from mpmetrics.directory import PLACES, VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mpmetrics.directory import Writer

SILENCE: Final = 60.0
"""Seconds without any metric after which a server that lives is reported."""

_MOST: Final = 10
"""The most other directories that are reported and taken over: a test suite makes hundreds."""


_TO_CONFIRM: Final = ("elsewhere", "removed")


class Look(NamedTuple):
    """One look at a server: where each process writes, at the time *now*.

    *has_workers* is whether the server has processes that do its work; *has_metrics* is whether the
    directory has any value; *without_variable* are the processes that were started without the
    variable.
    """

    now: float
    writers: Sequence[Writer]
    has_workers: bool = True
    has_metrics: bool = False
    without_variable: Sequence[int] = ()


class WriterWatch:
    """The watch over who writes where, of which *directory* is expected.

    With *adopts*, other directories are taken over.
    """

    def __init__(self, directory: str, *, adopts: bool = False) -> None:
        """Start without any look."""
        self._directory = directory
        self._adopts = adopts
        self._before: frozenset[Writer] = frozenset()
        self._silent_since: float | None = None
        self._is_over = False
        self._reports_removed = True
        self.is_unsure = False
        """Whether the last look has found something that the next one may confirm."""
        self.elsewhere: list[str] = []
        """The other directories that have been found, in this order."""
        self.counts: Mapping[str, int] = dict.fromkeys(PLACES, 0)
        """How many processes write to each place."""

    def note(self, look: Look) -> list[str]:
        """Take a *look*; return the lines that it causes.

        What is seen once may be a process that reads: only what two looks have in common counts.
        """
        found = Counter(each.place for each in look.writers)
        self.counts = {place: found[place] for place in PLACES}
        now = frozenset(look.writers)
        lasting = sorted(now & self._before)
        self.is_unsure = any(each.place in _TO_CONFIRM for each in now - self._before)
        self._before = now
        return [
            *self._note_elsewhere(lasting),
            *self._note_removed(lasting),
            *self._note_silence(look),
        ]

    def _note_elsewhere(self, lasting: Sequence[Writer]) -> list[str]:
        lines = []
        for writer in lasting:
            path = writer.elsewhere
            if not path or path in self.elsewhere or len(self.elsewhere) >= _MOST:
                continue
            self.elsewhere.append(path)
            what = (
                f"process {writer.pid} of the server writes its metrics to {path}, not to "
                f"{self._directory}: the application or a library of it sets {VARIABLE}"
            )
            then = (
                "that directory is taken over, and on this page"
                if self._adopts
                else "they are missing from this page; --adopt takes that directory over"
            )
            lines.append(f"{what}; {then}")
        return lines

    def _note_removed(self, lasting: Sequence[Writer]) -> list[str]:
        removed = [each.pid for each in lasting if each.place == "removed"]
        if not removed or not self._reports_removed:
            return []
        self._reports_removed = False
        count = plural(len(removed), "process", "es")
        line = (
            f"{count} of the server, such as {removed[0]}, still writing to files that were "
            f"removed from {self._directory}: what they count is lost; restart them, and remove "
            "files only before the server starts"
        )
        return [line]

    def _note_silence(self, look: Look) -> list[str]:
        """Report a server that has not written anything for a minute, unless it ever did."""
        is_silent = look.has_workers and all(each.place == "nothing" for each in look.writers)
        if look.has_metrics or any(each.place != "nothing" for each in look.writers):
            # Of a process that hides its files nothing is known: it may well write.
            self._is_over = self._is_over or look.has_metrics
            self._silent_since = None
            return []
        if self._is_over or not is_silent:
            self._silent_since = None
            return []
        if self._silent_since is None:
            self._silent_since = look.now
        if look.now < self._silent_since + SILENCE:
            return []
        self._is_over = True
        if look.without_variable:
            why = (
                f"process {look.without_variable[0]} was started without {VARIABLE}, which sudo "
                "and env -i remove"
            )
        else:
            why = (
                "prometheus_client is not used, or was told another directory; or no process has "
                "been asked for anything that it counts"
            )
        processes = plural(len(look.writers), "process", "es")
        line = (
            f"the server runs ({processes}), but has not written any metric to {self._directory} "
            f"for {SILENCE:.0f} s: {why}"
        )
        return [line]
