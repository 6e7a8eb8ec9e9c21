"""A directory at one moment, for people: merged, and each process by itself.

A process by itself is the merge of its own files: there is one way to merge, used on fewer files.
"""

from __future__ import annotations

import os
from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics.environment import usable_directory
from mpmetrics.errors import DirectoryError
from mpmetrics.exposition import Format, family_text
from mpmetrics.files import Listing, list_directory
from mpmetrics.filters import PrefixFilter, checked_labels
from mpmetrics.scraping import Scraper

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from prometheus_client import Metric

    from mpmetrics.errors import Problem
    from mpmetrics.files import WorkerFile
    from mpmetrics.series import Labels

    Prefixes = str | Iterable[str] | None

PROCESS_LABEL: Final = "mpmetrics_process"
"""The label by which the text formats tell the values of single processes from merged ones."""


class Snapshot(NamedTuple):
    """The merged *families* and what was wrong (*problems*).

    *processes* has the families of each process by its id, if they were asked for; *labels* are
    added when the snapshot is written.
    """

    families: Sequence[Metric]
    problems: Sequence[Problem]
    processes: Mapping[str, Sequence[Metric]]
    labels: Labels = ()

    def write(self, form: Format) -> str:
        """Return the snapshot in a text format.

        Every family is followed by the same series of each process, told apart by
        `PROCESS_LABEL`.
        """
        form = form._replace(labels=self.labels)
        parts = []
        for family in self.families:
            parts.append(family_text(family, form))
            for process, own in self.own(family.name):
                added = dict((*self.labels, (PROCESS_LABEL, process)))
                text = family_text(own, form._replace(labels=tuple(sorted(added.items()))))
                parts += [line for line in text.splitlines(True) if not line.startswith("#")]
        if form.openmetrics:
            parts.append("# EOF\n")
        return "".join(parts)

    def own(self, name: str) -> list[tuple[str, Metric]]:
        """Return the family *name* of each process that has it, with the process's id."""
        return [
            (process, family)
            for process, families in self.processes.items()
            for family in families
            if family.name == name
        ]


def take_snapshot(
    path: str | os.PathLike[str] | None,
    include: Prefixes = (),
    exclude: Prefixes = (),
    labels: Mapping[str, str] | None = None,
    *,
    by_process: bool = False,
) -> Snapshot:
    """Read the directory *path*, or the one that the environment names, once.

    Filters and labels are those of `mpmetrics.Page`. Raises `DirectoryError`, `FilterError` or
    `LabelError`.
    """
    prefixes = PrefixFilter.of(include, exclude)
    pairs = checked_labels(labels)
    directory = usable_directory(path)
    try:
        listing = list_directory(directory)
    except OSError as error:
        raise DirectoryError(directory, error.strerror or str(error)) from error
    scrape = Scraper().scrape(listing)
    own: dict[str, list[WorkerFile]] = defaultdict(list)
    for file in scrape.files if by_process else ():
        own[file.name.id].append(file)
    processes = {
        process: _accepted(Scraper().scrape(Listing(files, [])).families, prefixes)
        for process, files in sorted(own.items(), key=_numbers_first)
    }
    return Snapshot(_accepted(scrape.families, prefixes), scrape.problems, processes, pairs)


def _accepted(families: Iterable[Metric], prefixes: PrefixFilter) -> list[Metric]:
    """Return the *families* that pass the filter."""
    return [family for family in families if prefixes.accepts(family.name, family.type)]


def _numbers_first(item: tuple[str, object]) -> tuple[int, str]:
    """Sort pids as numbers and other ids, as text, behind them."""
    process = item[0]
    return (len(process) if process.isdecimal() else len(process) + 1000, process)
