"""A tree of registries and callbacks, gathered and joined: each family and each series once.

Where two conflict, the later one loses: a family whose type or help differs from the first of its
name, and a series that an earlier source has. Each loss is a problem, and none costs the page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import Metric
from prometheus_client.samples import Sample

from mpmetrics._text import plural
from mpmetrics.errors import Problem
from mpmetrics.exposition import text_name, types_agree
from mpmetrics.pages import (
    Contribution,
    Gathered,
    Gathering,
    RegistrySource,
    TextSource,
    ask_all,
    join_families,
    with_samples,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from mpmetrics.engines.dynamo.endpoint import TypedFamily
    from mpmetrics.pages import Collector, Source


class Node:
    """A registry, the callbacks of its level, and the *children* below it."""

    def __init__(self, name: str, registry: Collector, timeout: float) -> None:
        """Create a node for *registry*, without callbacks; each source has *timeout* seconds."""
        self.children: list[Node] = []
        self._name = name
        self._timeout = timeout
        # One gathering per source: a source that hangs is not asked again because another is added.
        self.updates: list[Gathering] = []
        self.registries = [self._make_gathering(RegistrySource(registry, name))]
        self.typed: list[Gathering] = []
        self.texts: list[Gathering] = []

    def add_child(self, child: Node) -> None:
        """Add a *child*, unless it has been added."""
        if child not in self.children:
            self.children.append(child)

    def add_update(self, callback: Callable[[], object]) -> None:
        """Call *callback* before anything is gathered."""
        source = _UpdateSource(callback, f"{self._name} update callback")
        self.updates.append(self._make_gathering(source))

    def add_typed(self, callback: Callable[[], Iterable[TypedFamily]]) -> None:
        """Gather the typed families that *callback* returns."""
        source = RegistrySource(_TypedCollector(callback), f"{self._name} typed callback")
        self.typed.append(self._make_gathering(source))

    def add_text(self, callback: Callable[[], str | bytes]) -> None:
        """Gather the families of the text that *callback* returns."""
        source = TextSource(callback, f"{self._name} text callback")
        self.texts.append(self._make_gathering(source))

    def _make_gathering(self, source: Source) -> Gathering:
        return Gathering([source], self._timeout)

    def walk(self) -> list[Node]:
        """Return this node and all nodes below it, depth first, each once."""
        seen: dict[Node, None] = {}
        pending = [self]
        while pending:
            node = pending.pop()
            if node not in seen:
                seen[node] = None
                pending.extend(reversed(node.children))
        return list(seen)

    def gather(self) -> tuple[list[Metric], list[Problem]]:
        """Call the updates, then gather registries, typed families and texts, and join them."""
        joiner = _Joiner()
        for _, answer in _gather_all([each for node in self.walk() for each in node.updates]):
            joiner.problems.extend(answer.problems)
        nodes = self.walk()  # an update may add to the tree
        gatherings = [each for node in nodes for each in node.registries]
        gatherings += [each for node in nodes for each in node.typed]
        gatherings += [each for node in nodes for each in node.texts]
        for source, answer in _gather_all(gatherings):
            joiner.add(source.name, answer)
        return joiner.join()


def _gather_all(gatherings: Sequence[Gathering]) -> Iterator[tuple[Source, Gathered]]:
    """Ask all sources at once; yield each with what it gathered."""
    for answers in ask_all(gatherings):
        for source, answer in answers:
            yield source, answer.gathered


class _Joiner:
    """A joiner of families, in the order in which they are added, without those that conflict."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._contributions: list[Contribution] = []
        self._first: dict[str, Metric] = {}
        self._series: set[tuple[str, tuple[tuple[str, str], ...]]] = set()

    def add(self, source: str, answer: Gathered) -> None:
        """Add the *answer* of a *source*."""
        self.problems.extend(answer.problems)
        families = [
            self._drop_repeated_series(source, family)
            for family in answer.families
            if self._matches_first(source, family)
        ]
        self._contributions.append(Contribution(source, in_process=True, families=families))

    def join(self) -> tuple[list[Metric], list[Problem]]:
        """Return the joined families and all problems."""
        joined = join_families(self._contributions)
        return joined.families, self.problems + joined.problems

    def _matches_first(self, source: str, family: Metric) -> bool:
        """Return whether *family* can be joined with the first of its name; report it if not."""
        name = text_name(family)
        first = self._first.setdefault(name, family)
        if not types_agree(family.type, first.type):
            self._report(source, "type_conflict", family, f"is {family.type!r}", first.type)
            return False
        helps = {family.documentation, first.documentation} - {""}  # no help matches any help
        if len(helps) > 1:
            detail = f"has the help {family.documentation!r}"
            self._report(source, "help_conflict", family, detail, first.documentation)
            return False
        if not first.documentation or first.type == "unknown":
            self._first[name] = family
        return True

    def _report(self, source: str, reason: str, family: Metric, is_: str, not_: str) -> None:
        detail = f"family {family.name!r} {is_}, not {not_!r} as elsewhere; left out here"
        self.problems.append(Problem(source, reason, detail))

    def _drop_repeated_series(self, source: str, family: Metric) -> Metric:
        """Return *family* without the series that earlier sources have."""
        samples: list[Sample] = []
        repeated: list[Sample] = []
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            (repeated if key in self._series else samples).append(sample)
            self._series.add(key)
        if repeated:
            first = f"{repeated[0].name} {dict(repeated[0].labels)}"
            detail = f"{plural(len(repeated), 'series')} there already, such as {first}"
            self.problems.append(Problem(source, "repeated_series", f"{detail}; left out here"))
        return with_samples(family, samples)


class _UpdateSource:
    """A callback to run before a scrape, as a source without families."""

    in_process = True

    def __init__(self, callback: Callable[[], object], name: str) -> None:
        self.name = name
        self._callback = callback

    def gather(self) -> Gathered:
        self._callback()
        return Gathered(())


class _TypedCollector:
    """A callback that returns typed families as Dynamo's do, as a collector."""

    def __init__(self, callback: Callable[[], Iterable[TypedFamily]]) -> None:
        self._callback = callback

    def collect(self) -> Iterator[Metric]:
        for each in self._callback():
            yield _make_family(*each)


def _make_family(
    name: str, documentation: str, kind: str, unit: str, samples: Iterable[Sequence[Any]]
) -> Metric:
    """Make a prometheus_client family of the fields of a typed family."""
    family = with_samples(Metric("unnamed", documentation, kind), [])
    # Not by Metric's constructor, which adds the unit to a name that does not end with it.
    family.name, family.unit = name, unit or ""
    for sample, labels, value, *timestamp in samples:
        when = timestamp[0] if timestamp else None
        family.samples.append(Sample(sample, dict(labels), float(value), when))
    return family
