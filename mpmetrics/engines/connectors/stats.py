"""The statistics of one connector for one interval: plain data that can be merged.

Nothing here changes an object that a caller has passed. A value that is not a number is no error:
it is left out, and counted.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from mpmetrics.engines.connectors.errors import ConnectorStatsError
from mpmetrics.engines.connectors.families import UNDECLARED, add_families, map_merges
from mpmetrics.engines.connectors.known_families import abbreviate_families, expand_families
from mpmetrics.engines.connectors.numbers import (
    copy_value,
    from_cells,
    is_blank,
    merge_cells,
    read_settings,
    read_value,
    to_cells,
    turn_by_key,
    unwrap_payload,
    write_value,
)
from mpmetrics.engines.connectors.rejections import MOST_KEYS
from mpmetrics.engines.connectors.summaries import summarize

if TYPE_CHECKING:
    from mpmetrics.engines.connectors.families import ConnectorFamily
    from mpmetrics.engines.connectors.numbers import Number, Settings, Value

    Families = Iterable[ConnectorFamily]

_UNREADABLE: Final = (TypeError, ValueError, OverflowError, RecursionError)
"""The exceptions of `read_value` for a value that is not a number."""


class ConnectorStats:
    """The statistics of one connector: by key a number or a list, or one for each set of labels.

    *families* define how the numbers under their keys merge. Under all other keys numbers are
    summed and lists extended. What is not a number is left out; `refused` counts it by key. `info`
    has the settings that an offloading connector sends once: a dict for each series, else None.
    """

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        families: Families = (),
    ) -> None:
        """Copy *data*, which is flat or under "data"; without data, start with empty lists.

        Beside "data" there may be settings under "info".

        Raises `ConnectorDeclarationError` when two families merge one key differently.
        """
        self.families = tuple(families)
        self.data: dict[str, Value] = {}
        self.refused: Counter[str] = Counter()
        self.info: Settings | None = None
        self._merges = map_merges(self.families)
        self._read_settings(data or {})
        sent = unwrap_payload(data or {})
        by_label = {
            key: family.labels[1:]
            for family in self.families
            if family.by_label
            for key in family.keys
        }
        for key, value in (turn_by_key(sent, by_label) if by_label else sent).items():
            self._read(key, value)
        if not self.data:
            self.data = self._empty_lists()

    def aggregate(self, other: object) -> ConnectorStats:
        """Merge *other* statistics, of any class, into these, and return these.

        None and empty statistics change nothing. Raises `ConnectorStatsError` for anything else
        that is not statistics.
        """
        if other is None:
            return self
        theirs = self._adopt(other)
        self.refused.update(theirs.refused)
        if theirs.info is not None:
            self.info = theirs.info
        for key, value in list(theirs.data.items()):  # their thread may add keys meanwhile
            if not is_blank(value):
                self._merge(key, value)
        return self

    def reduce(self) -> dict[str, Number]:
        """Return figures for the log, by title, as plain numbers of Python."""
        return summarize(self.data, self.families)

    def reset(self) -> None:
        """Drop all numbers; each key that has a list keeps an empty one.

        Of keys that no family declares, only the first `MOST_KEYS` stay.
        """
        self.data = self._empty_lists()
        self.refused = Counter()
        self.info = None

    def is_empty(self) -> bool:
        """Return whether there is neither a number nor a setting; a 0 is a number."""
        return self.info is None and all(map(is_blank, self.data.values()))

    def to_dict(self) -> dict[str, Any]:
        """Return the data in a form for JSON and msgpack, in which labels are one string.

        With settings, the data are under "data", and the settings under "info".
        `ConnectorStats` of the result have the same data.
        """
        flat = {key: write_value(value) for key, value in self.data.items()}
        return flat if self.info is None else {"data": flat, "info": self.info}

    def __getstate__(self) -> tuple[Any, ...]:
        """Return the state for pickle, which runs at every step of an engine."""
        return self.data, self.refused, abbreviate_families(self.families), self.info

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Restore the state from pickle."""
        self.data, self.refused, families, self.info = state
        self.families = expand_families(families)
        self._merges = map_merges(self.families)

    def __repr__(self) -> str:
        """Return the class and the data."""
        return f"{type(self).__name__}({self.data!r})"

    def _empty_lists(self) -> dict[str, Value]:
        """Return an empty list for each key whose numbers come in lists."""
        sent = [key for key, value in self.data.items() if isinstance(value, list)]
        return {key: [] for key in (*self._listed_keys(), *sent[:MOST_KEYS])}

    def _listed_keys(self) -> list[str]:
        """Return the keys whose numbers are declared to come in lists."""
        return [key for family in self.families if family.listed for key in family.keys]

    def _read_settings(self, data: Mapping[str, Any]) -> None:
        """Keep the settings in *data*, or count in `refused` what is none."""
        try:
            self.info = read_settings(data)
        except _UNREADABLE:
            self.refused["info"] += 1

    def _read(self, key: object, value: object) -> None:
        """Store the value that was sent under one key, or count it in `refused`."""
        name = str(key)
        if isinstance(value, list) and not value and name in self._listed_keys():
            self.data[name] = []
            return
        try:
            self.data[name] = read_value(value, self._merges.get(name, UNDECLARED))
        except _UNREADABLE:
            self.refused[name] += 1

    def _merge(self, key: str, value: Value) -> None:
        """Merge a *value* into the value under one key."""
        merge = self._merges.get(key, UNDECLARED)
        mine = to_cells(self.data[key]) if key in self.data else {}
        for labels, cell in to_cells(value).items():
            mine[labels] = merge_cells(mine.get(labels), cell, merge)
        self.data[key] = from_cells(mine)

    def _adopt(self, other: object) -> ConnectorStats:
        """Return *other* statistics as of this class, and add their declarations to these."""
        if not isinstance(other, ConnectorStats):
            return ConnectorStats(get_data(other), self.families)
        if other.families == self.families:
            return other
        self.families = add_families(self.families, other.families)
        self._merges = map_merges(self.families)
        mine = ConnectorStats(other.data, self.families)
        mine.refused.update(other.refused)
        mine.info = other.info
        return mine


def copy_stats(stats: Any) -> Any:
    """Return a deep copy of *stats*; if they cannot be copied, `ConnectorStats` of their data."""
    if type(stats) is not ConnectorStats:
        try:
            return copy.deepcopy(stats)
        except Exception:  # for example, they hold a lock
            return ConnectorStats(get_data(stats))
    new = ConnectorStats(families=stats.families)
    new.data = {key: copy_value(value) for key, value in list(stats.data.items())}
    new.refused.update(stats.refused)
    new.info = stats.info
    return new


def get_data(stats: Any) -> Mapping[str, Any]:
    """Return the data of *stats*, of any class, or a mapping itself.

    Raises `ConnectorStatsError` for anything else.
    """
    to_dict = getattr(stats, "to_dict", None)
    data = to_dict() if callable(to_dict) else stats
    if not isinstance(data, Mapping):
        raise ConnectorStatsError(stats)
    return data
