"""The names on a page: those of each metric type's samples, and which family has which name.

The suffixes are those of https://prometheus.io/docs/specs/om/open_metrics_spec/. This is the only
table of them: whatever has to know the name of a sample asks here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet

TOTAL: Final = "_total"
BUCKET: Final = "_bucket"
SUM: Final = "_sum"
COUNT: Final = "_count"
GAUGE_SUM: Final = "_gsum"
GAUGE_COUNT: Final = "_gcount"
CREATED: Final = "_created"
INFO: Final = "_info"


class MetricType(NamedTuple):
    """The names of one metric type.

    *samples* are the suffixes that its samples add to the family's name. The text format, which
    knows fewer types, calls the type *text_type* and adds *text_suffix* to the family's name.
    *exemplars* is the suffix of the samples that may have one, "" for none. With *has_created*,
    prometheus_client adds a sample for the time at which a child was made.
    """

    samples: tuple[str, ...]
    text_type: str
    text_suffix: str = ""
    exemplars: str = ""
    has_created: bool = False


METRIC_TYPES: Final[Mapping[str, MetricType]] = {
    "counter": MetricType((TOTAL,), "counter", TOTAL, exemplars=TOTAL, has_created=True),
    "gauge": MetricType(("",), "gauge"),
    "summary": MetricType((SUM, COUNT), "summary", has_created=True),
    "histogram": MetricType((BUCKET, SUM, COUNT), "histogram", exemplars=BUCKET, has_created=True),
    "gaugehistogram": MetricType((BUCKET, GAUGE_SUM, GAUGE_COUNT), "histogram", exemplars=BUCKET),
    "info": MetricType((INFO,), "gauge", INFO),
    "stateset": MetricType(("",), "gauge"),
    "unknown": MetricType(("",), "untyped"),
}

UNTYPED: Final = METRIC_TYPES["unknown"].text_type

TEXT_ASIDE: Final = (CREATED, GAUGE_COUNT, GAUGE_SUM)
"""Samples that only OpenMetrics counts to the family: in text they are gauges of their own."""


def metric_type(kind: str) -> MetricType:
    """Return the names of the type *kind*; one that is not in the table has its own name only."""
    return METRIC_TYPES.get(kind) or MetricType((), kind)


def types_agree(kind: str, other: str) -> bool:
    """Return whether families of these two types can be one family of the text format.

    It writes some types alike, such as info and gauge, and unknown agrees with any.
    """
    types = {metric_type(each).text_type for each in (kind, other)}
    return len(types - {UNTYPED}) <= 1


def exposed_name(name: str, kind: str, *, openmetrics: bool = False) -> str:
    """Return the name that HELP and TYPE carry for family *name* of type *kind*."""
    return name if openmetrics else name + metric_type(kind).text_suffix


def exposed_names(name: str, kind: str) -> frozenset[str]:
    """Return every name that family *name* of type *kind* has on a page, in either format."""
    of_type = metric_type(kind)
    return frozenset(name + suffix for suffix in ("", of_type.text_suffix, *of_type.samples))


def registered_names(name: str, kind: str) -> tuple[str, ...]:
    """Return the names that prometheus_client's registry reserves for a metric."""
    of_type = metric_type(kind)
    created = (CREATED,) if of_type.has_created else ()
    return tuple(dict.fromkeys(name + suffix for suffix in ("", *of_type.samples, *created)))


class NameClaims:
    """The names that families have claimed on one page; a name belongs to its first family."""

    def __init__(self) -> None:
        """Start with every name free."""
        self._owners: dict[str, str] = {}

    def claim(
        self, name: str, kind: str, source: str, samples: Iterable[str] = ()
    ) -> Problem | None:
        """Claim every name that family *name* of type *kind* exposes, and those of its *samples*.

        If another family has one of the names, claim none and return a problem of *source*.
        """
        return self.claim_names(name, exposed_names(name, kind).union(samples), source)

    def claim_names(self, name: str, names: AbstractSet[str], source: str) -> Problem | None:
        """Claim *names* for the family *name*; do and return what `claim` does and returns."""
        taken = min(names & self._owners.keys(), default=None)
        if taken is not None:
            detail = f"families {name!r} and {self._owners[taken]!r} both expose {taken!r}"
            return Problem(source, "name_clash", f"{detail}; {name!r} is left out")
        self._owners.update(dict.fromkeys(names, name))
        return None
