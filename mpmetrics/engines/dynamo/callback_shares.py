"""One gathering of a shared page: ask all sources, join their families, and share them out.

Each family goes to one callback: that of the source which has it first. Where one source brings
the merged view and another this process's own share of a family, the merged view counts.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.core import CounterMetricFamily

from mpmetrics.engines.observers import ERRORS
from mpmetrics.exposition import Format, text_name
from mpmetrics.pages import (
    Contribution,
    SelfMetrics,
    ask_all,
    is_up,
    join_families,
    problems_family,
    source_up_family,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from prometheus_client import Metric

    from mpmetrics._problem_log import ProblemLog
    from mpmetrics.engines.dynamo.shared_page import PagePart
    from mpmetrics.pages import Answer, Source


class _PartAnswer(NamedTuple):
    """The *answer* of one *source* of a *part*."""

    part: PagePart
    source: Source
    answer: Answer


def gather_shares(
    parts: Sequence[PagePart], problem_log: ProblemLog
) -> Mapping[PagePart, Sequence[Metric]]:
    """Gather the families of all *parts*, and return the share of each part.

    Problems of the sources and of the joining go to *problem_log*. A family of the sources that
    has the name of a self-metric on the page is left out.
    """
    start = time.perf_counter()
    answers = [
        _PartAnswer(part, source, answer)
        for part, answered in zip(parts, ask_all([each.gathering for each in parts]), strict=True)
        for source, answer in answered
    ]
    joined = join_families(_make_contributions(answers))
    problems = [problem for each in answers for problem in each.answer.gathered.problems]
    problem_log.report(problems + joined.problems)
    gathered = [(each.source, each.answer) for each in answers]
    metrics = SelfMetrics(gathered, joined.shadowed, problem_log.counts())
    shares: dict[PagePart, list[Metric]] = {part: [] for part in parts}
    reporter, self_metrics = _choose_self_metrics(parts, metrics, time.perf_counter() - start)
    if reporter is not None:
        shares[reporter] += [reporter.label(family) for family in self_metrics]
    names = {_written_name(family) for family in self_metrics}
    for family, owner in zip(joined.families, joined.owners, strict=True):
        name = _written_name(family)
        if name not in names:
            names.add(name)
            shares[answers[owner].part].append(family)
    return shares


def _make_contributions(answers: Sequence[_PartAnswer]) -> list[Contribution]:
    """Return what each source contributes, without families that are exclusive to another part."""
    selected = [(each, each.part.select(each.answer.gathered.families)) for each in answers]
    exclusive = {
        family.name for each, families in selected if each.part.is_exclusive for family in families
    }
    return [
        Contribution(
            each.source.name,
            each.source.in_process,
            [
                family
                for family in families
                if each.part.is_exclusive or family.name not in exclusive
            ],
        )
        for each, families in selected
    ]


def _choose_self_metrics(
    parts: Sequence[PagePart], metrics: SelfMetrics, duration: float
) -> tuple[PagePart | None, Sequence[Metric]]:
    """Return the self-metrics of a scrape that took *duration* seconds, and the part that has them.

    Even if no part asks for self-metrics, the first one has `mpmetrics_source_up` if a source is
    not up, and `mpmetrics_problems_total` if there were problems: no page is silently empty.
    """
    for part in parts:
        if part.has_self_metrics:
            errors = _make_error_family()
            return part, [*metrics.families(duration), *([errors] if errors.samples else [])]
    families = []
    if not all(is_up(answer.gathered) for _, answer in metrics.gathered):
        families.append(source_up_family(metrics.gathered))
    if metrics.problems:
        families.append(problems_family(metrics.problems))
    return (parts[0] if families else None), families


def _make_error_family() -> Metric:
    """Return `mpmetrics_observe_errors`: the counts of `ERRORS`, which are those of the process."""
    family = CounterMetricFamily(
        "mpmetrics_observe_errors",
        "Calls of observers of an engine that failed",
        labels=["source", "reason"],
    )
    for (source, reason), count in sorted(ERRORS.counts().items()):
        family.add_metric([source, reason], count)
    return family


def _written_name(family: Metric) -> str:
    """Return the name of *family* as the text format writes it, without illegal characters."""
    return Format().name(text_name(family))
