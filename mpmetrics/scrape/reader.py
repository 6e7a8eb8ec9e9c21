"""Reading the same directory again and again, and doing only what has changed.

Between two scrapes a `Scraper` keeps the layout of every file, the meaning of every key and the
plan that follows from them. It keeps no descriptor and no value. What is left to do for each
scrape: read the used bytes, gather the numbers, merge.
"""

from __future__ import annotations

import gc
import os
import threading
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mpmetrics._forks import reset_in_children
from mpmetrics.directory import FileName, ReadBuffer
from mpmetrics.errors import DamagedError, Problem
from mpmetrics.format import KeyTable, Layout, key_offset
from mpmetrics.merging import RULES, Plan, Segment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mpmetrics.directory import Identity, Listing, WorkerFile
    from mpmetrics.format import Data
    from mpmetrics.merging import MergedFamily

# With so many keys in memory for each one that is in a file, those in none are forgotten.
_FORGET_FROM = 2
_FORGET_NOT_BELOW = 1_000


class Scrape(NamedTuple):
    """The merged *families* at one moment, the *files* they come from, and what was wrong.

    *missed* is how many files of the listing were no longer there, or could not be opened
    because somebody asks whether their worker is alive: then a new listing may have more.
    """

    families: list[MergedFamily]
    files: list[WorkerFile]
    problems: list[Problem]
    missed: int = 0

    @property
    def is_kept_out(self) -> bool:
        """Whether somebody has a lease on a file, and so kept us from reading it."""
        return any(problem.reason == "leased" for problem in self.problems)


class _Known(NamedTuple):
    """What is remembered of one file."""

    identity: Identity
    layout: Layout


class Memory:
    """What is remembered from one reading to the next."""

    def __init__(self) -> None:
        """Start with nothing remembered."""
        self.lock = threading.Lock()
        self.buffer = ReadBuffer()
        self.known: dict[str, _Known] = {}
        self.keys = KeyTable()
        self.raws: dict[bytes, bytes] = {}
        self.planned_for: list[tuple[WorkerFile, Layout]] = []
        self.plan = Plan((), {})


class Scraper:
    """The chain from files to families, with a memory.

    Any number of threads may scrape at once; they take turns. In a forked child the memory
    starts anew: another thread may have been in the middle of a scrape when the fork happened.
    """

    def __init__(self, *, accumulate: bool = True) -> None:
        """Start with no memory. Without *accumulate*, buckets stay as they are in files."""
        self._accumulate = accumulate
        self._state = Memory()
        reset_in_children(self)

    def reset_after_fork(self) -> None:
        """Start anew, whoever holds the lock: nothing of the old memory is used any more."""
        self._state = Memory()

    def scrape(self, listing: Listing) -> Scrape:
        """Read and merge the files of *listing*; never raises for what is in them."""
        state = self._state
        new = any(file.path not in state.known for file in listing.files)
        with state.lock, _without_garbage_collection() if new else nullcontext():
            reading = read_all(state, listing.files)
            if reading.layouts != state.planned_for:
                self._plan_again(state, reading.layouts)
            let_go(state, reading.layouts)
            families = state.plan.merge(reading.flat)
            own = filter(_matters, reading.problems)
            problems = [*listing.problems, *own, *state.plan.problems]
        files = list(dict.fromkeys(file for file, _ in reading.layouts))
        return Scrape(families, files, problems, reading.missed)

    def _plan_again(self, state: Memory, layouts: list[tuple[WorkerFile, Layout]]) -> None:
        """Make the plan for other files or other keys than the last time."""
        segments = [Segment(file, layout.keys) for file, layout in layouts]
        state.plan = Plan(segments, state.keys.meanings, accumulate=self._accumulate)
        state.planned_for = layouts
        paths = {file.path for file, _ in layouts}
        state.known = {path: known for path, known in state.known.items() if path in paths}


class Reading(NamedTuple):
    """What the files of a listing hold: all values, file after file, and each file's layout.

    A file whose entries have two parts of a value each stands there twice in a row.
    """

    flat: list[Any]
    layouts: list[tuple[WorkerFile, Layout]]
    problems: list[Problem]

    @property
    def missed(self) -> int:
        """How many files could not be opened that a moment earlier were there."""
        return sum(problem.reason in _MISSED for problem in self.problems)

    def add(self, file: WorkerFile, layout: Layout, data: Data) -> None:
        """Add the values of *file* that are in *data*."""
        rule = RULES[file.name.type, file.name.mode]
        gather = layout.stamped_values if rule.stamped else layout.values
        self.flat.extend(gather(data))
        self.layouts.append((file, layout))
        if file.name.is_archive and rule.rests:
            rests = layout.seconds(data)
            if any(rests):
                self.flat.extend(rests)
                self.layouts.append((file, layout))


_MISSED: Final = frozenset({"vanished", "leased"})


def _matters(problem: Problem) -> bool:
    """Tell whether a *problem* is one: a live gauge may be removed at any moment."""
    name = FileName.parse(os.path.basename(problem.path))
    return not (problem.reason == "vanished" and name and name.is_live)


def read_all(
    state: Memory,
    files: Iterable[WorkerFile],
    see: Callable[[WorkerFile, memoryview], None] | None = None,
) -> Reading:
    """Read all *files*; what goes wrong with one becomes a problem and costs that one.

    *see* is shown the bytes of each file that could be read.
    """
    reading = Reading([], [], [])
    latest: dict[str, Layout] = {}
    for file in files:
        try:
            layout = _read(state, file, latest.get(file.name.prefix))
        except FileNotFoundError:
            detail = "the file went away before it could be read"
            reading.problems.append(Problem(file.path, "vanished", detail))
        except BlockingIOError:
            detail = "somebody else is finding out whether its worker is alive"
            reading.problems.append(Problem(file.path, "leased", detail))
        except OSError as error:
            detail = error.strerror or str(error)
            reading.problems.append(Problem(file.path, "unreadable", detail))
        except DamagedError as error:
            reading.problems.append(Problem(file.path, "damaged", str(error)))
        else:
            reading.add(file, layout, state.buffer.data)
            if see is not None:
                with memoryview(state.buffer.data) as data:
                    see(file, data[: layout.used])
            latest[file.name.prefix] = layout
    return reading


def _read(state: Memory, file: WorkerFile, neighbour: Layout | None) -> Layout:
    """Read *file* into the buffer and return its layout; *neighbour* is a likely guess.

    Raises `OSError` or `DamagedError`.
    """
    known = state.known.pop(file.path, None)
    buffer = state.buffer
    used, identity = buffer.load(file.path, known.layout.used if known else 0)
    if known and known.layout.used == used and known.identity == identity:
        layout = known.layout
    else:
        layout = _recognise(buffer.data, used, known.layout if known else None, neighbour)
    if used != layout.used:
        layout = layout.extended(buffer.data, used, state.raws)
        _understand(state.keys, layout)
    state.known[file.path] = _Known(identity, layout)
    return layout


def _recognise(data: bytearray, used: int, own: Layout | None, neighbour: Layout | None) -> Layout:
    """Return a known layout that *data* has or has grown from; in the worst case an empty one.

    Workers grow alike, so one that has grown is first compared with its neighbour: layouts that
    are shared cost their memory once and their merging is quicker.
    """
    guesses = [own, neighbour] if own and own.used == used else [neighbour, own]
    fitting = [guess for guess in guesses if guess is not None and guess.matches(data, used)]
    return max(fitting, key=lambda guess: guess.used, default=Layout())


def _understand(keys: KeyTable, layout: Layout) -> None:
    """Parse every key that was never seen before. Raises `DamagedError` with its offset."""
    try:
        keys.learn(layout.keys)
    except DamagedError as error:
        entries = zip(layout.keys, layout.offsets, strict=True)
        raw, value_at = next(entry for entry in entries if entry[0] not in keys.meanings)
        raise DamagedError(key_offset(raw, value_at), error.detail) from error


def let_go(state: Memory, layouts: Iterable[tuple[WorkerFile, Layout]]) -> None:
    """Forget the keys that are not in *layouts*, once they are the larger part."""
    distinct = {id(layout): layout.keys for _, layout in layouts}
    if len(state.raws) > _FORGET_FROM * sum(map(len, distinct.values())) + _FORGET_NOT_BELOW:
        live = {raw for keys in distinct.values() for raw in keys}
        state.keys.keep(live)
        state.raws = {raw: raw for raw in live}


class _Pause:
    """A pause of the garbage collector; it ends in a forked child, too."""

    def __init__(self) -> None:
        reset_in_children(self)
        gc.disable()

    def reset_after_fork(self) -> None:
        gc.enable()


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Keep the garbage collector from looking at what is being built, again and again.

    Building a great many tuples sets it off every few hundred of them, for nothing: they form no
    cycles. That takes a third of the time of a first scrape. A scrape that meets no new file
    never comes here, so the server's own garbage waits some tenths of a second, at the worst.
    """
    if not gc.isenabled():
        yield
        return
    pause = _Pause()
    try:
        yield
    finally:
        pause.reset_after_fork()
