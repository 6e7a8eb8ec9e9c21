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


class Policy(NamedTuple):
    """Decides which values outlive their worker.

    Files of gauges of mode `all` stay if *keep_dead_gauges*. *dead_gauges* decides over other
    gauges, by the prefix of their family.
    """

    keep_dead_gauges: bool
    dead_gauges: Mapping[str, Fate]

    def fate(self, name: FileName) -> str:
        """Return what becomes of a file called *name*: "gone", "kept" unchanged, or "folded"."""
        rule = RULES[name.type, name.mode]
        if rule.dead == GONE:
            return GONE
        if rule.per_process:
            return KEPT if self.keep_dead_gauges else GONE
        return "folded"

    def keeps(self, family: str) -> bool:
        """Return whether the gauges of *family* outlive their worker, if their mode lets them.

        The longest prefix that fits decides.
        """
        fitting = [prefix for prefix in self.dead_gauges if family.startswith(prefix)]
        return not fitting or self.dead_gauges[max(fitting, key=len)] == KEPT
