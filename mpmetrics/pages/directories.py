"""The directories of a page, merged as one set of segments.

Two directories of one application, as of a web server and of its task queue, or one of each
container, are merged as the files of one directory are. There is one difference: a pid is unique
within a directory only, so series of single processes get a label for the directory, too.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mpmetrics._forks import reset_in_children
from mpmetrics.pages.source import SegmentSource
from mpmetrics.scrape import (
    Merger,
    NamedReading,
    Remains,
    choose_label,
    count_once,
    drop_known_strangers,
    find_free_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mpmetrics.pages.source import Source
    from mpmetrics.pages.timed_source import Answer
    from mpmetrics.scrape import DirectoryReading


class DirectorySet:
    """The directories among the *sources* of a page, which have these *names*."""

    def __init__(
        self, sources: Sequence[Source], names: Sequence[str], label: str | None = None
    ) -> None:
        """Configure only. The *label* is None for the default, and only if it is needed.

        Raises `LabelError`.
        """
        at = [index for index, each in enumerate(sources) if isinstance(each, SegmentSource)]
        self._first = at[0] if at else None
        self._names = names
        self._label = choose_label(label, has_several=has_several(sources))
        self._merger = Merger()
        self._has_several = has_several(sources)
        self._given: dict[tuple[str, str], str] = {}
        self.reset_after_fork()
        reset_in_children(self)

    def reset_after_fork(self) -> None:
        """Forget what remains of directories: a forked child has not shown it to any client."""
        self._remains = Remains()

    def merge(self, answers: Sequence[Answer]) -> list[Answer]:
        """Return *answers* with the merged families of all directories in the first one's answer.

        A directory that has two names counts once. If there are several directories, the totals
        of those that are missing now stay.
        """
        answers = list(answers)
        if self._first is None:
            return answers
        found = [
            (name, reading)
            for name, answer in zip(self._names, answers, strict=True)
            for reading in answer.gathered.readings
        ]
        readings = count_once(
            NamedReading(name, reading)
            for name, (_, reading) in zip(self._name_each(found), found, strict=True)
        )
        remains = self._remains.update(readings) if self._has_several else []
        parts = [*remains, *(each.part(self._label) for each in readings)]
        merged = self._merger.merge(parts)
        counted = [reading for _, reading in readings]
        identities = set(map(id, counted))
        for index, answer in enumerate(answers):
            gathered = answer.gathered
            kept = [each for each in gathered.readings if id(each) in identities]
            problems = drop_known_strangers(gathered.problems, counted)
            answers[index] = answer._replace(
                gathered=gathered._replace(readings=kept, problems=problems)
            )
        first = answers[self._first]
        problems = [*first.gathered.problems, *merged.problems]
        gathered = first.gathered._replace(families=merged.families, problems=problems)
        answers[self._first] = first._replace(gathered=gathered)
        return answers

    def _name_each(self, found: Sequence[tuple[str, DirectoryReading]]) -> list[str]:
        """Return a name for each reading that was *found* at a source, which no other has.

        A sub-directory keeps its name while it is there, whatever becomes of others of that name.
        """
        given = [(name, reading.name or name) for name, reading in found]
        known = self._given
        self._given = {each: known[each] for each in given if each in known}
        taken = {*self._names, *self._given.values()}
        for each in given:
            source, name = each
            if each not in self._given:
                self._given[each] = name if name == source else find_free_name(name, taken)
                taken.add(self._given[each])
        return [self._given[each] for each in given]


def has_several(sources: Iterable[Source]) -> bool:
    """Return whether *sources* are configured to read more than one directory.

    It is not asked which of them are there, so that a series never changes its labels while
    directories come and go.
    """
    directories = [source for source in sources if isinstance(source, SegmentSource)]
    paths = {_absolute(getattr(source, "path", None)) for source in directories}
    return len(paths) > 1 or any(getattr(source, "has_many", False) for source in directories)


def drop_repeated(sources: Iterable[Source]) -> list[Source]:
    """Return *sources* without directories that an earlier one has by the same name."""
    known: set[tuple[str, str]] = set()
    kept = []
    for source in sources:
        path = getattr(source, "path", None)
        key = (_absolute(path), source.name)
        if not isinstance(source, SegmentSource) or not path or key not in known:
            kept.append(source)
        known.add(key)
    return kept


def _absolute(path: object) -> str:
    return os.path.abspath(path) if isinstance(path, str) else ""
