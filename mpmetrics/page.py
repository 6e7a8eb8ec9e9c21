"""One page from several sources: their union, filtered, labelled, and never lost as a whole."""

from __future__ import annotations

import os
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import METRIC_TYPES

from mpmetrics.collector import covered
from mpmetrics.environment import why_unusable
from mpmetrics.errors import Problem
from mpmetrics.exposition import Format, family_text, write
from mpmetrics.families import MergedFamily
from mpmetrics.filters import PrefixFilter, checked_labels
from mpmetrics.punctual import NOT_UP, Answer, Punctual
from mpmetrics.sharing import SharedCall
from mpmetrics.sources import DirectorySource, Gathered, Source, as_source
from mpmetrics.troubles import Troubles
from mpmetrics.union import Contribution, unite, with_samples

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from prometheus_client import Metric

    from mpmetrics.files import WorkerFile
    from mpmetrics.series import Labels

    Prefixes = str | Iterable[str] | None


class Page:
    """The union of *sources*, each of them one of `mpmetrics.sources` or what stands for one.

    A path is a multiprocess directory, something with `collect` a registry, a callable a text
    callback, an http(s) URL another exporter. *include* and *exclude* are prefixes of family
    names, a string or several; exclude beats include. *labels* are added to every series that
    does not have a label of that name.

    A source that fails costs its own families only: `mpmetrics_source_up` says 0 for it. With a
    *timeout*, in seconds, all sources are asked at once, each in a thread of its own. One that
    is late is up 0, too, but the page has what it gave last, and its age.

    Scrapes that overlap share one gathering: whoever comes while it lasts gets its result.
    Raises `SourceError`, `FilterError` or `LabelError`, all before anything is scraped.
    """

    def __init__(
        self,
        sources: object,
        include: Prefixes = (),
        exclude: Prefixes = (),
        labels: Mapping[str, str] | None = None,
        *,
        timeout: float | None = None,
    ) -> None:
        """Configure the page; nothing is read yet."""
        several = isinstance(sources, list | tuple | set | frozenset)
        self.sources: Sequence[Source] = [
            as_source(source)
            for source in (sources if several else [sources])  # type: ignore[attr-defined]
        ]
        self._filter = PrefixFilter.of(include, exclude)
        self._labels = checked_labels(labels)
        self._troubles = Troubles()
        self._directories = frozenset(
            os.path.realpath(source.path)
            for source in self.sources
            if isinstance(source, DirectorySource)
        )
        self._punctual: list[Punctual] = []
        if timeout is not None:
            self._punctual = [
                Punctual(source.name, partial(self._ask, source), timeout)
                for source in self.sources
            ]
        self._gather = SharedCall(self._gather_now)

    def why_unready(self) -> list[str]:
        """Return a line for each directory that cannot be read now: what, and why."""
        directories = [source for source in self.sources if isinstance(source, DirectorySource)]
        reasons = [(source.path, why_unusable(source.path)) for source in directories]
        return [f"{path}: {why}" for path, why in reasons if why]

    def give_up_waiting(self) -> None:
        """Have a scrape that waits for a late source go on with what there is."""
        for each in self._punctual:
            each.give_up()

    def families(self) -> list[Metric]:
        """Scrape all sources and return the families of the page, sorted by name."""
        return [_labelled(family, self._labels) for family in self._gather()]

    def render(self, openmetrics: bool = False) -> bytes:  # noqa: FBT001, FBT002 - public API
        """Scrape all sources and return the page: text format 0.0.4, or OpenMetrics 1.0."""
        return self.write(Format(openmetrics=openmetrics))

    def write(
        self, form: Format, names: Collection[str] = (), *, within: float | None = None
    ) -> bytes:
        """Return the page in the given format; with *names* only those samples or families.

        A page with a timeout waits only *within* seconds for its sources, if that is less.
        """
        families = _restricted(self._gather(within), names)
        return write(families, form._replace(labels=self._labels))

    def _gather_now(self, within: float | None = None) -> list[Metric]:
        """Scrape all sources, join them, add what is known about the scrape, and filter."""
        start = time.perf_counter()
        gathered = list(zip(self.sources, self._answers(within), strict=True))
        union = unite(
            Contribution(source.name, source.in_process, answer.gathered.families)
            for source, answer in gathered
        )
        problems = [problem for _, answer in gathered for problem in answer.gathered.problems]
        self._troubles.see(problems + union.problems)
        about = _AboutScrape(gathered, union.shadowed, self._troubles.counts())
        own = about.families(time.perf_counter() - start)
        # A source may be such a page itself: what it says of its own scrape stands behind ours.
        everything = unite(
            [Contribution("", in_process=False, families=own + union.families)]
        ).families
        return [each for each in everything if self._filter.accepts(each.name, each.type)]

    def _answers(self, within: float | None) -> list[Answer]:
        """Return what each source has, or had, *within* so many seconds."""
        if not self._punctual:
            return [Answer(self._ask(source)) for source in self.sources]
        for each in self._punctual:
            each.ask()
        return [each.answer(within) for each in self._punctual]

    def _ask(self, source: Source) -> Gathered:
        """Gather one source; an exception becomes a problem."""
        token = covered.set(self._directories)
        try:
            return _sound(source.name, source.gather())
        except Exception as error:  # noqa: BLE001 - sources are anybody's code
            return Gathered((), [_failure(source.name, error)])
        finally:
            covered.reset(token)


def _sound(source: str, answer: Gathered) -> Gathered:
    """Leave out families without samples, and report those that nobody could write.

    Only what was merged here is beyond doubt; everything else is somebody's code.
    """
    families = []
    problems = list(answer.problems)
    for family in answer.families:
        try:
            if isinstance(family, MergedFamily) or _is_written(family):
                families.append(family)
        except Exception as error:  # noqa: BLE001 - a family may be anything
            problems.append(_failure(source, error))
    return answer._replace(families=families, problems=problems)


def _is_written(family: Metric) -> bool:
    """Tell whether there is anything to write of *family*; raise whatever is wrong with it."""
    if family.type not in METRIC_TYPES:
        message = f"{family.name!r} is of no known type: {family.type!r}"
        raise ValueError(message)
    return bool(family_text(family, Format(openmetrics=True)))


def _failure(source: str, error: Exception) -> Problem:
    """Return the problem that *error* is, once it has cost something of a *source*."""
    return Problem(source, "source_failed", f"{type(error).__name__}: {error}")


class _AboutScrape(NamedTuple):
    """What a page says about its own making."""

    gathered: Sequence[tuple[Source, Answer]]
    shadowed: int
    problems: Mapping[str, int]

    def families(self, duration: float) -> list[Metric]:
        """Return the self-metrics of a scrape that took *duration* seconds."""
        up: dict[tuple[str, ...], float] = {}
        ages: dict[tuple[str, ...], float] = {}
        for source, answer in self.gathered:
            # Of several sources with one name all have to work.
            up[source.name,] = min(float(_is_up(answer.gathered)), up.get((source.name,), 1.0))
            if answer.age is not None:
                ages[source.name,] = max(answer.age, ages.get((source.name,), 0.0))
        return [
            family
            for family in (
                _gauge("mpmetrics_source_up", "Whether the source gave its families", up, "source"),
                _gauge(
                    "mpmetrics_source_age_seconds",
                    "Age of the families that the source gave, 0 if they are of this scrape",
                    ages,
                    "source",
                ),
                _gauge(
                    "mpmetrics_scrape_duration_seconds",
                    "How long it took to gather and join all sources",
                    {(): duration},
                ),
                _gauge(
                    "mpmetrics_families_shadowed",
                    "In-process families that lost to the merged view",
                    {(): float(self.shadowed)},
                ),
                self._problems_family(),
                *self._directory_families(),
            )
            if family.samples
        ]

    def _problems_family(self) -> Metric:
        family = CounterMetricFamily(
            "mpmetrics_problems", "Things that were wrong with the input", labels=["reason"]
        )
        for reason, count in sorted(self.problems.items()):
            family.add_metric([reason], count)
        return family

    def _directory_families(self) -> list[Metric]:
        """Return what is known about the multiprocess directories."""
        answers = [answer.gathered for _, answer in self.gathered]
        collections = [each.collection for each in answers if each.collection is not None]
        files = [file for each in collections for file in each.files]
        kinds: Counter[tuple[str, ...]] = Counter((_kind(file),) for file in files)
        set_aside = sum(len(each.quarantined) for each in collections)
        kinds += Counter({("quarantined",): set_aside})
        processes: Counter[tuple[str, ...]] = Counter()
        for each in answers:
            processes.update({(state,): count for state, count in each.processes.items()})
        return [
            _gauge("mpmetrics_files", "Files of the directory, by what they are", kinds, "kind"),
            _gauge("mpmetrics_processes", "Processes that wrote them", processes, "state"),
            _gauge(
                "mpmetrics_directory_bytes",
                "Space that these files take on disk",
                {(): sum(_allocated(file.path) for file in files)} if files else {},
            ),
        ]


def _kind(file: WorkerFile) -> str:
    """Return what *file* is: an archive, or a worker's file of one type of metric."""
    return "archive" if file.name.is_archive else file.name.type


def _is_up(answer: Gathered) -> bool:
    """Tell whether a source gave all that it has."""
    return not any(problem.reason in NOT_UP for problem in answer.problems)


def _allocated(path: str) -> int:
    """Return how many bytes the file *path* takes; the files are sparse."""
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


def _labelled(family: Metric, labels: Labels) -> Metric:
    """Return *family* with *labels* added to each sample that lacks them."""
    if not labels:
        return family
    samples = [
        sample._replace(labels={**dict(labels), **sample.labels}) for sample in family.samples
    ]
    return with_samples(family, samples)


def _restricted(families: Iterable[Metric], names: Collection[str]) -> Iterable[Metric]:
    """Yield the *families*, or of those only the samples, that are named in *names*."""
    for family in families:
        if not names or family.name in names:
            yield family
        else:
            samples = [sample for sample in family.samples if sample.name in names]
            if samples:
                yield with_samples(family, samples)
