"""What a compaction did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpmetrics.errors import Problem

Outcome = Literal["folded", "nothing", "busy", "preview"]


class Skipped(NamedTuple):
    """A file that was left as it is: *path*, one word why (*reason*), and a sentence."""

    path: str
    reason: str
    detail: str


class Compaction(NamedTuple):
    """What a compaction of the directory *path* did.

    *outcome* is "folded" when something was done, "nothing" when there was nothing to do, and
    "busy" when somebody else was at it; a "preview" tells of what was not done. *generation* is
    that of the archives that count now. *folded* are the paths of files whose values are in an
    archive now, *dropped* of those whose values went with their worker, *skipped* says of every
    other file why it stays, *quarantined* which could not be read and what is wrong with them.
    *problems* is what merging had to say.
    """

    path: str
    outcome: Outcome
    generation: int = 0
    folded: Sequence[str] = ()
    dropped: Sequence[str] = ()
    skipped: Sequence[Skipped] = ()
    quarantined: Sequence[Problem] = ()
    problems: Sequence[Problem] = ()
