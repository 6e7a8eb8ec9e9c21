"""The making of a plan: from series to families, and what contradicts what.

`PlanBuilder` decides for each family which type and mode it has, whether its names are free, in
which order its series stand on the page, and which slots the rules have to fill for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpmetrics.errors import Problem
from mpmetrics.exposition import NameClaims, format_value
from mpmetrics.format import with_bound
from mpmetrics.merging.families import PlainNaming, Template
from mpmetrics.merging.groups import SlotRange, group_slots
from mpmetrics.merging.histograms import plan_histograms
from mpmetrics.merging.plan import FamilyPlan, Plan
from mpmetrics.merging.rules import FILE_SAMPLES, RULES
from mpmetrics.merging.series import index_series

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mpmetrics.format import Key, Labels, SeriesName
    from mpmetrics.merging.histograms import HistogramPlan
    from mpmetrics.merging.series import Kind, Places, Segment, Series, SeriesIndex


def make_plan(
    segments: Sequence[Segment], keys: Mapping[bytes, Key], *, accumulate: bool = True
) -> Plan:
    """Plan the merging of *segments*, whose raw keys have the meanings in *keys*.

    Without *accumulate*, histograms keep the count of each bucket, as files have it.
    """
    return PlanBuilder(index_series(segments, keys), accumulate=accumulate).build()


class PlanBuilder:
    """A plan in the making: the slots and problems so far, and the names that are taken."""

    def __init__(self, index: SeriesIndex, *, accumulate: bool) -> None:
        """Start a plan for the series of *index*; *accumulate* is that of `make_plan`."""
        self._index = index
        self._origins = index.origins
        self._accumulate = accumulate
        self._claims = NameClaims()
        self._slots: list[Places] = []
        self._problems: list[Problem] = []

    def build(self) -> Plan:
        """Plan every family, in the order of their names."""
        families = []
        for name, kinds in sorted(self._index.families.items()):
            kind = self._choose_kind(name, kinds)
            clash = self._claims.claim(name, kind.type, name)
            if clash is None:
                families.append(self._plan_family(name, kind, kinds[kind]))
            else:
                self._problems.append(clash)
        grouping = group_slots(self._slots, [family.slots for family in families])
        return Plan(families, grouping, tuple(self._problems))

    def _choose_kind(self, name: str, kinds: Mapping[Kind, Series]) -> Kind:
        """Return the kind that family *name* is merged as: the first in file order."""
        chosen, *others = sorted(kinds)
        for other in others:
            if other.type != chosen.type:
                reason, here, elsewhere = "type_conflict", other.type, chosen.type
            else:
                reason, here, elsewhere = "mode_conflict", other.mode, chosen.mode
            detail = f"family {name!r} is {here!r} here but {elsewhere!r} in other files"
            at = next(iter(kinds[other].values()))
            self._report(at, reason, f"{detail}; left out here")
        return chosen

    def _plan_family(self, name: str, kind: Kind, series: Series) -> FamilyPlan:
        """Plan one family: its series in page order, and a slot for each value to merge."""
        series = self._rename_samples(name, kind, series)
        if RULES[kind].per_process:
            self._report_duplicates(series)
        help_text = self._index.helps[name, kind]
        start = len(self._slots)
        if kind.type == "histogram":
            histograms = plan_histograms(name, series, self._origins, accumulate=self._accumulate)
            self._report_buckets(name, histograms)
            self._slots += histograms.slots
            template = Template(name, kind.type, help_text, histograms.shape)
            slots = SlotRange(kind, start, len(self._slots))
            return FamilyPlan(template, slots, histograms.shape, histograms.firsts)
        naming = PlainNaming()
        for (sample, labels, bound), at in sorted(series.items(), key=_page_order):
            naming.append((sample, with_bound(labels, bound)))
            self._slots.append(at)
        may_lack = RULES[kind].stamped
        template = Template(name, kind.type, help_text, naming, some_may_lack=may_lack)
        firsts = [at[0] for at in self._slots[start:]]
        return FamilyPlan(template, SlotRange(kind, start, len(self._slots)), None, firsts)

    def _rename_samples(self, name: str, kind: Kind, series: Series) -> Series:
        """Give the *series* of a family the sample names of its type; leave out all others."""
        known = FILE_SAMPLES[kind.type]
        suffixes = {
            sample: known.get(sample.removeprefix(name))
            for sample in {sample for sample, _, _ in series}
        }
        if all(sample == f"{name}{suffix}" for sample, suffix in suffixes.items()):
            return series
        renamed: Series = {}
        for (sample, labels, bound), at in series.items():
            suffix = suffixes[sample]
            if suffix is None:
                detail = f"a {kind.type} {name!r} has no sample {sample!r}; left out"
                self._report(at, "odd_sample", detail)
            else:
                others = renamed.get((name + suffix, labels, bound), ())
                renamed[name + suffix, labels, bound] = tuple(sorted(others + at))
        return renamed

    def _report_duplicates(self, series: Series) -> None:
        """Report every series that several processes claim as their own."""
        for (sample, labels, _), at in series.items():
            if len(at) > 1:
                writers = {self._origins.writer(place) for place in at}
                if len(writers) > 1:
                    shown = ",".join(f'{name}="{value}"' for name, value in labels)
                    names = ", ".join(_describe_writer(*each) for each in sorted(writers))
                    detail = f"{sample}{{{shown}}} is written by {names}"
                    self._report(at, "duplicate_series", detail)

    def _report_buckets(self, name: str, histograms: HistogramPlan) -> None:
        """Report buckets whose bound is not a number or that not every process has."""
        for text, at in histograms.unreadable.items():
            detail = f"histogram {name!r}: the bucket bound {text!r} is not a number; left out"
            self._report(at, "odd_sample", detail)
        hidden = histograms.hidden
        if hidden:
            bounds = ", ".join(map(format_value, sorted(hidden)))
            detail = f"histogram {name!r}: not every process has the bounds {bounds}; left out"
            self._report(hidden[max(hidden)], "bucket_conflict", detail)

    def _report(self, at: Places, reason: str, detail: str) -> None:
        """Add a problem of the last of the files that have a value *at* these places."""
        self._problems.append(Problem(self._origins.file(at[-1]).path, reason, detail))


def _describe_writer(process: str, labels: Labels) -> str:
    """Return the id of a *process*, with the values of its other *labels*, for a message."""
    return " in ".join((process, *(value for _, value in labels)))


def _page_order(item: tuple[SeriesName, object]) -> tuple[Labels, str, str]:
    """Return the key that sorts series by labels first: samples of one child stand together."""
    (sample, labels, bound), _ = item
    return labels, sample, bound or ""
