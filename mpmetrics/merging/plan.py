"""Which value goes where: the part of merging that stays the same from scrape to scrape.

A plan is made once for a set of files with known keys and used until a file comes, goes or
grows. It finds out which values belong to one series, which families they form, in which order
they stand on the page, and what contradicts what. After that a scrape is only arithmetic.

The values of all files stand behind each other in one list, *flat*, in the order of the files.
Series of the same kind and with the same number of contributions form a *group*: the first
contribution of each, the second of each and so on are the columns that the rule works on. Where
the files of all workers look alike, these columns are plain slices of *flat*.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from mpmetrics.errors import Problem
from mpmetrics.exposition import TOTAL, NameClaims
from mpmetrics.format import clean_text, format_value, with_bound
from mpmetrics.merging.families import MergedFamily, PlainNaming, Template
from mpmetrics.merging.histograms import HistogramShape
from mpmetrics.merging.rules import FILE_SAMPLES, RULES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mpmetrics.directory import WorkerFile
    from mpmetrics.format import Key, Labels, SeriesName
    from mpmetrics.merging.histograms import Series
    from mpmetrics.merging.rules import Rule

    Flat = Sequence[Any]
    Gatherer = Callable[[Flat], Sequence[Any]]


class Segment(NamedTuple):
    """The series of one process: the file they come from and their raw keys, in file order."""

    file: WorkerFile
    keys: tuple[bytes, ...]


class Kind(NamedTuple):
    """What decides how values are merged: metric *type* and gauge *mode*."""

    type: str
    mode: str


class FamilyPlan(NamedTuple):
    """A family, which of the merged values are its, and what is done to them last.

    *firsts* says where in *flat* each series of the template stands first.
    """

    template: Template
    start: int
    stop: int
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


class _Group(NamedTuple):
    """Series that one call of a rule merges, as the columns to pick from *flat*."""

    rule: Rule
    columns: list[Gatherer]


class Plan:
    """How the values of a fixed set of segments become families; immutable once made."""

    def __init__(
        self,
        segments: Sequence[Segment],
        keys: Mapping[bytes, Key],
        *,
        accumulate: bool = True,
    ) -> None:
        """Plan the merging of *segments*, whose raw keys mean what *keys* says.

        Without *accumulate*, histograms keep the count of each bucket, as files have it.
        """
        builder = PlanBuilder(segments, keys, accumulate=accumulate)
        self.families = builder.families()
        self.problems = tuple(builder.problems)
        self._groups, self._in_order = builder.groups()

    def merge(self, flat: Flat) -> list[MergedFamily]:
        """Return the families that the values *flat* of all segments merge to.

        Families without a value are left out.
        """
        results: list[Any] = []
        for rule, columns in self._groups:
            results += rule.merge([column(flat) for column in columns])
        merged = self._in_order(results)
        families = []
        for template, start, stop, shape, _ in self.families:
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
        the workers that are still alive: what is known of one layout then serves for all.
        """
        results: list[Any] = []
        for rule, columns in self._groups:
            results += rule.fold([column(flat) for column in columns])
        pairs = self._in_order(results)
        folded = []
        for template, start, stop, shape, firsts in self.families:
            values, seconds = ([pair[part] for pair in pairs[start:stop]] for part in (0, 1))
            if shape is not None:
                values, seconds = shape.values(values, flat), shape.values(seconds, _Zeros())
            names = template.names()
            for (sample, labels), value, second, first in zip(
                names, values, seconds, firsts, strict=True
            ):
                series = FoldedSeries(template.name, sample, labels, template.help, value, second)
                folded.append((first, series))
        folded.sort(key=itemgetter(0))
        return [series for _, series in folded]


class _Zeros:
    """As many zeros as one asks for: counts have no rest."""

    def __getitem__(self, place: int) -> float:
        return 0.0


def _pick(indexes: Sequence[int]) -> Gatherer:
    """Return a function that takes the elements at *indexes*; a run of them is one slice."""
    first, end = (indexes[0], indexes[0] + len(indexes)) if indexes else (0, 0)
    if tuple(indexes) == tuple(range(first, end)):
        return itemgetter(slice(first, end))
    return itemgetter(*indexes)


class PlanBuilder:
    """The work of making a plan, with what has to be known on the way."""

    def __init__(
        self, segments: Sequence[Segment], keys: Mapping[bytes, Key], *, accumulate: bool
    ) -> None:
        """Plan the merging of *segments*; see `Plan`."""
        self.problems: list[Problem] = []
        self._segments = segments
        self._keys = keys
        self._accumulate = accumulate
        self._starts: list[int] = []
        self._slots: list[tuple[int, ...]] = []
        self._kinds: list[tuple[Kind, int, int]] = []
        self._claims = NameClaims()
        self._helps: dict[tuple[str, Kind], str] = {}
        self._variants: dict[int, str] = {}

    # -- from segments to families ---------------------------------------------------------

    def families(self) -> list[FamilyPlan]:
        """Plan every family, sorted by name."""
        plans = []
        for name, kinds in sorted(self._series_by_family().items()):
            kind = self._choose_kind(name, kinds)
            clash = self._claims.claim(name, kind.type, name)
            if clash is not None:
                self.problems.append(clash)
            else:
                start = len(self._slots)
                template, shape = self._family(name, kind, kinds[kind])
                stop = len(self._slots)
                self._kinds.append((kind, start, stop))
                firsts = shape.firsts if shape else [at[0] for at in self._slots[start:stop]]
                plans.append(FamilyPlan(template, start, stop, shape, firsts))
        return plans

    def _series_by_family(self) -> dict[str, dict[Kind, Series]]:
        """Sort all distinct keys by family, kind and series."""
        families: dict[str, dict[Kind, Series]] = defaultdict(lambda: defaultdict(dict))
        keys = self._keys
        for (kind, process), table in self._tables().items():
            strip_total = kind.type == "counter"
            of_kind: dict[str, Series] = {}
            for raw, at in table.items():
                name, series_name, help_text = keys[raw]
                if strip_total:
                    name = name.removesuffix(TOTAL) or name
                if process:
                    series_name = _with_process(series_name, process)
                series = of_kind.get(name)
                if series is None:
                    series = of_kind[name] = families[name][kind]
                    self._helps.setdefault((name, kind), help_text)
                known = series.setdefault(series_name, at)
                if known is not at:
                    # The same series under another HELP, in another spelling, or of two processes.
                    series[series_name] = tuple(sorted(known + at))
                    self._variants.update(dict.fromkeys(at, help_text))
        return families

    def _tables(self) -> dict[tuple[Kind, str], dict[bytes, tuple[int, ...]]]:
        """Collect the places of every distinct raw key, for each kind and process."""
        tables: dict[tuple[Kind, str], dict[bytes, tuple[int, ...]]] = {}
        for (kind, process, _), (keys, starts) in self._alike().items():
            table = tables.setdefault((kind, process), {})
            columns = [range(start, start + len(keys)) for start in starts]
            for raw, places in zip(keys, zip(*columns, strict=True), strict=True):
                known = table.setdefault(raw, places)
                if known is not places:
                    table[raw] = tuple(sorted(known + places))
        return tables

    def _alike(self) -> dict[tuple[Kind, str, int], tuple[tuple[bytes, ...], list[int]]]:
        """Bring together the segments that are merged alike and have the same keys.

        Returns the keys and where each segment's values start in *flat*. Workers of one server
        mostly run the same code, so this is where most of the work is saved.
        """
        alike: dict[tuple[Kind, str, int], tuple[tuple[bytes, ...], list[int]]] = {}
        start = 0
        for file, keys in self._segments:
            kind = Kind(file.name.type, file.name.mode)
            process = clean_text(file.name.id) if RULES[kind].per_process else ""
            alike.setdefault((kind, process, id(keys)), (keys, []))[1].append(start)
            self._starts.append(start)
            start += len(keys)
        return alike

    def _choose_kind(self, name: str, kinds: Mapping[Kind, Series]) -> Kind:
        """Return the kind that family *name* is merged as: the first in file order."""
        chosen, *others = sorted(kinds)
        for other in others:
            if other.type != chosen.type:
                reason, here, elsewhere = "type_conflict", other.type, chosen.type
            else:
                reason, here, elsewhere = "mode_conflict", other.mode, chosen.mode
            detail = f"family {name!r} is {here!r} here but {elsewhere!r} in other files"
            path = self._path(next(iter(kinds[other].values()))[-1])
            self.problems.append(Problem(path, reason, f"{detail}; left out here"))
        return chosen

    def _path(self, place: int) -> str:
        """Return the path of the file that the value at *place* comes from."""
        return self._segments[self.owner(place)].file.path

    def owner(self, place: int) -> int:
        """Return the number of the segment that the value at *place* comes from."""
        return bisect_right(self._starts, place) - 1

    def origin(self, place: int) -> tuple[int, str]:
        """Return the owner and, for a second key of the same series, its HELP."""
        return self.owner(place), self._variants.get(place, "")

    # -- from series to slots --------------------------------------------------------------

    def _family(
        self, name: str, kind: Kind, series: Series
    ) -> tuple[Template, HistogramShape | None]:
        """Plan one family: its series in page order and a slot for each merged value."""
        help_text = self._helps[name, kind]
        series = self._with_exposed_names(name, kind, series)
        if RULES[kind].per_process:
            self._report_duplicates(series)
        if kind.type == "histogram":
            shape = HistogramShape(name, series, self, accumulate=self._accumulate)
            self._slots += shape.slots
            self._report_buckets(name, shape)
            return Template(name, kind.type, help_text, shape), shape
        naming = PlainNaming()
        for (sample, labels, bound), at in sorted(series.items(), key=_page_order):
            naming.append((sample, with_bound(labels, bound)))
            self._slots.append(at)
        stamped = RULES[kind].stamped
        return Template(name, kind.type, help_text, naming, some_may_lack=stamped), None

    def _with_exposed_names(self, name: str, kind: Kind, series: Series) -> Series:
        """Give the *series* of a family the sample names of its type; leave out those of none."""
        known = FILE_SAMPLES[kind.type]
        suffixes = {
            sample: known.get(sample.removeprefix(name))
            for sample in {sample for sample, _, _ in series}
        }
        if all(sample == f"{name}{suffix}" for sample, suffix in suffixes.items()):
            return series
        exposed: Series = {}
        for (sample, labels, bound), at in series.items():
            suffix = suffixes[sample]
            if suffix is None:
                detail = f"a {kind.type} {name!r} has no sample {sample!r}; left out"
                self.problems.append(Problem(self._path(at[-1]), "odd_sample", detail))
            else:
                others = exposed.get((name + suffix, labels, bound), ())
                exposed[name + suffix, labels, bound] = tuple(sorted(others + at))
        return exposed

    def _report_duplicates(self, series: Series) -> None:
        """Report series of which several processes say that it is theirs."""
        for (sample, labels, _), at in series.items():
            if len(at) > 1:
                writers = {self._segments[self.owner(place)].file.name.id for place in at}
                if len(writers) > 1:
                    shown = ",".join(f'{name}="{value}"' for name, value in labels)
                    detail = f"{sample}{{{shown}}} is written by {', '.join(sorted(writers))}"
                    self.problems.append(Problem(self._path(at[-1]), "duplicate_series", detail))

    def _report_buckets(self, name: str, shape: HistogramShape) -> None:
        """Report buckets that cannot be read or that not every process has."""
        for text, at in shape.unreadable.items():
            detail = f"histogram {name!r}: the bucket bound {text!r} is not a number; left out"
            self.problems.append(Problem(self._path(at[-1]), "odd_sample", detail))
        if shape.hidden:
            hidden = ", ".join(map(format_value, sorted(shape.hidden)))
            detail = f"histogram {name!r}: not every process has the bounds {hidden}; left out"
            path = self._path(shape.hidden[max(shape.hidden)][-1])
            self.problems.append(Problem(path, "bucket_conflict", detail))

    # -- from slots to groups --------------------------------------------------------------

    def groups(self) -> tuple[list[_Group], Gatherer]:
        """Return the groups, and how to put what they give into the order of the slots."""
        firsts = [at[0] for at in self._slots]
        members: dict[Kind, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        for kind, start, stop in self._kinds:
            by_count = members[kind]
            for slot, at in enumerate(self._slots[start:stop], start):
                by_count[len(at)].append(slot)
        groups = []
        order: list[int] = []
        for kind, by_count in members.items():
            for slots in by_count.values():
                # In the order of the file, columns of files that look alike become plain slices.
                slots.sort(key=firsts.__getitem__)
                columns = zip(*[self._slots[slot] for slot in slots], strict=True)
                groups.append(_Group(RULES[kind], [_pick(column) for column in columns]))
                order += slots
        where = [0] * len(order)
        for position, slot in enumerate(order):
            where[slot] = position
        return groups, _pick(where)


def _page_order(item: tuple[SeriesName, object]) -> tuple[Labels, str, str]:
    """Sort series by labels first, so that the samples of one child stand together."""
    (sample, labels, bound), _ = item
    return labels, sample, bound or ""


def _with_process(series: SeriesName, process: str) -> SeriesName:
    """Add the *process* that tells *series* apart as the label `pid`.

    A label `pid` of the user's own stays: a label on the series beats an automatic one.
    """
    sample, labels, bound = series
    if any(name == "pid" for name, _ in labels):
        return series
    return sample, tuple(sorted((*labels, ("pid", process)))), bound
