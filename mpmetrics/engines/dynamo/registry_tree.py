"""A tree of registries and callbacks, asked together and joined: each family and series once.

What comes later loses: a family with another type or help than the first of its name, and a
series that is there already. Each loss is a problem, and none costs the page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import Metric
from prometheus_client.samples import Sample

from mpmetrics._text import plural
from mpmetrics.errors import Problem
from mpmetrics.pages import (
    Contribution,
    Gathered,
    Gathering,
    RegistrySource,
    TextSource,
    join_families,
    with_samples,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from mpmetrics.engines.dynamo.endpoint import TypedFamily
    from mpmetrics.pages import Collector, Source


class Node:
    """A registry, the callbacks of its level, and the *children* below."""

    def __init__(self, name: str, registry: Collector, timeout: float) -> None:
        """Begin with a *registry* alone; each source has *timeout* seconds."""
        self.children: list[Node] = []
        self._name = name
        self._timeout = timeout
        # A gathering for each source: one that hangs is not asked anew because another is added.
        self.updates: list[Gathering] = []
        self.registries = [self._asking(RegistrySource(registry, name))]
        self.typed: list[Gathering] = []
        self.texts: list[Gathering] = []

    def add_child(self, child: Node) -> None:
        """Add a *child*, once."""
        if child not in self.children:
            self.children.append(child)

    def add_update(self, callback: Callable[[], object]) -> None:
        """Call *callback* before anything is gathered."""
        self.updates.append(self._asking(_Update(callback, f"{self._name} update callback")))

    def add_typed(self, callback: Callable[[], Iterable[TypedFamily]]) -> None:
        """Take families of *callback*."""
        source = RegistrySource(_Typed(callback), f"{self._name} typed callback")
        self.typed.append(self._asking(source))

    def add_text(self, callback: Callable[[], str | bytes]) -> None:
        """Take the families of the text of *callback*."""
        self.texts.append(self._asking(TextSource(callback, f"{self._name} text callback")))

    def _asking(self, source: Source) -> Gathering:
        return Gathering([source], self._timeout)

    def walk(self) -> list[Node]:
        """Return this node and all below it, depth first, each once."""
        seen: dict[Node, None] = {}
        pending = [self]
        while pending:
            node = pending.pop()
            if node not in seen:
                seen[node] = None
                pending.extend(reversed(node.children))
        return list(seen)

    def gather(self) -> tuple[list[Metric], list[Problem]]:
        """Call the updates, then ask all others: registries, typed families, texts."""
        joining = _Joining()
        for _, answer in _asked([each for node in self.walk() for each in node.updates]):
            joining.problems.extend(answer.problems)
        nodes = self.walk()  # an update may add to the tree
        sources = [each for node in nodes for each in node.registries]
        sources += [each for node in nodes for each in node.typed]
        sources += [each for node in nodes for each in node.texts]
        for source, answer in _asked(sources):
            joining.add(source.name, answer)
        union = join_families(joining.contributions)
        return union.families, joining.problems + union.problems


def _asked(gatherings: Sequence[Gathering]) -> Iterator[tuple[Source, Gathered]]:
    """Ask the sources of all *gatherings* at once; yield each with its answer."""
    for gathering in gatherings:
        gathering.ask()
    for gathering in gatherings:
        for source, answer in zip(gathering.sources, gathering.answers(), strict=True):
            yield source, answer.gathered


class _Joining:
    """Families as they come, without those and those series that cannot be joined."""

    def __init__(self) -> None:
        self.contributions: list[Contribution] = []
        self.problems: list[Problem] = []
        self._first: dict[str, Metric] = {}
        self._series: set[tuple[str, str, tuple[tuple[str, str], ...]]] = set()

    def add(self, source: str, answer: Gathered) -> None:
        """Take what a *source* has answered."""
        self.problems.extend(answer.problems)
        families = [
            self._without_repeated(source, family)
            for family in answer.families
            if self._is_like_the_first(source, family)
        ]
        self.contributions.append(Contribution(source, in_process=True, families=families))

    def _is_like_the_first(self, source: str, family: Metric) -> bool:
        """Tell whether *family* can be joined with the first of its name."""
        first = self._first.setdefault(family.name, family)
        if family.type != first.type:
            self._left_out(source, "type_conflict", family, f"is {family.type!r}", first.type)
            return False
        helps = {family.documentation, first.documentation} - {""}  # none is as good as any
        if len(helps) > 1:
            detail = f"has the help {family.documentation!r}"
            self._left_out(source, "help_conflict", family, detail, first.documentation)
            return False
        if not first.documentation:
            self._first[family.name] = family
        return True

    def _left_out(self, source: str, reason: str, family: Metric, is_: str, not_: str) -> None:
        detail = f"family {family.name!r} {is_}, not {not_!r} as elsewhere; left out here"
        self.problems.append(Problem(source, reason, detail))

    def _without_repeated(self, source: str, family: Metric) -> Metric:
        """Return *family* without the series that are there already."""
        samples: list[Sample] = []
        repeated: list[Sample] = []
        for sample in family.samples:
            key = (family.name, sample.name, tuple(sorted(sample.labels.items())))
            (repeated if key in self._series else samples).append(sample)
            self._series.add(key)
        if repeated:
            first = f"{repeated[0].name} {dict(repeated[0].labels)}"
            detail = f"{plural(len(repeated), 'series')} there already, such as {first}"
            self.problems.append(Problem(source, "repeated_series", f"{detail}; left out here"))
        return with_samples(family, samples)


class _Update:
    """Something to do before a scrape, as a source that gives nothing."""

    in_process = True

    def __init__(self, callback: Callable[[], object], name: str) -> None:
        self.name = name
        self._callback = callback

    def gather(self) -> Gathered:
        self._callback()
        return Gathered(())


class _Typed:
    """A callback that returns families as Dynamo's typed callback has them, as a collector."""

    def __init__(self, callback: Callable[[], Iterable[TypedFamily]]) -> None:
        self._callback = callback

    def collect(self) -> Iterator[Metric]:
        for each in self._callback():
            yield _family(*each)


def _family(
    name: str, documentation: str, kind: str, unit: str, samples: Iterable[Sequence[Any]]
) -> Metric:
    """Return a typed family as prometheus_client's."""
    family = with_samples(Metric("unnamed", documentation, kind), [])
    # Not by Metric's constructor, which adds the unit to a name that does not end with it.
    family.name, family.unit = name, unit or ""
    for sample, labels, value, *timestamp in samples:
        when = timestamp[0] if timestamp else None
        family.samples.append(Sample(sample, dict(labels), float(value), when))
    return family
