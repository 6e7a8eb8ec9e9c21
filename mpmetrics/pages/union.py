"""The union of several sources' families: each family once, each series once.

Where the merged view and this process's own registry both carry a family, the merged one wins,
whole family: the other is one process's share. Between other sources series are joined, and of
equal series the first is kept, and the others are reported. Prometheus, too, keeps the first; the
difference is that here the first is the right one.

A family is known by the name that it has in the text format: there a gauge `a` and a counter
`a_total` are two.
"""

from __future__ import annotations

from collections import defaultdict
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import Metric

from mpmetrics.errors import Problem
from mpmetrics.exposition import NameClaims, exposed_names, text_name, types_agree
from mpmetrics.merging import MergedFamily
from mpmetrics.parsing import PageFamily

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client.samples import Sample

    from mpmetrics.format import Labels


class Contribution(NamedTuple):
    """The *families* of one *source*, and whether they are this process's share only."""

    source: str
    in_process: bool
    families: Sequence[Metric]


class JoinedFamilies(NamedTuple):
    """The *families* of all contributions, sorted by name.

    *owners* has for each family the position of the contribution that had it first. *shadowed* is
    how many in-process families lost to the merged view; *problems* are families that could not
    be joined.
    """

    families: list[Metric]
    shadowed: int
    problems: list[Problem]
    owners: list[int]


class _Candidate(NamedTuple):
    """A *family* of a *contribution*, which has this *position* among all.

    *name* is that of the family in the text format.
    """

    position: int
    contribution: Contribution
    family: Metric
    name: str


def join_families(contributions: Iterable[Contribution]) -> JoinedFamilies:
    """Join the families of all *contributions*; earlier ones win where there is a conflict."""
    by_name: dict[str, list[_Candidate]] = defaultdict(list)
    for position, contribution in enumerate(contributions):
        for family in contribution.families:
            name = text_name(family)
            by_name[name].append(_Candidate(position, contribution, family, name))
    problems: list[Problem] = []
    shadowed = 0
    winners: list[list[_Candidate]] = []
    for _, candidates in sorted(by_name.items()):
        if len(candidates) == 1:  # as mostly: there is nothing to decide
            winners.append(candidates)
            continue
        shown = _drop_shadowed(candidates)
        shadowed += len(shown) < len(candidates)
        winners.append(_drop_other_types(shown, problems))
    claims = NameClaims()
    joined: list[tuple[str, str, Metric, int]] = []
    # In the order of the sources: of two families that expose one name, the first has it.
    for candidates in sorted(winners, key=lambda candidates: candidates[0].position):
        if _claim_names(candidates[0], claims, problems):
            family = _join_series(candidates, problems)
            joined.append((family.name, candidates[0].name, family, candidates[0].position))
    joined.sort(key=itemgetter(0, 1))
    families, owners = [each[2] for each in joined], [each[3] for each in joined]
    return JoinedFamilies(families, shadowed, problems, owners)


def add_labels(family: Metric, labels: Labels) -> Metric:
    """Return *family* with *labels* added to each sample that lacks them."""
    if not labels:
        return family
    if isinstance(family, MergedFamily):
        return family.with_labels(labels)
    added = dict(labels)
    samples = [sample._replace(labels={**added, **sample.labels}) for sample in family.samples]
    return with_samples(family, samples)


def with_samples(family: Metric, samples: list[Sample]) -> Metric:
    """Return a family like *family* with other *samples*."""
    # Not Metric.__init__: whether it takes the name depends on its version and its settings.
    copy = Metric.__new__(Metric)
    copy.name, copy.documentation = family.name, family.documentation
    copy.type, copy.unit = family.type, family.unit
    copy.samples = samples
    return copy


def _drop_shadowed(candidates: list[_Candidate]) -> list[_Candidate]:
    """Drop in-process families where the merged view has the family; put that first."""
    merged = [each for each in candidates if isinstance(each.family, MergedFamily)]
    if not merged:
        return candidates
    return merged + [
        each
        for each in candidates
        if not each.contribution.in_process and not isinstance(each.family, MergedFamily)
    ]


def _drop_other_types(candidates: list[_Candidate], problems: list[Problem]) -> list[_Candidate]:
    """Drop families of another type than the first, and report them.

    Types that the text format writes alike, such as info and gauge, do not differ, and unknown
    differs from none.
    """
    first = _first_typed([each.family for each in candidates]).type
    kept = []
    for each in candidates:
        if types_agree(each.family.type, first):
            kept.append(each)
        else:
            family = each.family
            detail = f"family {family.name!r} is {family.type!r} here but {first!r} elsewhere"
            problems.append(
                Problem(each.contribution.source, "type_conflict", f"{detail}; left out here")
            )
    return kept


def _claim_names(winner: _Candidate, claims: NameClaims, problems: list[Problem]) -> bool:
    """Claim the names that a family exposes; return whether they were all free."""
    family = winner.family
    # A merged family has no names beside those of its type, and its samples cost time to build.
    if isinstance(family, MergedFamily):
        names = exposed_names(family.name, family.type) - {family.name}
    else:
        names = frozenset(each.name for each in family.samples)
    names |= {winner.name}
    clash = claims.claim_names(family.name, names, winner.contribution.source)
    if clash is not None:
        problems.append(clash)
    return clash is None


def _join_series(candidates: Sequence[_Candidate], problems: list[Problem]) -> Metric:
    """Return one family with the series of all *candidates*, each once; report the others.

    One source may have several samples of a series, at different times.
    """
    if len(candidates) == 1 and isinstance(candidates[0].family, MergedFamily | PageFamily):
        return candidates[0].family
    owners: dict[tuple[str, tuple[tuple[str, str], ...]], int] = {}
    times: set[tuple[object, ...]] = set()
    samples: list[Sample] = []
    count = 0
    for position, (_, contribution, family, _) in enumerate(candidates):
        repeated = None
        for sample in family.samples:
            count += 1
            series = (sample.name, tuple(sorted(sample.labels.items())))
            moment = (*series, sample.timestamp)
            if owners.setdefault(series, position) == position and moment not in times:
                times.add(moment)
                samples.append(sample)
            else:
                repeated = repeated or sample
        if repeated is not None:
            detail = f"{repeated.name} {dict(repeated.labels)} is there already; left out here"
            problems.append(Problem(contribution.source, "repeated_series", detail))
    families = [each.family for each in candidates]
    first = _first_typed(families)
    if len(families) == 1 and count == len(samples):
        return first
    return with_samples(first, samples)


def _first_typed(families: Sequence[Metric]) -> Metric:
    """Return the first family that has a type, or else the first."""
    return next((each for each in families if each.type != "unknown"), families[0])
