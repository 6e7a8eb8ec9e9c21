"""The policy of a compaction: which values outlive their worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from mpmetrics.merging import GONE, KEPT, RULES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mpmetrics.directory import FileName

Fate = Literal["kept", "gone"]
"""What becomes of a gauge when its worker is dead."""

DEAD_GAUGES: Final[Mapping[str, Fate]] = {
    # Their mode is `sum`, by which a dead worker's share of the cache would be in use for ever.
    "lmcache:": "gone",
}
"""The fate of gauges whose mode is wrong for dead workers, by the prefix of their family."""

Treatment = Literal["dropped", "left", "folded"]
"""What a compaction does with a dead worker's file: remove it, leave it alone, or fold it."""


class Policy(NamedTuple):
    """The rules by which values outlive their worker, or end with it.

    Files of gauges of mode `all` stay if *keep_dead_gauges*. *dead_gauges* decides over other
    gauges, by the prefix of their family.
    """

    keep_dead_gauges: bool
    dead_gauges: Mapping[str, Fate]

    def treatment(self, name: FileName) -> Treatment:
        """Return what a compaction does with a dead worker's file called *name*."""
        rule = RULES[name.type, name.mode]
        if rule.dead == GONE:
            return "dropped"
        if rule.per_process:
            return "left" if self.keep_dead_gauges else "dropped"
        return "folded"

    def keeps(self, family: str) -> bool:
        """Return whether the gauges of *family* outlive their worker, if their mode lets them.

        The longest prefix that fits decides.
        """
        fitting = [prefix for prefix in self.dead_gauges if family.startswith(prefix)]
        return not fitting or self.dead_gauges[max(fitting, key=len)] == KEPT
