"""The union of several sources' families: each family once, each series once.

Where the merged view and this process's own registry both carry a family, the merged one wins,
whole family: the other is one process's share. Between other sources series are joined, and of
equal series the first is kept, and the others are reported. Prometheus, too, keeps the first; the
difference is that here the first is the right one. A family whose name or type is in conflict with
that of an earlier source loses its type, and no series: Prometheus would store them, too.

A family is known by the name that it has in the text format: there a gauge `a` and a counter
`a_total` are two.
"""

from __future__ import annotations

from collections import defaultdict
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import Metric

from mpmetrics.errors import Problem
from mpmetrics.exposition import exposed_names, text_name, types_agree
from mpmetrics.merging import MergedFamily
from mpmetrics.parsing import PageFamily

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

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
    how many in-process families lost to the merged view; *problems* are families that are not on
    the page as they were given.
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


class _Displaced(NamedTuple):
    """A *candidate* that cannot be a family of its own: the *reason* of the problem, and why."""

    candidate: _Candidate
    reason: str
    conflict: str


def join_families(contributions: Iterable[Contribution]) -> JoinedFamilies:
    """Join the families of all *contributions*; earlier ones win where there is a conflict."""
    by_name: dict[str, list[_Candidate]] = defaultdict(list)
    for position, contribution in enumerate(contributions):
        for family in contribution.families:
            name = text_name(family)
            by_name[name].append(_Candidate(position, contribution, family, name))
    shadowed = 0
    same_type: list[list[_Candidate]] = []
    displaced: list[_Displaced] = []
    for _, candidates in sorted(by_name.items()):
        if len(candidates) == 1:  # as mostly: there is nothing to decide
            same_type.append(candidates)
            continue
        shown = _drop_shadowed(candidates)
        shadowed += len(shown) < len(candidates)
        same_type.append(_displace_other_types(shown, displaced))
    groups = _Groups()
    # In the order of the sources: of two families that expose one name, the first has it.
    for candidates in sorted(same_type, key=lambda candidates: candidates[0].position):
        displaced.extend(groups.add(candidates))
    problems = [
        groups.place(each) for each in sorted(displaced, key=lambda each: each.candidate.position)
    ]
    joined: list[tuple[str, str, Metric, int]] = []
    for group in groups.all:
        family = _join_series(group, problems)
        joined.append((family.name, group[0].name, family, group[0].position))
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


def _displace_other_types(
    candidates: list[_Candidate], displaced: list[_Displaced]
) -> list[_Candidate]:
    """Return the families of the type that the first has; add the others to *displaced*.

    Types that the text format writes alike, such as info and gauge, do not differ, and unknown
    differs from none.
    """
    first = _first_typed([each.family for each in candidates]).type
    kept = []
    for each in candidates:
        if types_agree(each.family.type, first):
            kept.append(each)
        else:
            detail = f"family {each.family.name!r} is {each.family.type!r} here but {first!r}"
            displaced.append(_Displaced(each, "type_conflict", f"{detail} elsewhere"))
    return kept


class _Groups:
    """The families of one page, each in parts: the candidates that have one name and type.

    Each name on the page belongs to the first group that has it.
    """

    def __init__(self) -> None:
        """Start with every name free."""
        self.all: list[list[_Candidate]] = []
        self._owners: dict[str, list[_Candidate]] = {}

    def add(self, candidates: Sequence[_Candidate]) -> Iterator[_Displaced]:
        """Add a group; yield those of its candidates that expose a name of another group."""
        group: list[_Candidate] = []
        for each in candidates:
            names = _exposed_names(each)
            taken = [name for name in names if self._owners.get(name, group) is not group]
            if taken:
                name = min(taken)
                other = self._owners[name][0].family.name
                detail = f"families {each.family.name!r} and {other!r} both expose {name!r}"
                yield _Displaced(each, "name_clash", detail)
            else:
                group.append(each)
                self._owners.update(dict.fromkeys(names, group))
        if group:
            self.all.append(group)

    def place(self, displaced: _Displaced) -> Problem:
        """Add each sample to the group that has its name, or else to one without a type.

        A reader that knows types needs all lines of a name under one header; Prometheus needs no
        header. What is this process's share only is not added to the merged view of all.
        """
        position, contribution, family, _ = displaced.candidate
        has_lost = False
        for name, samples in _by_name(family.samples).items():
            group = self._owners.get(name)
            if group is None:
                group = self._owners[name] = []
                self.all.append(group)
            if contribution.in_process and any(
                isinstance(each.family, MergedFamily) for each in group
            ):
                has_lost = True
                continue
            part = PageFamily(name, "unknown", family.documentation, "", samples)
            group.append(_Candidate(position, contribution, part, name))
        ending = "left out here" if has_lost else "its series are shown without that type"
        return Problem(contribution.source, displaced.reason, f"{displaced.conflict}; {ending}")


def _exposed_names(candidate: _Candidate) -> frozenset[str]:
    """Return the names that a family has on a page in the text format."""
    family = candidate.family
    # A merged family has no names beside those of its type, and its samples cost time to build.
    if isinstance(family, MergedFamily):
        names = exposed_names(family.name, family.type) - {family.name}
    else:
        names = frozenset(each.name for each in family.samples)
    return names | {candidate.name}


def _by_name(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """Return *samples* by their names."""
    named: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        named[sample.name].append(sample)
    return named


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
