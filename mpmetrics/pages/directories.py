"""The directories of a page, merged as one set of segments.

Two directories of one application, as of a web server and of its task queue, or one of each
container, are merged as the files of one directory are. There is one difference: a pid is unique
within a directory only, so series of single processes get a label for the directory, too.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from mpmetrics.errors import LabelError
from mpmetrics.exposition import check_labels
from mpmetrics.format import clean_text
from mpmetrics.pages.source import SegmentSource
from mpmetrics.scrape import PROCESS_LABEL, Merger

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mpmetrics.errors import Problem
    from mpmetrics.format import Labels
    from mpmetrics.pages.source import Source
    from mpmetrics.pages.timed_source import Answer
    from mpmetrics.scrape import DirectoryReading

DEFAULT_LABEL: Final = "directory"
"""The label that tells directories apart, on a page that has several."""

_TAKEN: Final = {"pid", PROCESS_LABEL}


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
        self._label = choose_label([sources[index] for index in at], label)
        self._merger = Merger()

    def merge(self, answers: Sequence[Answer]) -> list[Answer]:
        """Return *answers* with the merged families of all directories in the first one's answer.

        A directory that has two names counts once.
        """
        answers = list(answers)
        if self._first is None:
            return answers
        seen: set[tuple[int, int]] = set()
        parts = []
        for index, (name, answer) in enumerate(zip(self._names, answers, strict=True)):
            readings = [
                each for each in answer.gathered.readings if not _is_known(each.identity, seen)
            ]
            parts += [
                each.part._replace(labels=self._labels_of(join_names(name, each.name)))
                for each in readings
            ]
            gathered = answer.gathered._replace(readings=readings)
            answers[index] = answer._replace(gathered=gathered)
        merged = self._merger.merge(parts)
        _drop_known_strangers(answers)
        answer = answers[self._first]
        problems = [*answer.gathered.problems, *merged.problems]
        gathered = answer.gathered._replace(families=merged.families, problems=problems)
        answers[self._first] = answer._replace(gathered=gathered)
        return answers

    def _labels_of(self, name: str) -> Labels:
        """Return the labels for series of single processes in the directory *name*."""
        return ((self._label, clean_text(name)),) if self._label else ()


def choose_label(sources: Sequence[Source], label: str | None) -> str:
    """Return the label that tells the directories of *sources* apart, "" if there is no need.

    The need depends on the configuration alone, so that a series never changes its labels while
    directories come and go. Raises `LabelError` for a *label* that is not allowed.
    """
    if label is not None:
        check_labels({label: ""})
        if label in _TAKEN:
            raise LabelError(label, "it tells apart the processes of a directory")
        return label
    paths = {_absolute(getattr(source, "path", None)) for source in sources}
    has_many = any(getattr(source, "has_many", False) for source in sources)
    return DEFAULT_LABEL if has_many or len(paths) > 1 else ""


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


def unique_names(names: Iterable[str]) -> list[str]:
    """Return *names* with a number behind each that another one has taken before."""
    taken: set[str] = set()
    unique = []
    for name in names:
        number, free = 1, name
        while free in taken:
            number += 1
            free = f"{name}-{number}"
        taken.add(free)
        unique.append(free)
    return unique


def join_names(source: str, name: str) -> str:
    """Return the name of a directory: that of its *source*, and its own *name* below that."""
    return f"{source}/{name}" if name else source


def _is_known(identity: tuple[int, int], seen: set[tuple[int, int]]) -> bool:
    """Return whether a directory was *seen* already, and add it."""
    known = identity in seen
    seen.add(identity)
    return known


def _absolute(path: object) -> str:
    return os.path.abspath(path) if isinstance(path, str) else ""


def _drop_known_strangers(answers: list[Answer]) -> None:
    """Drop the problem that a directory has a sub-directory which is itself one of them."""
    readings: list[DirectoryReading] = [
        each for answer in answers for each in answer.gathered.readings
    ]
    if not readings[1:]:  # most pages have one directory
        return
    paths = {_absolute(each.path) for each in readings}

    def is_to_stay(problem: Problem) -> bool:
        return problem.reason != "stranger" or _absolute(problem.path) not in paths

    for index, answer in enumerate(answers):
        problems = list(filter(is_to_stay, answer.gathered.problems))
        answers[index] = answer._replace(gathered=answer.gathered._replace(problems=problems))
