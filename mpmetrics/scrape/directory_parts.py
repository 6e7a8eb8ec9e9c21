"""What several directories hold, as parts of one merge: each directory once, and told apart.

A pid is unique within a directory only: each container has a process 1. So series of single
processes get a label with the name of their directory.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics.errors import LabelError
from mpmetrics.exposition import check_labels
from mpmetrics.format import clean_text

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from mpmetrics.errors import Problem
    from mpmetrics.scrape.part import Part
    from mpmetrics.scrape.view import DirectoryReading

DIRECTORY_LABEL: Final = "directory"
"""The label that tells directories apart if several are merged."""

PROCESS_LABEL: Final = "mpmetrics_process"
"""The label that marks the values of single processes in the text formats of a snapshot."""


class NamedReading(NamedTuple):
    """The *reading* of a directory, and the *name* that no other directory has."""

    name: str
    reading: DirectoryReading

    def part(self, label: str) -> Part:
        """Return the part of the merge; with a *label*, series of single processes have it."""
        labels = ((label, clean_text(self.name)),) if label else ()
        return self.reading.part._replace(labels=labels)


def choose_label(label: str | None, *, has_several: bool) -> str:
    """Return the label that tells directories apart, "" if there is no need.

    None stands for the default, which is needed if a page *has_several* directories. Raises
    `LabelError` for a *label* that is not allowed.
    """
    if label is None:
        return DIRECTORY_LABEL if has_several else ""
    check_labels({label: ""})
    if label in {"pid", PROCESS_LABEL}:
        raise LabelError(label, "it tells the processes of one directory apart")
    return label


def count_once(readings: Iterable[NamedReading]) -> list[NamedReading]:
    """Return *readings* without those of a directory that has been there under another name."""
    return list({each.reading.identity: each for each in reversed(list(readings))}.values())[::-1]


def drop_known_strangers(
    problems: Iterable[Problem], readings: Sequence[DirectoryReading]
) -> list[Problem]:
    """Return *problems* without those that one of several directories lies in another one."""
    problems = list(problems)
    if not readings[1:]:  # mostly there is one directory
        return problems
    paths = {os.path.abspath(each.path) for each in readings}
    return [
        problem
        for problem in problems
        if problem.reason != "stranger" or os.path.abspath(problem.path) not in paths
    ]


def unique_names(names: Iterable[str]) -> list[str]:
    """Return *names* with a number behind each that another one has taken before."""
    taken: set[str] = set()
    unique = []
    for name in names:
        unique.append(find_free_name(name, taken))
        taken.add(unique[-1])
    return unique


def find_free_name(name: str, taken: Container[str]) -> str:
    """Return *name*, with a number behind it if it is *taken*."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def join_names(*names: str) -> str:
    """Return those *names* that are not empty as one, with slashes between them."""
    return "/".join(filter(None, names))
