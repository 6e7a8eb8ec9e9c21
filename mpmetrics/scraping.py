"""Reading the same directory again and again, and doing only what has changed.

Between two scrapes a `Scraper` keeps the layout of every file, the meaning of every key and the
plan that follows from them. It keeps no descriptor and no value. What is left to do for each
scrape: read the used bytes, gather the numbers, merge.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from mpmetrics.entries import Layout
from mpmetrics.errors import DamagedError, Problem
from mpmetrics.files import Buffer, Identity
from mpmetrics.merging import RULES
from mpmetrics.plan import Plan, Segment
from mpmetrics.series import KeyTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpmetrics.families import MergedFamily
    from mpmetrics.files import Listing, WorkerFile

# Beyond this many forgotten keys for each one still in use, they are let go.
_FORGOTTEN_FOR_EACH_LIVE = 2


class Scrape(NamedTuple):
    """The merged *families* at one moment, the *files* they come from, and what was wrong."""

    families: list[MergedFamily]
    files: list[WorkerFile]
    problems: list[Problem]


class _Known(NamedTuple):
    """What is remembered of one file."""

    identity: Identity
    layout: Layout


class _State:
    """What a scraper remembers between scrapes."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.buffer = Buffer()
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
        self._state = _State()
        _scrapers.add(self)

    def forget(self) -> None:
        """Start anew, whoever holds the lock: nothing of the old memory is used any more."""
        self._state = _State()

    def scrape(self, listing: Listing) -> Scrape:
        """Read and merge the files of *listing*; never raises for what is in them."""
        state = self._state
        with state.lock:
            problems = list(listing.problems)
            flat: list[Any] = []
            layouts: list[tuple[WorkerFile, Layout]] = []
            latest: dict[str, Layout] = {}
            for file in listing.files:
                try:
                    layout = _read(state, file, latest.get(file.name.prefix))
                except FileNotFoundError:
                    if not file.name.is_live:
                        problems.append(_vanished(file))
                except OSError as error:
                    problems.append(Problem(file.path, "unreadable", error.strerror or str(error)))
                except DamagedError as error:
                    problems.append(Problem(file.path, "damaged", str(error)))
                else:
                    stamped = RULES[file.name.type, file.name.mode].stamped
                    gather = layout.stamped_values if stamped else layout.values
                    flat += gather(state.buffer.data)
                    layouts.append((file, layout))
                    latest[file.name.prefix] = layout
            if layouts != state.planned_for:
                self._plan_again(state, layouts)
            families = state.plan.merge(flat)
            problems += state.plan.problems
        return Scrape(families, [file for file, _ in layouts], problems)

    def _plan_again(self, state: _State, layouts: list[tuple[WorkerFile, Layout]]) -> None:
        """Make the plan for other files or other keys than the last time."""
        segments = [Segment(file, layout.keys) for file, layout in layouts]
        state.plan = Plan(segments, state.keys.meanings, accumulate=self._accumulate)
        state.planned_for = layouts
        _let_go(state, segments)


def _read(state: _State, file: WorkerFile, neighbour: Layout | None) -> Layout:
    """Read *file* into the buffer and return its layout; *neighbour* is a likely guess.

    Raises `OSError` or `DamagedError`.
    """
    known = state.known.pop(file.path, None)
    data = state.buffer
    used, identity = data.load(file.path, known.layout.used if known else 0)
    layout = Layout()
    if known and used >= known.layout.used and known.identity == identity:
        layout = known.layout
    else:
        for guess in (known.layout if known else None, neighbour):
            if guess is not None and guess.matches(data.data, used):
                layout = guess
                break
    if used != layout.used:
        layout = layout.extended(data.data, used, lambda raw: state.raws.setdefault(raw, raw))
        _understand(state.keys, layout)
    state.known[file.path] = _Known(identity, layout)
    return layout


def _understand(keys: KeyTable, layout: Layout) -> None:
    """Parse every key that was never seen before. Raises `DamagedError` with its offset."""
    for raw, offset in zip(layout.keys, layout.offsets, strict=True):
        if raw not in keys.meanings:
            try:
                keys.learn(raw)
            except DamagedError as error:
                raise DamagedError(offset, error.detail) from error


def _vanished(file: WorkerFile) -> Problem:
    """Return the problem of a *file* that was listed but is no longer there."""
    return Problem(file.path, "vanished", "the file went away before it could be read")


def _let_go(state: _State, segments: Sequence[Segment]) -> None:
    """Forget files that are gone and, once they are the larger part, keys that are gone."""
    paths = {segment.file.path for segment in segments}
    state.known = {path: known for path, known in state.known.items() if path in paths}
    distinct = {id(segment.keys): segment.keys for segment in segments}
    live = {raw for keys in distinct.values() for raw in keys}
    if len(state.raws) > len(live) * (1 + _FORGOTTEN_FOR_EACH_LIVE):
        state.keys.keep(live)
        state.raws = {raw: raw for raw in live}


_scrapers: weakref.WeakSet[Scraper] = weakref.WeakSet()


def _forget_all() -> None:
    """Give every scraper of a forked child a lock of its own."""
    for scraper in list(_scrapers):
        scraper.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
