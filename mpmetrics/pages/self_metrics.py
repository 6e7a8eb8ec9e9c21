"""What a page reports about its own making: the families `mpmetrics_*`."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, Union

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from mpmetrics.pages.timed_source import is_up

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from prometheus_client import Metric

    from mpmetrics.directory import WorkerFile
    from mpmetrics.pages.source import Gathered, Source
    from mpmetrics.pages.timed_source import Answer
    from mpmetrics.scrape import Collection, DirectoryReading
    from mpmetrics.system import Space


class SourceName(NamedTuple):
    """The *name* of a source, as a page shows it."""

    name: str


Named: TypeAlias = Union[SourceName, "Source"]
"""A source, or what it is called."""


class SelfMetrics(NamedTuple):
    """The self-metrics of one scrape.

    *gathered* has the answer of each source, *shadowed* is how many in-process families lost to
    the merged view, *problems* how often each reason has come up so far.
    """

    gathered: Sequence[tuple[Named, Answer]]
    shadowed: int
    problems: Mapping[str, int]

    def families(self, duration: float) -> list[Metric]:
        """Return the families of a scrape that took *duration* seconds; empty ones are left out."""
        families = (
            source_up_family(self.gathered),
            self._age_family(),
            _gauge(
                "mpmetrics_scrape_duration_seconds",
                "How long it took to gather and join all sources",
                {(): duration},
            ),
            _gauge(
                "mpmetrics_families_shadowed",
                "Families of this process that the merged view replaces",
                {(): float(self.shadowed)},
            ),
            problems_family(self.problems),
            *self._directory_families(),
        )
        return [family for family in families if family.samples]

    def _age_family(self) -> Metric:
        """Return the ages of all answers; of several sources with one name, the oldest counts."""
        ages: dict[tuple[str, ...], float] = {}
        for source, answer in self.gathered:
            if answer.age is not None:
                ages[source.name,] = max(answer.age, ages.get((source.name,), 0.0))
        help_text = "Age of the families that the source gave, 0 if they are of this scrape"
        return _gauge("mpmetrics_source_age_seconds", help_text, ages, "source")

    def _directory_families(self) -> list[Metric]:
        """Return what is known about the multiprocess directories."""
        answers = [answer.gathered for _, answer in self.gathered]
        collections: list[Collection | DirectoryReading] = []
        processes: Counter[tuple[str, ...]] = Counter()
        for each in answers:
            collections += [each.collection] if each.collection is not None else each.readings
            for found in (each.processes, *(reading.processes for reading in each.readings)):
                processes.update({(state,): count for state, count in found.items()})
        files = [file for each in collections for file in each.files]
        kinds: Counter[tuple[str, ...]] = Counter((_kind(file),) for file in files)
        quarantined = sum(len(each.quarantined) for each in collections)
        kinds += Counter({("quarantined",): quarantined})
        return [
            _gauge("mpmetrics_files", "Files of the directory", kinds, "kind"),
            _gauge(
                "mpmetrics_processes",
                "Processes that wrote the files of the directory",
                processes,
                "state",
            ),
            _gauge(
                "mpmetrics_directory_bytes",
                "Space that the files of the directory take on disk",
                {(): sum(_allocated_bytes(file.path) for file in files)} if files else {},
            ),
            *_space_families([space for each in answers for space in _spaces(each)]),
        ]


def _spaces(gathered: Gathered) -> Iterator[Space]:
    """Yield the space of each file system that has been read."""
    for reading in gathered.readings:
        if reading.space is not None:
            yield reading.space


def _space_families(spaces: Sequence[Space]) -> Iterator[Metric]:
    """Yield how much is free; of several file systems, the one with the least counts."""
    yield _gauge(
        "mpmetrics_directory_free_bytes",
        "Free space of the file system of the directory",
        {(): min(space.free for space in spaces)} if spaces else {},
    )
    inodes = [space.free_inodes for space in spaces if space.inodes]
    yield _gauge(
        "mpmetrics_directory_free_inodes",
        "Files that the file system of the directory can still take",
        {(): min(inodes)} if inodes else {},
    )


def problems_family(problems: Mapping[str, int]) -> Metric:
    """Return how many *problems* there were, by reason."""
    family = CounterMetricFamily(
        "mpmetrics_problems", "Things that were wrong with the input", labels=["reason"]
    )
    for reason, count in sorted(problems.items()):
        family.add_metric([reason], count)
    return family


def source_up_family(gathered: Sequence[tuple[Named, Answer]]) -> Metric:
    """Return for each source whether it is up; of several with one name, all have to be."""
    up: dict[tuple[str, ...], float] = {}
    for source, answer in gathered:
        of_source = (source.name, is_up(answer.gathered))
        for name, is_good in [of_source, *answer.gathered.is_up.items()]:
            up[name,] = min(float(is_good), up.get((name,), 1.0))
    return _gauge("mpmetrics_source_up", "Whether the source gave its families", up, "source")


def _kind(file: WorkerFile) -> str:
    """Return what *file* is: an archive, or a worker's file of one type of metric."""
    return "archive" if file.name.is_archive else file.name.type


def _allocated_bytes(path: str) -> int:
    """Return how many bytes the file *path* takes on disk; the files are sparse."""
    try:
        status: Any = os.stat(path)
    except OSError:
        return 0
    return int(getattr(status, "st_blocks", 0)) * 512 or int(status.st_size)


def _gauge(
    name: str, help_text: str, values: Mapping[tuple[str, ...], float], *labels: str
) -> Metric:
    """Return a gauge with a value for each tuple of label values."""
    family = GaugeMetricFamily(name, help_text, labels=labels)
    for label_values, value in sorted(values.items()):
        family.add_metric(label_values, value)
    return family
