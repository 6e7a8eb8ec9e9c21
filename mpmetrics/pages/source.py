"""What a source of a page is, and what it gives.

A source gathers its families when the page calls it, and raises when it cannot. The page decides
what that costs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from mpmetrics.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from prometheus_client import Metric

    from mpmetrics.scrape import Collection, DirectoryReading


class Gathered(NamedTuple):
    """What a source gave: *families* and *problems*.

    A directory also gives the whole *collection*, and how many *processes* wrote its files, by
    state. Instead of families a source may give *readings* of directories, which are merged with
    those of the other sources, and whether each directory *is_up*, by its name.
    """

    families: Sequence[Metric]
    problems: Sequence[Problem] = ()
    collection: Collection | None = None
    processes: Mapping[str, int] = {}
    readings: Sequence[DirectoryReading] = ()
    is_up: Mapping[str, bool] = {}


def describe_failure(source: str, error: BaseException) -> Problem:
    """Return *error* as the problem that it is for the families of *source*."""
    return Problem(source, "source_failed", f"{type(error).__name__}: {error}")


@runtime_checkable
class Source(Protocol):
    """An object that gives families for a page.

    `name` is the value of the label `source` in the page's self-metrics. The families of a source
    that is `in_process` are this process's share only: the merged view of a directory beats them.
    """

    name: str
    in_process: bool

    def gather(self) -> Gathered:
        """Return the current families; raise any exception when that is impossible."""
        ...  # pragma: no cover - a protocol has no body


@runtime_checkable
class SegmentSource(Source, Protocol):
    """A source that reads directories, whose segments are merged with those of other sources."""

    def read_segments(self) -> Gathered:
        """Return current readings instead of families; raise any exception if impossible."""
        ...  # pragma: no cover - a protocol has no body


@runtime_checkable
class Collector(Protocol):
    """A `prometheus_client.CollectorRegistry`, or anything else that collects."""

    def collect(self) -> Iterable[Metric]:
        """Return or yield families."""
        ...  # pragma: no cover - a protocol has no body


@runtime_checkable
class SourceGroup(Protocol):
    """An object that stands for several sources: a `mpmetrics.Registration`."""

    def sources(self) -> Sequence[Source]:
        """Return the sources."""
        ...  # pragma: no cover - a protocol has no body


@runtime_checkable
class SupportsReadiness(Protocol):
    """A source or a collector that knows when what it reads is missing."""

    def readiness_errors(self) -> Sequence[str]:
        """Return a line for each thing that is missing now."""
        ...  # pragma: no cover - a protocol has no body
