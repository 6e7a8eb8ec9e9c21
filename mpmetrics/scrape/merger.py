"""The merge of several parts, with a memory: one plan for the segments of all of them.

The segments of several directories are merged as those of one directory are.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from mpmetrics._forks import reset_in_children
from mpmetrics.merging import Segment, make_plan
from mpmetrics.scrape.collection_pause import CollectionPause

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpmetrics.errors import Problem
    from mpmetrics.format import Key, Labels
    from mpmetrics.merging import MergedFamily, Plan
    from mpmetrics.scrape.part import Part
    from mpmetrics.scrape.reader import FileSegment


class Merged(NamedTuple):
    """The merged *families*, sorted by name, and the *problems*: what contradicts what."""

    families: list[MergedFamily]
    problems: Sequence[Problem]


class Merger:
    """A merger of parts that remembers its plan until a key or a file is new.

    Any number of threads may merge at once; they take turns. In a forked child the memory is
    empty again.
    """

    def __init__(self, *, accumulate: bool = True) -> None:
        """Start without a plan. Without *accumulate*, buckets stay as they are in files."""
        self._accumulate = accumulate
        self.reset_after_fork()
        reset_in_children(self)

    def reset_after_fork(self) -> None:
        """Replace the lock and the whole memory."""
        self._lock = threading.Lock()
        self._planned_for: list[tuple[Labels, list[FileSegment]]] = []
        self._plan = make_plan((), {})

    def merge(self, parts: Sequence[Part]) -> Merged:
        """Merge all *parts*; never raise for what is in them."""
        segments = [(part.labels, part.reading.segments) for part in parts]
        if len(parts) == 1:
            values = parts[0].reading.values
        else:
            values = [value for part in parts for value in part.reading.values]
        with self._lock:
            try:
                if segments != self._planned_for:
                    with CollectionPause():
                        self._plan = self._make_plan(parts)
                    self._planned_for = segments
                return Merged(self._plan.merge(values), self._plan.problems)
            except MemoryError:
                self._planned_for, self._plan = [], make_plan((), {})
                raise

    def _make_plan(self, parts: Sequence[Part]) -> Plan:
        """Make the plan for other parts or other keys than the last time."""
        segments = [
            Segment(each.file, each.layout.keys, part.labels)
            for part in parts
            for each in part.reading.segments
        ]
        meanings: dict[bytes, Key] = {}
        for part in parts:
            meanings.update(part.meanings)
        return make_plan(segments, meanings, accumulate=self._accumulate)
