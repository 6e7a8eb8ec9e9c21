"""What remains of directories that were read before and are not there now.

A directory may vanish, as that of a container does, or fail to be read for a while. If its counters
left the sums of all directories, these would fall, and Prometheus takes a counter that falls for
one that started again: it would count all that is left a second time. So such a directory is
treated as dead workers are: its totals stay, and what is of the living only goes.

It may come back, even if another one has had its name meanwhile, as that of the next container
has. Then its totals are taken back. So what remains of each is remembered by itself, and beside
that folded with all others, as by a compaction but in memory. Of many the first are remembered no
more: however many have gone, they take the space of a few.
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
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mpmetrics.format import Key
    from mpmetrics.scrape.directory_parts import NamedReading
    from mpmetrics.scrape.view import DirectoryReading

    Counts = Mapping[FileName, Mapping[bytes, float]]

_MOST_MISSING: Final = 64
"""How many directories that are missing are remembered one by one, or as many as there were at
once: all may come back, as when their file system is mounted again."""

_ROUNDING: Final = 1e-9
"""By which part a count may seem to have fallen that was added up in another order."""

_FOLDED: Final = "(directories that have gone)"
"""Stands for a directory in the paths of what was folded in memory."""


class _Values(NamedTuple):
    """The *values* of one *segment*, in the order of its keys."""

    segment: FileSegment
    values: Sequence[Any]


class _Gone(NamedTuple):
    """A directory as it was read last: its *trace*, and the *totals* that remain of it."""

    trace: _Trace
    totals: Part


class Remains:
    """What remains of directories, for a page that merges several."""

    def __init__(self) -> None:
        """Start without directories."""
        self._present: dict[str, DirectoryReading] = {}
        self._missing: list[_Gone] = []
        self._most = _MOST_MISSING
        self._settled: list[Part] = []
        """Totals that stay for good, as one part; there is none before the first."""
        self._all: list[Part] = []
        """The same with those of directories that are missing and may come back."""

    def update(self, readings: Iterable[NamedReading]) -> list[Part]:
        """Take the *readings* of all directories that are there; return what remains of others.

        This is one part, or none.
        """
        now = dict(readings)
        arrived = dict(now)
        missing: list[DirectoryReading] = []
        emptied: list[DirectoryReading] = []
        for name, before in self._present.items():
            heir = _find_heir(name, before, now)
            if heir is None or _is_closed(_list_known(before), now[heir]):
                missing.append(before)
                continue
            arrived.pop(heir, None)
            if not _continues(before, now[heir]):
                emptied.append(before)
        self._take_back(arrived.values())
        self._add(missing, emptied)
        # One that is closed stays missing: it arrives as soon as its files can be opened.
        away = [one.trace for one in self._missing]
        closed = {
            name
            for name, reading in arrived.items()
            if any(each.is_of(reading) and _is_closed(each.files, reading) for each in away)
        }
        self._present = {name: each for name, each in now.items() if name not in closed}
        self._most = max(self._most, len(now))
        excess = self._missing[: max(0, len(self._missing) - self._most)]
        del self._missing[: len(excess)]
        if excess:
            self._settled = _fold_all([*self._settled, *(each.totals for each in excess)])
        return self._all

    def _add(
        self, missing: Sequence[DirectoryReading], emptied: Sequence[DirectoryReading]
    ) -> None:
        """Keep the totals of directories, of those that are *missing* as long as they are away."""
        if not missing and not emptied:
            return
        # Not folded one by one: so they share their keys with other directories.
        gone = [_Gone(_Trace.of(each), keep_totals([each.part])) for each in missing if each.files]
        left = [keep_totals([each.part]) for each in emptied]
        self._missing += gone
        if left:
            self._settled = _fold_all([*self._settled, *left])
        self._all = _fold_all([*self._all, *left, *(each.totals for each in gone)])

    def _take_back(self, arrived: Iterable[DirectoryReading]) -> None:
        """Drop what was kept of directories that are there again, unless they were emptied."""
        is_changed = False
        for reading in arrived:
            one = next((one for one in self._missing if one.trace.is_of(reading)), None)
            if one is None or _is_closed(one.trace.files, reading):
                continue
            self._missing.remove(one)
            if one.trace.leads_to(reading, one.totals):
                is_changed = True
            else:
                self._settled = _fold_all([*self._settled, one.totals])
        if is_changed:
            self._all = _fold_all([*self._settled, *(each.totals for each in self._missing)])


def _fold_all(parts: list[Part]) -> list[Part]:
    """Return *parts* as one part, or none if there is none."""
    return [fold_totals(parts)] if parts else []


def keep_totals(parts: Iterable[Part]) -> Part:
    """Return one part of all *parts*, with the values that outlive their process only."""
    reading = Reading([], [], [])
    meanings_of: dict[Layout, Mapping[bytes, Key]] = {}
    for part in parts:
        for segment, values in _split(part.reading):
            rule = RULES[segment.file.name.type, segment.file.name.mode]
            if rule.dead != GONE and not rule.per_process:
                reading.values.extend(values)
                reading.segments.append(segment)
                meanings_of[segment.layout] = part.meanings
    # Only those of its own keys: directories share the memory of all of them.
    meanings = {key: each[key] for layout, each in meanings_of.items() for key in layout.keys}
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


class _Trace(NamedTuple):
    """What tells whether a directory is one that was read before.

    *counts* has the sum of the counts in each file, by its name and inode number. *files* are all
    files that could be read.
    """

    identity: tuple[int, int]
    born_ns: int
    generation: int
    counts: Mapping[tuple[FileName, int], float]
    files: frozenset[tuple[FileName, int]] = frozenset()

    @classmethod
    def of(cls, reading: DirectoryReading) -> _Trace:
        """Return the trace of a directory."""
        counts = {
            file: sum(each.values())
            for file, each in _by_inode(reading, _read_counts(reading)).items()
        }
        known = _list_known(reading)
        return cls(reading.identity, reading.born_ns, reading.generation, counts, known)

    def is_of(self, now: DirectoryReading) -> bool:
        """Return whether *now* is a reading of that directory, whatever it holds.

        Where it is not known when directories were made, it has to hold the same files.
        """
        if self.born_ns and now.born_ns:
            # The device number may be another one when a file system has been mounted again.
            return (self.born_ns, self.identity[1]) == (now.born_ns, now.identity[1])
        return self.identity == now.identity

    def leads_to(self, now: DirectoryReading, totals: Part) -> bool:
        """Return whether the directory, which had these *totals*, has not been emptied since."""
        counts = _by_inode(now, _read_counts(now))
        grown = any(
            file in counts and sum(counts[file].values()) >= count * (1 - _ROUNDING)
            for file, count in self.counts.items()
        )
        if grown or now.generation <= self.generation:
            return grown or not self.counts
        return not _have_fallen(_add_up(totals), _add_up(now.part))


def _find_heir(
    name: str, before: DirectoryReading, now: Mapping[str, DirectoryReading]
) -> str | None:
    """Return the name that the directory *name*, which was read *before*, has *now*, if any."""
    is_same = _Trace(before.identity, before.born_ns, before.generation, {}).is_of
    if name in now and is_same(now[name]):
        return name
    return next((each for each, reading in now.items() if is_same(reading)), None)


def _list_known(reading: DirectoryReading) -> frozenset[tuple[FileName, int]]:
    """Return the name and the inode number of each file of *reading*."""
    return frozenset((file.name, file.inode) for file in reading.files)


def _is_closed(known: frozenset[tuple[FileName, int]], now: DirectoryReading) -> bool:
    """Return whether none of the *known* files could be opened, though they are still listed.

    So it is as long as permissions are missing: then nothing tells what the directory holds.
    """
    if not known or not known.isdisjoint(_list_known(now)):
        return False
    return any((file.name, file.inode) in known for file in now.listing.files)


def _continues(before: DirectoryReading, now: DirectoryReading) -> bool:
    """Return whether *now* is a later state of the directory *before*: it was not emptied."""
    segments = before.part.reading.segments, now.part.reading.segments
    if before is now or (before.changed_ns == now.changed_ns and segments[0] == segments[1]):
        return True  # as at most scrapes
    if not before.files or _has_grown_from(before, now):
        return True
    # A compaction has replaced the files. A new server may have removed them before that.
    return now.generation > before.generation and not _have_fallen(
        _add_up(before.part), _add_up(now.part)
    )


def _has_grown_from(before: DirectoryReading, now: DirectoryReading) -> bool:
    """Return whether *now* has a file of *before* in which no count is smaller.

    Inode numbers alone do not tell: new files may have those of old ones.
    """
    known = {(file.name, file.inode) for file in before.files}
    if not any((file.name, file.inode) in known for file in now.files):
        return False
    old = _by_inode(before, _read_counts(before))
    new = _by_inode(now, _read_counts(now))
    fallen = [
        any(new[file].get(key, -1.0) < value for key, value in counts.items())
        for file, counts in old.items()
        if file in new
    ]
    return not (fallen and all(fallen))


def _by_inode(
    reading: DirectoryReading, counts: Counts
) -> Mapping[tuple[FileName, int], Mapping[bytes, float]]:
    """Return *counts* by the name and the inode number of their file."""
    return {
        (file.name, file.inode): counts[file.name] for file in reading.files if file.name in counts
    }


def _read_counts(reading: DirectoryReading) -> Counts:
    """Return the counts, which only grow, by key, for each file that has any."""
    found: dict[FileName, Mapping[bytes, float]] = {}
    for segment, counts in _find_counts(reading.part):
        found[segment.file.name] = counts
    return found


def _find_counts(part: Part) -> Iterator[tuple[FileSegment, Mapping[bytes, float]]]:
    """Yield each segment with counts, which only grow, and these by key."""
    meanings = part.meanings
    for segment, values in _split(part.reading):
        if segment.file.name.type != "gauge" and not segment.has_rests:
            counts = {
                key: value
                for key, value in zip(segment.layout.keys, values, strict=True)
                if not meanings[key][1][0].endswith(SUM)  # observations may be negative
            }
            yield segment, counts


def _add_up(part: Part) -> Mapping[tuple[Any, ...], float]:
    """Return the counts of all files of *part*, by series."""
    totals: dict[tuple[Any, ...], float] = defaultdict(float)
    for segment, counts in _find_counts(part):
        for key, value in counts.items():
            # A bucket may be spelled in another way once it is folded: all together are the count.
            family, (sample, labels, _), _ = part.meanings[key]
            totals[segment.file.name.type, family, sample, labels] += value
    return totals


def _have_fallen(
    before: Mapping[tuple[Any, ...], float], now: Mapping[tuple[Any, ...], float]
) -> bool:
    """Return whether one of the totals is smaller now, by more than rounding."""
    return any(now.get(series, 0.0) < value * (1 - _ROUNDING) for series, value in before.items())
