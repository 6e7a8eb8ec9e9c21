"""The values of many files, with a memory of what does not change between two readings.

Between two readings a `SegmentReader` keeps the layout of every file and the meaning of every
key. It keeps no descriptor and no value. What is left to do for a known file: read its used bytes
and take the numbers at known offsets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mpmetrics.directory import ReadBuffer
from mpmetrics.errors import DamagedError, Problem, TooLargeError
from mpmetrics.format import KeyTable, Layout, key_offset
from mpmetrics.merging import RULES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mpmetrics.directory import Identity, WorkerFile
    from mpmetrics.format import Data, Key

# The reader forgets unused keys when it remembers this many keys for each one that is in use …
_FORGET_FROM: Final = 2
# … and this many more.
_FORGET_NOT_BELOW: Final = 1_000

_COSTLY: Final = 1 << 20
"""Used bytes of a file above which its damage is remembered."""

MOST_KEYS: Final = 1_000_000
"""The most distinct keys of all files that are read: each takes about 1 KB of memory."""

_MISSED: Final = frozenset({"vanished", "leased"})


class FileSegment(NamedTuple):
    """A segment of *file*: a reading has one number for each key of its *layout*.

    In most files these numbers are the values. An archive holds a sum in two parts, the rounded
    sum and what the rounding took away (see `mpmetrics.merging.rules`). If an archive has such
    rests, they are a second segment of it, for the same keys and behind the first. A sum over both
    segments is exact.
    """

    file: WorkerFile
    layout: Layout
    has_rests: bool = False


class Reading(NamedTuple):
    """What some files hold: their *segments*, the *values* of these in order, and *problems*."""

    values: list[Any]
    segments: list[FileSegment]
    problems: list[Problem]

    @property
    def missed(self) -> int:
        """How many files could not be opened that a moment earlier were there."""
        return sum(problem.reason in _MISSED for problem in self.problems)

    def add(self, segment: FileSegment, data: Data) -> None:
        """Add *segment*, whose file has these bytes of *data*, and a segment of rests, if any."""
        file, layout, _ = segment
        rule = RULES[file.name.type, file.name.mode]
        read = layout.stamped_values if rule.stamped else layout.values
        self.values.extend(read(data))
        self.segments.append(segment)
        if file.name.is_archive and rule.has_rests:
            rests = layout.second_numbers(data)
            if any(rests):
                self.values.extend(rests)
                self.segments.append(FileSegment(file, layout, has_rests=True))


class _KnownFile(NamedTuple):
    """What is remembered of one file.

    The segment is the same object as long as it is equal: then it takes no time to find out that
    the segments of two readings are equal.
    """

    identity: Identity
    segment: FileSegment


class _Refusal(NamedTuple):
    """A file that is damaged behind many good entries: it is not parsed again at every reading.

    A file that *lacks_room* is read again when other files are gone.
    """

    identity: Identity
    used: int
    error: DamagedError
    lacks_room: bool = False


class SegmentReader:
    """A reader of files that remembers the layout of each file and the meaning of each key.

    It is not thread-safe.
    """

    def __init__(self, buffer: ReadBuffer | None = None, *, most_keys: int = MOST_KEYS) -> None:
        """Start with an empty memory; files are read into *buffer*, by default one of its own.

        A file with which all would have more than *most_keys* distinct keys is too large.
        """
        self._buffer = buffer or ReadBuffer()
        self._most_keys = most_keys
        self._known: dict[str, _KnownFile] = {}
        self._keys = KeyTable()
        self._raws: dict[bytes, bytes] = {}
        self._refusals: dict[str, _Refusal] = {}

    @property
    def meanings(self) -> Mapping[bytes, Key]:
        """What each remembered raw key means."""
        return self._keys.meanings

    @property
    def layouts(self) -> Mapping[str, Layout]:
        """The layout of each remembered file, by path."""
        return {path: known.segment.layout for path, known in self._known.items()}

    def knows(self, files: Iterable[WorkerFile]) -> bool:
        """Return whether all *files* are remembered."""
        return all(file.path in self._known for file in files)

    def read(
        self,
        files: Iterable[WorkerFile],
        inspect: Callable[[WorkerFile, memoryview], None] | None = None,
    ) -> Reading:
        """Read all *files*; what goes wrong with one becomes a problem and costs that one.

        Call *inspect* with each file that could be read, and its used bytes.
        """
        reading = Reading([], [], [])
        latest: dict[str, Layout] = {}
        names: dict[tuple[int, ...], str] = {}
        for file in _links_last(files):
            try:
                segment = self._load(file, latest.get(file.name.prefix))
            except (OSError, DamagedError, MemoryError) as error:
                reading.problems.append(_describe(file, error))
            else:
                latest[file.name.prefix] = segment.layout
                counted = names.setdefault(self._known[file.path].identity[:2], file.path)
                if counted is file.path:
                    self._add(reading, segment, inspect)
                else:
                    detail = f"another name of {counted}, which counts already"
                    reading.problems.append(Problem(file.path, "linked", detail))
        refused = {problem.path for problem in reading.problems}
        self._refusals = {path: each for path, each in self._refusals.items() if path in refused}
        self._buffer.shrink(max((segment.layout.used for segment in reading.segments), default=0))
        return reading

    def _add(
        self,
        reading: Reading,
        segment: FileSegment,
        inspect: Callable[[WorkerFile, memoryview], None] | None,
    ) -> None:
        """Add the *segment* of the file in the buffer to *reading*, and *inspect* the file."""
        reading.add(segment, self._buffer.data)
        if inspect is not None:
            with memoryview(self._buffer.data) as data:
                inspect(segment.file, data[: segment.layout.used])

    def forget_files(self, *, besides: Iterable[FileSegment] = ()) -> None:
        """Forget the layouts of all files *besides* those that have one of these segments."""
        paths = {segment.file.path for segment in besides}
        before = len(self._known)
        self._known = {path: known for path, known in self._known.items() if path in paths}
        if len(self._known) < before:  # there may be room for others now
            refusals = self._refusals.items()
            self._refusals = {path: each for path, each in refusals if not each.lacks_room}

    def forget_unused_keys(self, segments: Iterable[FileSegment]) -> None:
        """Forget the keys that are not in *segments*, once they are the larger part."""
        # Many files share a layout, which is equal to itself only.
        layouts = {layout for _, layout, _ in segments}
        used = sum(len(layout.keys) for layout in layouts)
        if len(self._raws) > _FORGET_FROM * used + _FORGET_NOT_BELOW:
            self._forget_unknown_keys(*layouts)

    def _load(self, file: WorkerFile, neighbour: Layout | None) -> FileSegment:
        """Read *file* into the buffer and return its segment; *neighbour* is a likely layout.

        Raises `OSError` or `DamagedError`.
        """
        known = self._known.pop(file.path, None)
        own = known.segment.layout if known else None
        buffer = self._buffer
        refusal = self._refusals.pop(file.path, None)
        used, identity = buffer.load(file.path, own.used if own else 0)
        if refusal and (refusal.identity, refusal.used) == (identity, used):
            self._refusals[file.path] = refusal
            raise refusal.error
        if known and own and own.used == used and known.identity == identity:
            layout = own
        else:
            layout = _recognize(buffer.data, used, own, neighbour)
        if used != layout.used:
            try:
                layout = self._extend(layout, used)
            except DamagedError as error:
                lacks_room = len(self._raws) > self._most_keys
                if lacks_room:
                    self._forget_unknown_keys()
                if lacks_room or used > _COSTLY:
                    self._refusals[file.path] = _Refusal(identity, used, error, lacks_room)
                raise
        segment = known.segment if known else None
        if segment is None or segment.file != file or segment.layout is not layout:
            segment = FileSegment(file, layout)
        # The new identity, also if it is equal to the old one. If nothing that is allocated
        # between the values stays, their memory is used for other things before the next scrape:
        # with few large files, a warm scrape then takes 3 % longer.
        self._known[file.path] = _KnownFile(identity, segment)
        return segment

    def _extend(self, layout: Layout, used: int) -> Layout:
        """Return the layout of the file in the buffer, which has grown from *layout*.

        A large file is parsed in steps: after the first wrong key the others are not looked at.
        Raises `DamagedError`.
        """
        while layout.used != used:
            known = len(layout.keys)
            layout = layout.grow(self._buffer.data, used, self._raws)
            self._learn(layout.keys[known:], layout.offsets[known:])
            if len(self._raws) > self._most_keys:
                self._check_room(layout)
        return layout

    def _check_room(self, layout: Layout) -> None:
        """Raise `TooLargeError` if the keys of *layout* are too many beside those of all files."""
        layouts = {each.segment.layout for each in self._known.values()} | {layout}
        if len({raw for each in layouts for raw in each.keys}) > self._most_keys:
            detail = f"with it, all files have more than {self._most_keys} distinct entries"
            raise TooLargeError(layout.used, detail)
        self._forget_unknown_keys(layout)

    def _forget_unknown_keys(self, *layouts: Layout) -> None:
        """Forget the keys that are in no remembered file, and in none of *layouts*."""
        kept = {each.segment.layout for each in self._known.values()}.union(layouts)
        live = {raw for layout in kept for raw in layout.keys}
        self._keys.keep(live)
        self._raws = {raw: raw for raw in live}

    def _learn(self, keys: Sequence[bytes], offsets: Sequence[int]) -> None:
        """Parse every key that was never seen before. Raises `DamagedError` with its offset."""
        try:
            self._keys.learn(keys)
        except DamagedError as error:
            entries = zip(keys, offsets, strict=True)
            raw, value_at = next(entry for entry in entries if entry[0] not in self.meanings)
            raise DamagedError(key_offset(raw, value_at), error.detail) from error


def _describe(file: WorkerFile, error: Exception) -> Problem:
    """Return the problem that *file* has when its reading raises *error*."""
    match error:
        case FileNotFoundError():
            reason, detail = "vanished", "the file went away before it could be read"
        case BlockingIOError():
            reason, detail = "leased", "another process is finding out whether its worker is alive"
        case OSError():
            reason, detail = "unreadable", error.strerror or str(error)
        case MemoryError():
            reason, detail = "unreadable", "this process has not enough memory to read it"
        case TooLargeError():
            reason, detail = "too_large", str(error)
        case _:
            reason, detail = "damaged", str(error)
    return Problem(file.path, reason, detail)


def _links_last(files: Iterable[WorkerFile]) -> Iterable[WorkerFile]:
    """Return *files* with symbolic links behind the others: of two names the real one counts."""
    files = list(files)
    if not any(file.is_link for file in files):
        return files
    return sorted(files, key=lambda file: file.is_link)


def _recognize(data: bytearray, used: int, own: Layout | None, neighbour: Layout | None) -> Layout:
    """Return a known layout that *data* has or has grown from; in the worst case an empty one.

    Workers grow alike, so a file that has grown is first compared with its neighbour: layouts
    that are shared cost their memory once, and merging is quicker for them.
    """
    guesses = [own, neighbour] if own and own.used == used else [neighbour, own]
    fitting = [guess for guess in guesses if guess is not None and guess.matches(data, used)]
    return max(fitting, key=lambda guess: guess.used, default=Layout())
