"""What a connector declares: its families, by which numbers they are fed, and how those merge."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from math import inf, isinf
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from mpmetrics.engines.connectors.errors import (
    ConnectorConflictError,
    ConnectorDeclarationError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MERGES: Final[Mapping[str, tuple[str, ...]]] = {
    "counter": ("sum",),
    "gauge": ("latest", "max", "sum"),
    "histogram": ("extend", "bucketed"),
}
"""How the numbers of a type may be merged; what comes first is what is meant without a word."""

_MODES: Final = {"latest": "mostrecent", "max": "max", "sum": "livesum"}

_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL: Final = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")


RESERVED: Final = ("model_name", "engine", "connector")
"""Labels that say whose the numbers are; no family declares them."""


FIGURES: Final = frozenset({"count", "sum", "mean", "p90"})
"""How one figure is made of all numbers of a family."""


class ConnectorSummary(NamedTuple):
    """One figure for a person: its *title*, and *how* it is made of all numbers of a family.

    *how* is "count", "sum", "mean" or "p90". The result is multiplied by *scale* and, if *per* is
    the key of other numbers, divided by their sum.
    """

    title: str
    how: str
    scale: float = 1
    per: str = ""


@dataclass(frozen=True)
class ConnectorFamily:
    """One family of a connector, which sends numbers and knows no metric.

    *labels* are those besides the engine's. A histogram has *buckets*. *merge* is one of `MERGES`
    for the *type*; a "bucketed" histogram is sent as one list: how many observations each bucket
    has got, the one up to infinity included, and then the sum of all. *keys* are those under which
    the numbers are sent, by default the name, with and without what is before its colon; what
    comes under several of them is fed into the one family. *mode* is the multiprocess mode of a
    gauge. What is *listed* comes as a list, with an entry for each time, and an empty one for none.
    Raises `ConnectorDeclarationError`.
    """

    name: str
    type: str
    help: str = ""
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    merge: str = ""
    keys: tuple[str, ...] = ()
    mode: str = ""
    listed: bool = False
    summaries: tuple[ConnectorSummary, ...] = ()

    def __post_init__(self) -> None:
        """Fill in what was left out, and check the whole."""
        known = MERGES.get(self.type, ())
        if not known:
            self._wrong(f"unknown type {self.type!r}; there are {', '.join(MERGES)}")
        merge = self.merge or known[0]
        self._set(
            labels=_several(self.labels),
            buckets=self._edges(),
            merge=merge,
            keys=_several(self.keys) or tuple(dict.fromkeys((self.name, self.name.split(":")[-1]))),
            mode=self.mode or (_MODES.get(merge, "") if self.type == "gauge" else ""),
            help=self.help or self.name,
            summaries=tuple(self.summaries),
        )
        for is_wrong, why in self._faults(known):
            if is_wrong:
                self._wrong(why)

    def __str__(self) -> str:
        """Return what has to be the same of two that are one, for a sentence."""
        merge = f"{self.merge}, mode {self.mode}" if self.mode else self.merge
        buckets = f", buckets {list(self.buckets)}" if self.buckets else ""
        return f"a {self.type} (labels [{', '.join(self.labels)}]{buckets}, by {merge})"

    def with_keys_of(self, other: ConnectorFamily) -> ConnectorFamily:
        """Return the family as it is fed by the numbers of both declarations of it."""
        keys = tuple(dict.fromkeys((*self.keys, *other.keys)))
        if (keys, self.listed) == (self.keys, self.listed or other.listed):
            return self
        return replace(self, keys=keys, listed=self.listed or other.listed)

    def _faults(self, merges: tuple[str, ...]) -> list[tuple[bool, str]]:
        """Return what would be wrong, and whether it is."""
        rises = all(low < high for low, high in pairwise((*self.buckets, inf)))
        return [
            (not _NAME.fullmatch(self.name), "no name of a metric"),
            (self.merge not in merges, f"a {self.type} merges by {', '.join(merges)} only"),
            (
                (self.type == "histogram") != bool(self.buckets),
                "a histogram has buckets, and nothing else has",
            ),
            (not rises, f"buckets have to rise: {self.buckets}"),
            (
                len(set(self.labels)) != len(self.labels)
                or not all(map(_LABEL.fullmatch, self.labels)),
                f"labels need names, each its own: {self.labels}",
            ),
            (
                not {*RESERVED, *(["le"] if self.buckets else [])}.isdisjoint(self.labels),
                f"labels are there already: {self.labels}",
            ),
            (bool(self.mode) and self.type != "gauge", "only a gauge has a mode"),
            (
                not FIGURES.issuperset(summary.how for summary in self.summaries),
                f"figures are made by {', '.join(sorted(FIGURES))} only",
            ),
        ]

    def _edges(self) -> tuple[float, ...]:
        """Return the buckets without the last one, which is always there."""
        try:
            return tuple(float(edge) for edge in self.buckets if not isinf(edge))
        except (TypeError, ValueError, OverflowError):
            self._wrong(f"buckets are numbers: {self.buckets!r}")

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)  # the way to fill in what is frozen

    def _wrong(self, why: str) -> NoReturn:
        raise ConnectorDeclarationError(self.name, why)


def _several(given: Iterable[str]) -> tuple[str, ...]:
    """Return names; one by itself is not taken for its letters."""
    return (given,) if isinstance(given, str) else tuple(given)


def united(
    declared: Iterable[tuple[str, ConnectorFamily]],
) -> tuple[ConnectorFamily, ...]:
    """Return each family of those *declared*, which come with their owners, once.

    One that is declared twice is fed by the numbers of both. Raises `ConnectorConflictError` when
    two owners declare one differently, and `ConnectorDeclarationError` when the numbers under a
    key would merge in two ways.
    """
    found: dict[str, tuple[str, ConnectorFamily]] = {}
    for owner, family in declared:
        first, there = found.setdefault(family.name, (owner, family))
        if str(there) != str(family):
            raise ConnectorConflictError(family.name, (first, owner), str(there), str(family))
        found[family.name] = first, there.with_keys_of(family)
    families = tuple(family for _, family in found.values())
    merges_of(families)
    return families


class Merge(NamedTuple):
    """How the numbers under one key merge; those in buckets come in lists of *width*."""

    how: str
    width: int = 0


UNDECLARED: Final = Merge("sum")
"""Numbers are summed and lists extended, the sum of which is the same."""


@lru_cache(maxsize=256)  # they are asked for with every step of an engine
def merges_of(families: tuple[ConnectorFamily, ...]) -> Mapping[str, Merge]:
    """Return how the numbers of *families* merge, by key.

    Raises `ConnectorDeclarationError` for a key that merges in two ways.
    """
    found: dict[str, Merge] = {}
    for family in families:
        merge = Merge(family.merge, len(family.buckets) + 2 if family.merge == "bucketed" else 0)
        for key in family.keys:
            if found.setdefault(key, merge) != merge:
                why = f"key {key!r} merges by {found[key]} and by {merge}"
                raise ConnectorDeclarationError(family.name, why)
    return found


def together(
    first: tuple[ConnectorFamily, ...], second: tuple[ConnectorFamily, ...]
) -> tuple[ConnectorFamily, ...]:
    """Return the *first* families, and those of the *second* that they leave room for."""
    if first == second or not second:
        return first
    taken = set(merges_of(first))
    return (*first, *(family for family in second if not taken.intersection(family.keys)))
