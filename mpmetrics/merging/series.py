"""From segments to series: which values belong together.

The values of all segments stand behind each other in one sequence, *flat*, in the order of the
segments. A *place* is an index of it. A series of the result has as many places as segments have
contributed to it, and one more for each time that a segment has it under another key.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from mpmetrics.exposition import TOTAL
from mpmetrics.format import clean_text
from mpmetrics.merging.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mpmetrics.directory import WorkerFile
    from mpmetrics.format import Key, Labels, SeriesName

    Flat = Sequence[Any]
    Places = tuple[int, ...]
    Series = dict[SeriesName, Places]


_Key = TypeVar("_Key")


class Segment(NamedTuple):
    """What is merged as one: the values of a worker's file or of an archive.

    *keys* are its raw keys, in the order of the *file*. The rests of an archive are a second
    segment. Series of single processes get these *labels* beside that of their process.
    """

    file: WorkerFile
    keys: tuple[bytes, ...]
    labels: Labels = ()


class Kind(NamedTuple):
    """The metric *type* and gauge *mode* of a segment, which decide how its values are merged."""

    type: str
    mode: str


class Origins:
    """The origins of values: the segment of each place, and its HELP within the segment."""

    def __init__(self, segments: Sequence[Segment], helps: Mapping[int, str]) -> None:
        """Take the *segments*, and the HELP of each place whose series has several (*helps*)."""
        self._segments = segments
        self._starts = list(_starts(segments))
        self._helps = helps

    def segment_number(self, place: int) -> int:
        """Return the number of the segment that the value at *place* comes from."""
        return bisect_right(self._starts, place) - 1

    def file(self, place: int) -> WorkerFile:
        """Return the file that the value at *place* comes from."""
        return self._segments[self.segment_number(place)].file

    def writer(self, place: int) -> tuple[str, Labels]:
        """Return the id of the process that wrote the value at *place*, and its other labels."""
        segment = self._segments[self.segment_number(place)]
        return segment.file.name.id, segment.labels

    def histogram_key(self, place: int) -> tuple[int, str]:
        """Return a key that tells apart histograms of one name: segment, and HELP within it."""
        return self.segment_number(place), self._helps.get(place, "")


class SeriesIndex(NamedTuple):
    """The places of every series, by family and kind, and where the values come from.

    *helps* has the HELP of each family of a kind: the first in file order.
    """

    families: Mapping[str, Mapping[Kind, Series]]
    helps: Mapping[tuple[str, Kind], str]
    origins: Origins


def index_series(segments: Sequence[Segment], keys: Mapping[bytes, Key]) -> SeriesIndex:
    """Index the series of *segments*, whose raw keys have the meanings in *keys*."""
    families: dict[str, dict[Kind, Series]] = defaultdict(lambda: defaultdict(dict))
    helps: dict[tuple[str, Kind], str] = {}
    variants: dict[int, str] = {}
    several: dict[tuple[str, Kind, SeriesName], list[int]] = {}
    for (kind, process), places_of in _index_keys(segments).items():
        strip_total = kind.type == "counter"
        of_kind: dict[str, Series] = {}
        for raw, at in places_of.items():
            name, series_name, help_text = keys[raw]
            if strip_total:
                name = name.removesuffix(TOTAL) or name
            if process:
                series_name = _with_labels(series_name, process)
            series = of_kind.get(name)
            if series is None:
                series = of_kind[name] = families[name][kind]
                helps.setdefault((name, kind), help_text)
            known = series.setdefault(series_name, at)
            if known is not at:
                # The same series under another HELP, in another spelling, or of two processes.
                _add_places(several, (name, kind, series_name), known, at)
                variants.update(dict.fromkeys(at, help_text))
    for (name, kind, series_name), places in several.items():
        families[name][kind][series_name] = tuple(sorted(places))
    return SeriesIndex(families, helps, Origins(segments, variants))


class _SharedKeys:
    """A tuple of raw keys, equal only to itself.

    Files that look alike share one tuple. Comparing the keys one by one, to find a second tuple
    with the same keys, would cost more than it saves.
    """

    __slots__ = ("keys",)

    def __init__(self, keys: tuple[bytes, ...]) -> None:
        self.keys = keys

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _SharedKeys) and self.keys is other.keys

    def __hash__(self) -> int:
        return id(self.keys)


def _index_keys(segments: Sequence[Segment]) -> dict[tuple[Kind, Labels], dict[bytes, Places]]:
    """Return the places of every distinct raw key, for each kind and process."""
    index: dict[tuple[Kind, Labels], dict[bytes, Places]] = {}
    several: dict[tuple[Kind, Labels, bytes], list[int]] = {}
    for (kind, process, shared), starts in _group_alike(segments).items():
        places_of = index.setdefault((kind, process), {})
        columns = [range(start, start + len(shared.keys)) for start in starts]
        for raw, at in zip(shared.keys, zip(*columns, strict=True), strict=True):
            known = places_of.setdefault(raw, at)
            if known is not at:
                _add_places(several, (kind, process, raw), known, at)
    for (kind, process, raw), places in several.items():
        index[kind, process][raw] = tuple(sorted(places))
    return index


def _add_places(several: dict[_Key, list[int]], key: _Key, known: Places, more: Places) -> None:
    """Add *more* places of *key* to those that are *known*.

    They are sorted once, at the end: a damaged file may have one key a million times.
    """
    places = several.get(key)
    if places is None:
        places = several[key] = [*known]
    places += more


def _group_alike(
    segments: Sequence[Segment],
) -> dict[tuple[Kind, Labels, _SharedKeys], list[int]]:
    """Group the segments that are merged alike and share their keys; return where each starts.

    The workers of one server mostly run the same code, so this saves most of the work. A process
    has no labels unless its series have them.
    """
    alike: dict[tuple[Kind, Labels, _SharedKeys], list[int]] = {}
    for (file, keys, labels), start in zip(segments, _starts(segments), strict=True):
        kind = Kind(file.name.type, file.name.mode)
        process: Labels = ()
        if RULES[kind].per_process:
            process = (*labels, ("pid", clean_text(file.name.id)))
        alike.setdefault((kind, process, _SharedKeys(keys)), []).append(start)
    return alike


def _starts(segments: Sequence[Segment]) -> Iterator[int]:
    """Yield the place of the first value of each segment."""
    start = 0
    for segment in segments:
        yield start
        start += len(segment.keys)


def _with_labels(series: SeriesName, added: Labels) -> SeriesName:
    """Add the labels *added* to the name of a series.

    A label of the user's own stays: a label on the series beats an automatic one.
    """
    sample, labels, bound = series
    own = {name for name, _ in labels}
    new = [each for each in added if each[0] not in own]
    return sample, tuple(sorted((*labels, *new))), bound
