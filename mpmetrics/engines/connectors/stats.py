"""The statistics of a connector between two looks at it: plain data, which can be merged.

Nothing here changes what somebody else has given, and nothing raises for numbers that are odd:
they are left out, and counted.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from mpmetrics.engines.connectors.errors import ConnectorStatsError
from mpmetrics.engines.connectors.families import UNDECLARED, merges_of, together
from mpmetrics.engines.connectors.known_families import shortened, spelled_out
from mpmetrics.engines.connectors.numbers import (
    cells,
    copied,
    is_blank,
    merged,
    payload,
    read,
    shaped,
    written,
)
from mpmetrics.engines.connectors.recording import MOST_KEYS
from mpmetrics.engines.connectors.summaries import summarised

if TYPE_CHECKING:
    from mpmetrics.engines.connectors.families import ConnectorFamily
    from mpmetrics.engines.connectors.numbers import Number, Value

    Families = Iterable[ConnectorFamily]

_NO_NUMBER: Final = (TypeError, ValueError, OverflowError, RecursionError)
"""What is raised for a value that is none."""


class ConnectorStats:
    """The statistics of one connector: a number, a list, or one of both for each labels, by key.

    *families* say how the numbers under their keys merge. Without them numbers are summed and
    lists extended. What is no number is left out; `refused` counts it by key.
    """

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        families: Families = (),
    ) -> None:
        """Begin with a copy of *data*, flat or under "data"; with empty columns if there is none.

        Raises `ConnectorDeclarationError` when the families do not agree how a key merges.
        """
        self.families = tuple(families)
        self.data: dict[str, Value] = {}
        self.refused: Counter[str] = Counter()
        self._merges = merges_of(self.families)
        for key, value in payload(data or {}).items():
            self._take(key, value)
        if not self.data:
            self.data = self._columns()

    def aggregate(self, other: object) -> ConnectorStats:
        """Add *other* statistics, of whatever class, to these, which are returned.

        Nothing changes if there is nothing in them, or if they are None. Raises
        `ConnectorStatsError` if they are no statistics.
        """
        if other is None:
            return self
        theirs = self._as_mine(other)
        self.refused.update(theirs.refused)
        for key, value in list(theirs.data.items()):  # whose thread may go on counting
            if not is_blank(value):
                self._merge(key, value)
        return self

    def reduce(self) -> dict[str, Number]:
        """Return figures for a person, all of them plain numbers of Python."""
        return summarised(self.data, self.families)

    def reset(self) -> None:
        """Forget all numbers; what is sent in lists has an empty one from now on.

        Of very many lists that nobody has declared, the later ones are forgotten.
        """
        self.data = self._columns()
        self.refused = Counter()

    def is_empty(self) -> bool:
        """Tell whether there is no number at all. One that is 0 is one."""
        return all(map(is_blank, self.data.values()))

    def to_dict(self) -> dict[str, Any]:
        """Return the data as JSON and msgpack have them; labels become one text.

        What is made of it has the same data again.
        """
        return {key: written(value) for key, value in self.data.items()}

    def __getstate__(self) -> tuple[Any, ...]:
        """Return what is sent to another process, with every step of an engine."""
        return self.data, self.refused, shortened(self.families)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Be what was sent."""
        self.data, self.refused, families = state
        self.families = spelled_out(families)
        self._merges = merges_of(self.families)

    def __repr__(self) -> str:
        """Return what is in it."""
        return f"{type(self).__name__}({self.data!r})"

    def _columns(self) -> dict[str, Value]:
        """Return empty lists for what comes in lists."""
        declared = [key for family in self.families if family.listed for key in family.keys]
        sent = [key for key, value in self.data.items() if isinstance(value, list)]
        return {key: [] for key in (*declared, *sent[:MOST_KEYS])}

    def _take(self, key: object, value: object) -> None:
        """Take what was sent under one key, if that can be."""
        name = str(key)
        try:
            self.data[name] = read(value, self._merges.get(name, UNDECLARED))
        except _NO_NUMBER:
            self.refused[name] += 1

    def _merge(self, key: str, value: Value) -> None:
        """Add a *value* to what there is under one key."""
        merge = self._merges.get(key, UNDECLARED)
        mine = cells(self.data[key]) if key in self.data else {}
        for labels, cell in cells(value).items():
            mine[labels] = merged(mine.get(labels), cell, merge)
        self.data[key] = shaped(mine)

    def _as_mine(self, other: object) -> ConnectorStats:
        """Return *other* statistics in the form of these, whose declarations grow if need be."""
        if not isinstance(other, ConnectorStats):
            return ConnectorStats(data_of(other), self.families)
        if other.families == self.families:
            return other
        self.families = together(self.families, other.families)
        self._merges = merges_of(self.families)
        mine = ConnectorStats(other.data, self.families)
        mine.refused.update(other.refused)
        return mine


def copy_of(stats: Any) -> Any:
    """Return statistics that share nothing with *stats*; of what cannot be copied, the numbers."""
    if type(stats) is not ConnectorStats:
        try:
            return copy.deepcopy(stats)
        except Exception:  # it has a lock, say
            return ConnectorStats(data_of(stats))
    new = ConnectorStats(families=stats.families)
    new.data = {key: copied(value) for key, value in list(stats.data.items())}
    new.refused.update(stats.refused)
    return new


def data_of(stats: Any) -> Mapping[str, Any]:
    """Return the data of statistics, whose ever. Raises `ConnectorStatsError`."""
    to_dict = getattr(stats, "to_dict", None)
    data = to_dict() if callable(to_dict) else stats
    if not isinstance(data, Mapping):
        raise ConnectorStatsError(stats)
    return data
