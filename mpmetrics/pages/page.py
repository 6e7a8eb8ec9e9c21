"""One page from several sources: their union, filtered, labelled, and never lost as a whole."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mpmetrics._problem_log import ProblemLog
from mpmetrics._shared_call import SharedCall
from mpmetrics.directory import unusable_reason
from mpmetrics.exposition import Format, PrefixFilter, check_labels, render_families
from mpmetrics.pages.gathering import Gathering
from mpmetrics.pages.self_metrics import AboutScrape
from mpmetrics.pages.sources import DirectorySource, Source, as_source
from mpmetrics.pages.union import Contribution, add_labels, join_families, with_samples

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from prometheus_client import Metric

    from mpmetrics.exposition import Prefixes


class Page:
    """The union of *sources*, each of them one of `mpmetrics.pages.sources` or what stands for one.

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
        self._labels = check_labels(labels)
        self._problem_log = ProblemLog()
        self._gathering = Gathering(self.sources, timeout)
        self._gather = SharedCall(self._gather_now)

    def readiness_errors(self) -> list[str]:
        """Return a line for each directory that cannot be read now: what, and why."""
        directories = [source for source in self.sources if isinstance(source, DirectorySource)]
        reasons = [(source.path, unusable_reason(source.path)) for source in directories]
        return [f"{path}: {why}" for path, why in reasons if why]

    def give_up_waiting(self) -> None:
        """Have a scrape that waits for a late source go on with what there is."""
        self._gathering.give_up_waiting()

    def families(self) -> list[Metric]:
        """Scrape all sources and return the families of the page, sorted by name."""
        return [add_labels(family, self._labels) for family in self._gather()]

    def render(self, openmetrics: bool = False) -> bytes:  # noqa: FBT001, FBT002 - as Page has it
        """Scrape all sources and return the page: text format 0.0.4, or OpenMetrics 1.0."""
        return self.write(Format(openmetrics=openmetrics))

    def write(
        self, form: Format, names: Collection[str] = (), *, within: float | None = None
    ) -> bytes:
        """Return the page in the given format; with *names* only those samples or families.

        A page with a timeout waits only *within* seconds for its sources, if that is less.
        """
        families = _restricted(self._gather(within), names)
        return render_families(families, form._replace(labels=self._labels))

    def _gather_now(self, within: float | None = None) -> list[Metric]:
        """Scrape all sources, join them, add what is known about the scrape, and filter."""
        start = time.perf_counter()
        self._gathering.ask()
        gathered = list(zip(self.sources, self._gathering.answers(within), strict=True))
        union = join_families(
            Contribution(source.name, source.in_process, answer.gathered.families)
            for source, answer in gathered
        )
        problems = [problem for _, answer in gathered for problem in answer.gathered.problems]
        self._problem_log.report(problems + union.problems)
        about = AboutScrape(gathered, union.shadowed, self._problem_log.counts())
        own = about.families(time.perf_counter() - start)
        # A source may be such a page itself: what it says of its own scrape stands behind ours.
        everything = join_families(
            [Contribution("", in_process=False, families=own + union.families)]
        ).families
        return [each for each in everything if self._filter.accepts(each.name, each.type)]


def _restricted(families: Iterable[Metric], names: Collection[str]) -> Iterable[Metric]:
    """Yield the *families*, or of those only the samples, that are named in *names*."""
    for family in families:
        if not names or family.name in names:
            yield family
        else:
            samples = [sample for sample in family.samples if sample.name in names]
            if samples:
                yield with_samples(family, samples)
