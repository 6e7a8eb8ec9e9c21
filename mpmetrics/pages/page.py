"""One page from several sources: their union, filtered, labelled, and never lost as a whole."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeAlias

from mpmetrics._problem_log import ProblemLog
from mpmetrics._shared_call import SharedCall
from mpmetrics.directory import unusable_reason
from mpmetrics.exposition import Format, PrefixFilter, check_labels, render_families
from mpmetrics.pages.directories import drop_repeated
from mpmetrics.pages.directory_source import DirectorySource
from mpmetrics.pages.gathering import Gathering
from mpmetrics.pages.self_metrics import SelfMetrics, SourceName
from mpmetrics.pages.source import SupportsReadiness
from mpmetrics.pages.sources import Sources, as_sources
from mpmetrics.pages.union import Contribution, add_labels, join_families, with_samples

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from prometheus_client import Metric

    from mpmetrics.exposition import Prefixes
    from mpmetrics.pages.source import Source


class Page:
    """The union of *sources*: one of `mpmetrics.pages.SourceLike`, or several.

    A source is the path of a multiprocess directory, a registry or another object with `collect`,
    a function that returns text, or the http(s) URL of another exporter. A `Registration` stands
    for the sources of its page. *include* and *exclude* are prefixes of family names, a string or
    several; exclude beats include. *labels* are added to every series that does not have a label of
    that name.

    A source that fails costs its own families only: `mpmetrics_source_up` is 0 for it. With a
    *timeout*, in seconds, all sources are called at once, each in a thread of its own. For a late
    source `mpmetrics_source_up` is 0, too, but the page has what the source gave last, and its age.

    Several directories are merged as one directory with the files of all: counters add up. Series
    of single processes then have, beside `pid`, the *directory_label* with the name of their
    directory. It is `directory` by default; if you give it, a page with one directory has it, too.

    Scrapes that overlap share one reading of the sources: a scrape that begins during a reading
    gets its result.

    Raises `SourceError`, `FilterError` or `LabelError`, before anything is scraped.
    """

    def __init__(  # noqa: PLR0913 - public API; those behind the star are rare
        self,
        sources: Sources,
        include: Prefixes = (),
        exclude: Prefixes = (),
        labels: Mapping[str, str] | None = None,
        *,
        timeout: float | None = None,
        directory_label: str | None = None,
    ) -> None:
        """Configure the page; nothing is read yet."""
        self.sources: Sequence[Source] = drop_repeated(as_sources(sources))
        self._filter = PrefixFilter.of(include, exclude)
        self._labels = check_labels(labels)
        self._problem_log = ProblemLog()
        self._gathering = Gathering(self.sources, timeout, directory_label=directory_label)
        self._gather = SharedCall(self._gather_now)

    def readiness_errors(self) -> list[str]:
        """Return a line for each source that is known to be missing now: which, and why.

        These are directories that cannot be read, and sources or collectors that have a method of
        this name and return lines.
        """
        directories = [source for source in self.sources if isinstance(source, DirectorySource)]
        reasons = [(source.path, unusable_reason(source.path)) for source in directories]
        others = [source for source in self.sources if isinstance(source, SupportsReadiness)]
        return [
            *(f"{path}: {why}" for path, why in reasons if why),
            *(error for source in others for error in source.readiness_errors()),
        ]

    def give_up_waiting(self) -> None:
        """End the wait of a scrape for late sources; its page has what they gave last."""
        self._gathering.give_up_waiting()

    def families(self) -> list[Metric]:
        """Scrape all sources and return the families of the page, sorted by name."""
        return [add_labels(family, self._labels) for family in self._gather()]

    def render(self, openmetrics: bool = False) -> bytes:  # noqa: FBT001, FBT002 - public API
        """Scrape all sources and return the page: text format 0.0.4, or OpenMetrics 1.0."""
        return self.write(Format(openmetrics=openmetrics))

    def write(
        self, form: Format, names: Sequence[str] = (), *, within: float | None = None
    ) -> bytes:
        """Return the page in the given format; with *names* only those samples or families.

        A page with a timeout waits only *within* seconds for its sources, if that is less.
        """
        families = _restrict(self._gather(within), names)
        return render_families(families, form._replace(labels=self._labels))

    def _gather_now(self, within: float | None = None) -> list[Metric]:
        """Scrape all sources, join them, add the self-metrics of the scrape, and filter."""
        start = time.perf_counter()
        self._gathering.start()
        answers = self._gathering.wait(within)
        named = list(zip(map(SourceName, self._gathering.names), answers, strict=True))
        joined = join_families(
            Contribution(name, source.in_process, answer.gathered.families)
            for source, ((name,), answer) in zip(self.sources, named, strict=True)
        )
        problems = [problem for answer in answers for problem in answer.gathered.problems]
        self._problem_log.report(problems + joined.problems)
        self_metrics = SelfMetrics(named, joined.shadowed, self._problem_log.counts())
        own = self_metrics.families(time.perf_counter() - start)
        # A source may be such a page itself. Our own self-metrics come first, and win.
        everything = join_families(
            [Contribution("", in_process=False, families=own + joined.families)]
        ).families
        return [each for each in everything if self._filter.accepts(each.name, each.type)]


PageLike: TypeAlias = Page | Sources
"""What stands for a page: a `Page`, or whatever a `Page` can be made of."""


def as_page(given: PageLike) -> Page:
    """Return *given* if it is a page, else a page of the sources that it stands for.

    Raises `SourceError` if it stands for no source.
    """
    return given if isinstance(given, Page) else Page(given)


def _restrict(families: Iterable[Metric], names: Sequence[str]) -> Iterable[Metric]:
    """Yield the *families* that are named in *names*, or of others the samples that are."""
    for family in families:
        if not names or family.name in names:
            yield family
        else:
            samples = [sample for sample in family.samples if sample.name in names]
            if samples:
                yield with_samples(family, samples)
