"""What remains of directories that were read before and are not there now.

A directory may vanish, as that of a container does, or fail to be read for a while. If its counters
left the sums of all directories, these would fall, and Prometheus takes a counter that falls for
one that started again: it would count all that is left a second time. So such a directory is
treated as dead workers are: its totals stay, and what is of the living only goes.

It may come back. If it is the same one, what remains of it is dropped. If another one has its name,
as that of the next container does, what remains of the first is folded, as by a compaction but in
memory: it takes the space of one directory, however many have gone.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mpmetrics.directory import FileName, WorkerFile
from mpmetrics.exposition import SUM
from mpmetrics.format import KeyTable, Layout, encode, format_key
from mpmetrics.merging import GONE, RULES, Segment, make_plan
from mpmetrics.scrape.part import Part
from mpmetrics.scrape.reader import FileSegment, Reading

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

    from mpmetrics.format import Key
    from mpmetrics.scrape.directory_parts import NamedReading
    from mpmetrics.scrape.view import DirectoryReading

_MOST_MISSING: Final = 64
"""How many directories that are missing are remembered one by one; of more, the first is folded."""

_FOLDED: Final = "(directories that have gone)"
"""Stands for a directory in the paths of what was folded in memory."""


class _Values(NamedTuple):
    """The *values* of one *segment*, in the order of its keys."""

    segment: FileSegment
    values: Sequence[Any]


class Remains:
    """What remains of directories, for a page that merges several."""

    def __init__(self) -> None:
        """Start without directories."""
        self._present: dict[str, DirectoryReading] = {}
        self._missing: dict[str, DirectoryReading] = {}
        self._kept: dict[str, Part] = {}
        self._folded: Part | None = None

    def update(self, readings: Iterable[NamedReading]) -> list[Part]:
        """Take the *readings* of all directories that are there; return what remains of others."""
        now = dict(readings)
        for name, reading in now.items():
            self._replace(name, reading)
        for name in [name for name in self._present if name not in now]:
            reading = self._present[name]
            if not any(_is_same(reading, other) for other in now.values()):
                self._missing[name] = reading
                self._kept[name] = keep_totals([reading.part])
        while len(self._missing) > _MOST_MISSING:
            name = next(iter(self._missing))
            self._fold(self._missing.pop(name))
            self._kept.pop(name)
        self._present = now
        folded = [self._folded] if self._folded is not None else []
        return [*folded, *self._kept.values()]

    def _replace(self, name: str, reading: DirectoryReading) -> None:
        """Take the *reading* of the directory *name*; fold that of another one of its name."""
        missing = self._missing.pop(name, None)
        self._kept.pop(name, None)
        before = missing or self._present.get(name)
        if before is not None and before is not reading and not _continues(before, reading):
            self._fold(before)

    def _fold(self, gone: DirectoryReading) -> None:
        folded = [self._folded] if self._folded is not None else []
        self._folded = fold_totals([*folded, gone.part])


def keep_totals(parts: Iterable[Part]) -> Part:
    """Return one part of all *parts*, with the values that outlive their process only."""
    reading = Reading([], [], [])
    meanings: dict[bytes, Key] = {}
    for part in parts:
        meanings.update(part.meanings)
        for segment, values in _split(part.reading):
            rule = RULES[segment.file.name.type, segment.file.name.mode]
            if rule.dead != GONE and not rule.per_process:
                reading.values.extend(values)
                reading.segments.append(segment)
    return Part(reading, meanings)


def fold_totals(parts: Iterable[Part]) -> Part:
    """Merge the totals of *parts* into a part that has one segment of each kind."""
    whole = keep_totals(parts)
    of_kind: dict[FileName, list[_Values]] = defaultdict(list)
    for each in _split(whole.reading):
        of_kind[each.segment.file.name._replace(id="")].append(each)
    folded = Reading([], [], [])
    table = KeyTable()
    for kind, several in of_kind.items():
        segments = [Segment(each.segment.file, each.segment.layout.keys) for each in several]
        plan = make_plan(segments, whole.meanings, accumulate=False)
        series = plan.fold([value for each in several for value in each.values])
        data = encode(
            (format_key(family, sample, labels, help_text), value, second)
            for family, sample, labels, help_text, value, second in series
        )
        layout = Layout().extend(data, len(data), {})
        table.learn(layout.keys)
        name = kind.archive(1)
        file = WorkerFile(f"{_FOLDED}/{name.format()}", name)
        folded.add(FileSegment(file, layout), data)
    return Part(folded, table.meanings)


def _split(reading: Reading) -> Iterator[_Values]:
    """Yield each segment of *reading* with its values."""
    start = 0
    for segment in reading.segments:
        end = start + len(segment.layout.keys)
        yield _Values(segment, reading.values[start:end])
        start = end


def _is_same(before: DirectoryReading, now: DirectoryReading) -> bool:
    """Return whether two readings are those of one directory, whatever it holds."""
    if before.born_ns and now.born_ns:
        # The device number may be another one when a file system has been mounted again.
        return (before.born_ns, before.identity[1]) == (now.born_ns, now.identity[1])
    return before.identity == now.identity and _has_grown_from(before, now)


def _continues(before: DirectoryReading, now: DirectoryReading) -> bool:
    """Return whether *now* is a later state of the directory that was read *before*."""
    if not _is_same(before, now):
        return not before.files
    segments = before.part.reading.segments, now.part.reading.segments
    if before.changed_ns == now.changed_ns and segments[0] == segments[1]:
        return True  # as at most scrapes
    if now.generation > before.generation:
        return True  # a compaction has replaced the files
    return not before.files or _has_grown_from(before, now)


def _has_grown_from(before: DirectoryReading, now: DirectoryReading) -> bool:
    """Return whether *now* has a file of *before* in which no count is smaller.

    Inode numbers alone do not tell: new files may have those of old ones.
    """
    known = {(file.name, file.inode) for file in before.files}
    shared = {file.name for file in now.files if (file.name, file.inode) in known}
    old, new = _read_counts(before, shared), _read_counts(now, shared)
    fallen = [
        any(new[file].get(key, -1.0) < value for key, value in counts.items())
        for file, counts in old.items()
        if file in new
    ]
    return bool(shared) and not (fallen and all(fallen))


def _read_counts(
    reading: DirectoryReading, files: Container[FileName]
) -> Mapping[FileName, Mapping[bytes, float]]:
    """Return the counts, which only grow, by key, for each of the *files* that has any."""
    found: dict[FileName, Mapping[bytes, float]] = {}
    meanings = reading.part.meanings
    for segment, values in _split(reading.part.reading):
        name = segment.file.name
        if name in files and name.type != "gauge" and not segment.has_rests:
            found[name] = {
                key: value
                for key, value in zip(segment.layout.keys, values, strict=True)
                if not meanings[key][1][0].endswith(SUM)  # observations may be negative
            }
    return found
