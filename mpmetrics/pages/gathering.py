"""The sources of a page, asked together, and a check of what they give.

A source runs code that is not ours. Whatever it raises or returns costs its own families only.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mpmetrics.errors import Problem
from mpmetrics.exposition import METRIC_TYPES, TOTAL, Format, render_family
from mpmetrics.merging import MergedFamily
from mpmetrics.pages.sources import Gathered
from mpmetrics.pages.timed_source import Answer, TimedSource
from mpmetrics.pages.union import with_samples
from mpmetrics.scrape import cover_directories

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client import Metric
    from prometheus_client.samples import Sample

    from mpmetrics.pages.sources import Source


class Gathering:
    """The *sources* of one page, asked again and again by one caller at a time.

    With a *timeout*, in seconds, all are called at once, each in a thread of its own.
    """

    def __init__(self, sources: Sequence[Source], timeout: float | None = None) -> None:
        """Configure only; nothing is read yet."""
        self.sources = sources
        self._timed: list[TimedSource] = []
        if timeout is not None:
            self._timed = [
                TimedSource(source.name, partial(self._gather, source), timeout)
                for source in sources
            ]

    def start(self) -> None:
        """Start to call the sources if there is a time limit, which begins now."""
        for source in self._timed:
            source.start()

    def wait(self, within: float | None = None) -> list[Answer]:
        """Return the answer of each source, *within* that many seconds after `start`.

        Without a time limit, call the sources one after the other.
        """
        if not self._timed:
            return [Answer(self._gather(source)) for source in self.sources]
        return [source.wait(within) for source in self._timed]

    def give_up_waiting(self) -> None:
        """End the `wait` of the caller now; sources that have not answered are late."""
        for source in self._timed:
            source.give_up_waiting()

    def _gather(self, source: Source) -> Gathered:
        """Call one source; an exception becomes a problem."""
        # A collector in a registry must not read a directory that is a source itself.
        with cover_directories(self._directories()):
            try:
                return drop_invalid_families(source.name, source.gather())
            except Exception as error:  # whatever it was, the next call may succeed
                return Gathered((), [_failure(source.name, error)])

    def _directories(self) -> Iterator[str]:
        """Yield the directories that the sources read now; a source may change to another."""
        for source in self.sources:
            path = getattr(source, "path", None)
            if isinstance(path, str):
                yield path


def drop_invalid_families(source: str, given: Gathered) -> Gathered:
    """Drop families without samples, and those that cannot be written; report the latter.

    Families that were merged here are valid. All others come from code that is not ours.
    """
    families: list[Metric] = []
    problems = list(given.problems)
    for family in given.families:
        try:
            families.extend([family] if isinstance(family, MergedFamily) else _normalise(family))
        except Exception as error:
            problems.append(_failure(source, error))
    return given._replace(families=families, problems=problems)


def _normalise(family: Metric) -> list[Metric]:
    """Return *family* with names and label values as they are written; nothing if it is empty.

    Raises whatever the family's faults make the writing raise.
    """
    if family.type not in METRIC_TYPES:
        message = f"{family.name!r} is of no known type: {family.type!r}"
        raise ValueError(message)
    samples = [_with_text_labels(sample) for sample in family.samples]
    if family.type == "counter":
        # The formats write the suffix in any case. Without it the same series could be there twice.
        total = family.name + TOTAL
        samples = [
            sample._replace(name=total) if sample.name == family.name else sample
            for sample in samples
        ]
    if not samples:
        return []
    if not family.name:
        message = "a family without a name"
        raise ValueError(message)
    normal = with_samples(family, samples)
    render_family(normal, Format(openmetrics=True))  # raises if it cannot be written
    return [normal]


def _with_text_labels(sample: Sample) -> Sample:
    """Return *sample* with text for label values.

    Raises `ValueError` for label names that a sample cannot have.
    """
    is_text = True
    for name, value in sample.labels.items():
        if not name or name.startswith("__"):
            message = f"{sample.name!r} has a label with the name {name!r}"
            raise ValueError(message)
        is_text = is_text and isinstance(value, str)
    if is_text:
        return sample
    return sample._replace(labels={name: str(value) for name, value in sample.labels.items()})


def _failure(source: str, error: Exception) -> Problem:
    """Return *error* as the problem that it is for the families of *source*."""
    return Problem(source, "source_failed", f"{type(error).__name__}: {error}")
