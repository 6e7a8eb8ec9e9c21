"""Several sources that are asked together: each soundly, and in time if there is a limit.

A source is anybody's code. Whatever it raises or gives, the others are not concerned.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from prometheus_client.metrics_core import METRIC_TYPES

from mpmetrics.errors import Problem
from mpmetrics.exposition import Format, render_family
from mpmetrics.merging import MergedFamily
from mpmetrics.pages.deadlines import Answer, TimedSource
from mpmetrics.pages.sources import Gathered
from mpmetrics.pages.union import with_samples
from mpmetrics.scrape import cover_directories

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client import Metric
    from prometheus_client.samples import Sample

    from mpmetrics.pages.sources import Source


class Gathering:
    """The *sources* of one page, asked again and again by one caller at a time.

    With a *timeout*, in seconds, all are asked at once, each in a thread of its own.
    """

    def __init__(self, sources: Sequence[Source], timeout: float | None = None) -> None:
        """Configure only; nothing is read yet."""
        self.sources = sources
        self._punctual: list[TimedSource] = []
        if timeout is not None:
            self._punctual = [
                TimedSource(source.name, partial(self._ask, source), timeout) for source in sources
            ]

    def ask(self) -> None:
        """Begin to gather, where there is a time limit: it begins to run now."""
        for each in self._punctual:
            each.ask()

    def answers(self, within: float | None = None) -> list[Answer]:
        """Return what each source has, or had, *within* so many seconds after `ask`."""
        if not self._punctual:
            return [Answer(self._ask(source)) for source in self.sources]
        return [each.answer(within) for each in self._punctual]

    def give_up_waiting(self) -> None:
        """Have whoever waits for a late source go on with what there is."""
        for each in self._punctual:
            each.give_up()

    def _ask(self, source: Source) -> Gathered:
        """Gather one source; an exception becomes a problem."""
        # A collector in a registry must not read a directory that is a source itself.
        with cover_directories(self._directories()):
            try:
                return _sound(source.name, source.gather())
            except Exception as error:  # the next time may do better, whatever it was
                return Gathered((), [_failure(source.name, error)])

    def _directories(self) -> Iterator[str]:
        """Yield the directories that sources read, now: a source may go over to another."""
        for source in self.sources:
            path = getattr(source, "path", None)
            if isinstance(path, str):
                yield path


def _sound(source: str, answer: Gathered) -> Gathered:
    """Leave out families without samples, and report those that nobody could write.

    Only what was merged here is beyond doubt; everything else is somebody's code.
    """
    families: list[Metric] = []
    problems = list(answer.problems)
    for family in answer.families:
        try:
            families.extend([family] if isinstance(family, MergedFamily) else _written(family))
        except Exception as error:
            problems.append(_failure(source, error))
    return answer._replace(families=families, problems=problems)


def _written(family: Metric) -> list[Metric]:
    """Return *family* with names and label values as they are written; nothing if it is empty.

    Raises whatever is wrong with it.
    """
    if family.type not in METRIC_TYPES:
        message = f"{family.name!r} is of no known type: {family.type!r}"
        raise ValueError(message)
    samples = [_with_text(sample) for sample in family.samples]
    if family.type == "counter":
        # They are written with it, so without it the same series could be there twice.
        total = f"{family.name}_total"
        samples = [
            sample._replace(name=total) if sample.name == family.name else sample
            for sample in samples
        ]
    if not samples:
        return []
    if not family.name:
        message = "a family without a name"
        raise ValueError(message)
    sound = with_samples(family, samples)
    render_family(sound, Format(openmetrics=True))
    return [sound]


def _with_text(sample: Sample) -> Sample:
    """Return *sample* with text for label values. Raises `ValueError` for names it cannot have."""
    text = True
    for name, value in sample.labels.items():
        if not name or name.startswith("__"):
            message = f"{sample.name!r} has a label with the name {name!r}"
            raise ValueError(message)
        text = text and isinstance(value, str)
    if text:
        return sample
    return sample._replace(labels={name: str(value) for name, value in sample.labels.items()})


def _failure(source: str, error: Exception) -> Problem:
    """Return the problem that *error* is, once it has cost something of a *source*."""
    return Problem(source, "source_failed", f"{type(error).__name__}: {error}")
