"""The families that a connector declares: the keys of their numbers, and how those merge."""

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
"""The ways in which the numbers of each type may merge; the first is the default."""

_MODES: Final = {"latest": "mostrecent", "max": "max", "sum": "livesum"}

_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL: Final = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")

RESERVED: Final = ("model_name", "engine", "connector")
"""The labels that mpmetrics adds to every series; no family may declare them."""

FIGURES: Final = frozenset({"count", "sum", "mean", "p90"})
"""The ways to reduce all numbers of a family to one figure."""


class ConnectorSummary(NamedTuple):
    """One figure in the log line of a connector: its *title*, and *how* to compute it.

    *how* is "count", "sum", "mean" or "p90" of all numbers of a family. The result is multiplied
    by *scale* and, if *per* is the key of other numbers, divided by the sum of those. It is
    rounded to *digits* after the point. A title with `{}` stands for one figure for each value of
    the first label.
    """

    title: str
    how: str
    scale: float = 1
    per: str = ""
    digits: int = 3


class FamilyCopy(NamedTuple):
    """The numbers of another family, by its *key*, that a family shows too, with these *labels*."""

    key: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class ConnectorFamily:
    """One family of a connector; the connector itself sends only numbers, and makes no metric.

    *labels* come after the engine's labels. A histogram has *buckets*. *merge* is one of `MERGES`
    for the *type*. A "bucketed" histogram is sent as one list: the number of observations in each
    bucket, the infinite one included, and then the sum of all observations. *keys* are the keys
    under which the numbers are sent; the default is the name, with and without the part before its
    colon, and the numbers under all keys go into the one family. *mode* is the multiprocess mode of
    a gauge. A family that is *listed* is sent as a list with an entry
    for each event, and as an empty list if there were none. Numbers *by_label* are sent the other
    way round: by the value of the first label, and then by key; or as a list of records, one for
    each event, whose entries are numbers by key and the other labels. *copies* are numbers of other
    families, sent without labels, that this family shows, too, with the labels of the copy. Raises
    `ConnectorDeclarationError`.
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
    by_label: bool = False
    copies: tuple[FamilyCopy, ...] = ()

    def __post_init__(self) -> None:
        """Fill in the defaults, and check the declaration."""
        known = MERGES.get(self.type, ())
        if not known:
            self._reject(f"unknown type {self.type!r}; there are {', '.join(MERGES)}")
        merge = self.merge or known[0]
        self._set(
            labels=_split_names(self.labels),
            buckets=self._finite_buckets(),
            merge=merge,
            keys=_split_names(self.keys) or self._default_keys(),
            mode=self.mode or (_MODES.get(merge, "") if self.type == "gauge" else ""),
            help=self.help or self.name,
            summaries=tuple(self.summaries),
            copies=tuple(FamilyCopy(*each) for each in self.copies),
        )
        for is_wrong, why in self._faults(known):
            if is_wrong:
                self._reject(why)

    def __str__(self) -> str:
        """Describe the parts that must be equal in two declarations of one family, for an error."""
        merge = f"{self.merge}, mode {self.mode}" if self.mode else self.merge
        buckets = f", buckets {list(self.buckets)}" if self.buckets else ""
        return f"a {self.type} (labels [{', '.join(self.labels)}]{buckets}, by {merge})"

    def with_keys_of(self, other: ConnectorFamily) -> ConnectorFamily:
        """Return this family with the keys of both declarations, *other* being the second one."""
        keys = tuple(dict.fromkeys((*self.keys, *other.keys)))
        if (keys, self.listed) == (self.keys, self.listed or other.listed):
            return self
        return replace(self, keys=keys, listed=self.listed or other.listed)

    def _faults(self, merges: tuple[str, ...]) -> list[tuple[bool, str]]:
        """Return each possible fault: whether this declaration has it, and its description."""
        rises = all(low < high for low, high in pairwise((*self.buckets, inf)))
        return [
            (not _NAME.fullmatch(self.name), "not a valid metric name"),
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
                f"labels are reserved: {self.labels}",
            ),
            (bool(self.mode) and self.type != "gauge", "only a gauge has a mode"),
            (
                self.by_label and not self.labels,
                "numbers by label need a label",
            ),
            (
                any(len(copy.labels) != len(self.labels) for copy in self.copies),
                f"a copy needs a value for each label: {self.labels}",
            ),
            (
                not FIGURES.issuperset(summary.how for summary in self.summaries),
                f"figures are made by {', '.join(sorted(FIGURES))} only",
            ),
        ]

    def _default_keys(self) -> tuple[str, ...]:
        """Return the name, and the name without the part before its colon."""
        return tuple(dict.fromkeys((self.name, self.name.split(":")[-1])))

    def _finite_buckets(self) -> tuple[float, ...]:
        """Return the buckets without the infinite one, which every histogram has."""
        try:
            return tuple(float(edge) for edge in self.buckets if not isinf(edge))
        except (TypeError, ValueError, OverflowError):
            self._reject(f"buckets are numbers: {self.buckets!r}")

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)  # the class is frozen

    def _reject(self, why: str) -> NoReturn:
        raise ConnectorDeclarationError(self.name, why)


def _split_names(given: Iterable[str]) -> tuple[str, ...]:
    """Return names as a tuple; a single string is one name, not a sequence of letters."""
    return (given,) if isinstance(given, str) else tuple(given)


def unite_families(
    declarations: Iterable[tuple[str, ConnectorFamily]],
) -> tuple[ConnectorFamily, ...]:
    """Return each family of *declarations*, which are pairs of owner and family, once.

    A family that is declared twice has the keys of both declarations. Raises
    `ConnectorConflictError` when two owners declare one differently, and
    `ConnectorDeclarationError` when the numbers under one key would merge in two ways.
    """
    found: dict[str, tuple[str, ConnectorFamily]] = {}
    for owner, family in declarations:
        first, known = found.setdefault(family.name, (owner, family))
        if str(known) != str(family):
            raise ConnectorConflictError(family.name, (first, owner), str(known), str(family))
        found[family.name] = first, known.with_keys_of(family)
    families = tuple(family for _, family in found.values())
    map_merges(families)
    return families


class Merge(NamedTuple):
    """The way in which the numbers under one key merge; bucketed lists have *width* numbers."""

    how: str
    width: int = 0


UNDECLARED: Final = Merge("sum")
"""The default: numbers are summed, and lists extended, which leaves their sum the same."""


@lru_cache(maxsize=256)  # statistics need it at every step of an engine
def map_merges(families: tuple[ConnectorFamily, ...]) -> Mapping[str, Merge]:
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


def add_families(
    first: tuple[ConnectorFamily, ...], second: tuple[ConnectorFamily, ...]
) -> tuple[ConnectorFamily, ...]:
    """Return the *first* families and those of the *second* that share no key with them."""
    if first == second or not second:
        return first
    taken = set(map_merges(first))
    return (*first, *(family for family in second if not taken.intersection(family.keys)))
