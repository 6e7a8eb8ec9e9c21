"""What becomes of the values of dead workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from mpmetrics.merging import GONE, KEPT, RULES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mpmetrics.directory import FileName


Fate = Literal["kept", "gone"]

DEAD_GAUGES: Final[Mapping[str, Fate]] = {
    # Declared as sums, and so a dead worker's share of the cache would be in use for ever.
    "lmcache:": "gone",
}
"""What becomes of dead workers' gauges, by the prefix of the family, where the mode is wrong."""


class Policy(NamedTuple):
    """What becomes of the values of the dead."""

    keep_dead_gauges: bool
    dead_gauges: Mapping[str, Fate]

    def fate(self, name: FileName) -> str:
        """Return what becomes of a file called *name*: "gone", "kept" as it is, or "folded"."""
        rule = RULES[name.type, name.mode]
        if rule.dead == GONE:
            return GONE
        if rule.per_process:
            return KEPT if self.keep_dead_gauges else GONE
        return "folded"

    def keeps(self, family: str) -> bool:
        """Tell whether the gauges of *family* outlive their worker, where the mode says so."""
        fitting = [prefix for prefix in self.dead_gauges if family.startswith(prefix)]
        return not fitting or self.dead_gauges[max(fitting, key=len)] == KEPT
