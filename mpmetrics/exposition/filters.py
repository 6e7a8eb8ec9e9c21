"""Prefix filters, and labels to inject: what a caller configures of a page, checked at once.

A filter compares prefixes with the name of the *family*, so it never cuts a histogram in two. A
prefix may name a counter with or without its `_total`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics.errors import FilterError, LabelError
from mpmetrics.exposition.names import exposed_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mpmetrics.format import Labels


Prefixes = str | Iterable[str | Iterable[str]] | None
"""What callers pass as prefixes: one prefix of family names, or several, which may be in groups."""

_LABEL_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_RESERVED_LABELS: Final = {
    "le": "it names the bounds of histogram buckets",
    "quantile": "it names the quantiles of summaries",
}


class PrefixFilter(NamedTuple):
    """Prefixes of family names: to *include* (none of them: all families) and to *exclude*.

    A family that both apply to is excluded.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    @classmethod
    def of(cls, include: Prefixes = (), exclude: Prefixes = ()) -> PrefixFilter:
        """Make a filter from what a caller passes as prefixes.

        Raises `FilterError` for what is not a string, and for "", which would match every name.
        """
        return cls(_flatten(include), _flatten(exclude))

    def accepts(self, name: str, kind: str) -> bool:
        """Return whether the family *name* of type *kind* passes."""
        names = (name, exposed_name(name, kind))
        if any(each.startswith(self.exclude) for each in names):
            return False
        return not self.include or any(each.startswith(self.include) for each in names)


def _flatten(given: Prefixes) -> tuple[str, ...]:
    """Return all prefixes, also those in groups, as one tuple. Raises `FilterError`."""
    several: tuple[object, ...] = (given,)
    if given is None or (isinstance(given, Iterable) and not isinstance(given, str)):
        several = tuple(given or ())
    prefixes = tuple(
        prefix
        for each in several
        for prefix in (each if isinstance(each, tuple | list | set | frozenset) else (each,))
    )
    for prefix in prefixes:
        if not isinstance(prefix, str) or not prefix:
            message = f"not a prefix to filter by: {prefix!r}"
            raise FilterError(message)
    return prefixes


def check_labels(labels: Mapping[str, str] | None) -> Labels:
    """Return *labels* to inject as sorted pairs. Raises `LabelError` for one not allowed."""
    for name, value in (labels or {}).items():
        if not isinstance(name, str) or not _LABEL_NAME.fullmatch(name):
            raise LabelError(name, "not a valid label name")
        if name.startswith("__"):
            raise LabelError(name, "names that begin with __ are for Prometheus itself")
        if name in _RESERVED_LABELS:
            raise LabelError(name, _RESERVED_LABELS[name])
        if not isinstance(value, str):
            raise LabelError(name, f"its value {value!r} is not a string")
    return tuple(sorted((labels or {}).items()))
