"""The plan: the part of merging that stays the same from scrape to scrape.

A plan is made once for a set of files with known keys (see `planning`) and used until a file
comes, goes or grows. After that a scrape is only the arithmetic here: the groups merge the values
of all segments (*flat*, see `series`), and each family takes its share of what they return.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from mpmetrics.merging.families import MergedFamily

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpmetrics.errors import Problem
    from mpmetrics.format import Labels
    from mpmetrics.merging.families import Template
    from mpmetrics.merging.groups import Grouping, SlotRange
    from mpmetrics.merging.histograms import HistogramShape
    from mpmetrics.merging.series import Flat


class FamilyPlan(NamedTuple):
    """The part of a plan for one family, which gets its values from its *slots*.

    A histogram has a *shape*, which turns the values of slots into those of series; for all other
    types they are the same. *firsts* has, for each series of the *template*, the place in *flat*
    at which it was first met.
    """

    template: Template
    slots: SlotRange
    shape: HistogramShape | None
    firsts: Sequence[int]


class FoldedSeries(NamedTuple):
    """A merged series as an archive holds it: its names, and both numbers of its entry."""

    family: str
    sample: str
    labels: Labels
    help: str
    value: float
    second: float


class Plan(NamedTuple):
    """A plan for the values of a fixed list of segments: its *families* are sorted by name.

    *problems* are contradictions between the segments; what a problem names is left out.
    """

    families: Sequence[FamilyPlan]
    grouping: Grouping
    problems: Sequence[Problem]

    def merge(self, flat: Flat) -> list[MergedFamily]:
        """Return the families that the values *flat* of all segments merge to.

        Families without a value are left out.
        """
        merged = self.grouping.merge(flat)
        families = []
        for template, (_, start, stop), shape, _ in self.families:
            values = merged[start:stop]
            if shape is not None:
                values = shape.values(values, flat)
            family = MergedFamily(template, values)
            if family.has_samples:
                families.append(family)
        return families

    def fold(self, flat: Flat) -> list[FoldedSeries]:
        """Return the series that *flat* merges to, in the order in which they were first met.

        In that order an archive looks like the files that went into it, and so like those of
        the workers that are still alive: one layout then serves for all of them.
        """
        pairs = self.grouping.fold(flat)
        folded = []
        for template, (_, start, stop), shape, firsts in self.families:
            values, seconds = ([pair[part] for pair in pairs[start:stop]] for part in (0, 1))
            if shape is not None:
                values, seconds = shape.values(values, flat), shape.rests(seconds)
            names = template.names()
            for (sample, labels), value, second, first in zip(
                names, values, seconds, firsts, strict=True
            ):
                series = FoldedSeries(template.name, sample, labels, template.help, value, second)
                folded.append((first, series))
        folded.sort(key=itemgetter(0))
        return [series for _, series in folded]
