"""A directory at one moment, for people: merged, and each process by itself.

A process by itself is the merge of its own files: there is one way to merge, used on fewer files.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics.directory import Listing, require_directory
from mpmetrics.exposition import PrefixFilter, check_labels, render_families
from mpmetrics.merging import MergedFamily, PlainNaming, Template
from mpmetrics.scrape.reader import Scraper
from mpmetrics.scrape.view import DirectoryView

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from prometheus_client import Metric

    from mpmetrics.directory import WorkerFile
    from mpmetrics.errors import Problem
    from mpmetrics.exposition import Format, Prefixes
    from mpmetrics.format import Labels

    ByProcess = Mapping[str, Metric]

ARCHIVE: Final = "archive"
"""The process that stands for all whose files have been folded."""

PROCESS_LABEL: Final = "mpmetrics_process"
"""The label by which the text formats tell the values of single processes from merged ones."""


class View(NamedTuple):
    """A family: *merged*, and the same of each process, by its id, if that was asked for."""

    merged: Metric
    processes: ByProcess

    def joined(self) -> Metric:
        """Return one family with all series, those of processes told apart by `PROCESS_LABEL`."""
        if not self.processes:
            return self.merged
        naming = PlainNaming()
        values = []
        own = [({PROCESS_LABEL: process}, each) for process, each in self.processes.items()]
        for added, family in [({}, self.merged), *own]:
            for sample in family.samples:
                naming.append((sample.name, tuple(sorted({**sample.labels, **added}.items()))))
                values.append(sample.value)
        name, kind, help_text = self.merged.name, self.merged.type, self.merged.documentation
        return MergedFamily(Template(name, kind, help_text, naming), values)


class Snapshot(NamedTuple):
    """A view of each family, sorted by name, and what was wrong (*problems*).

    *labels* are added when the snapshot is written.
    """

    views: Sequence[View]
    problems: Sequence[Problem]
    labels: Labels = ()

    def write(self, form: Format) -> bytes:
        """Return the snapshot as a page in one of the text formats."""
        families = (view.joined() for view in self.views)
        return render_families(families, form._replace(labels=self.labels))


def take_snapshot(
    path: str | os.PathLike[str] | None,
    include: Prefixes = (),
    exclude: Prefixes = (),
    labels: Mapping[str, str] | None = None,
    *,
    by_process: bool = False,
) -> Snapshot:
    """Read the directory *path*, or the one that the environment names, once.

    Filters and labels are those of `mpmetrics.Page`. The values of single processes are read
    after the merged ones: while workers go on counting, they may add up to more.

    Raises `DirectoryError`, `FilterError` or `LabelError`.
    """
    prefixes = PrefixFilter.of(include, exclude)
    pairs = check_labels(labels)
    collection = DirectoryView(require_directory(path)).collect()
    own = _by_process(collection.files) if by_process else {}
    views = [
        # A process that uses the name for another type has not been merged in either.
        View(family, own.get((family.name, family.type), {}))
        for family in collection.families
        if prefixes.accepts(family.name, family.type)
    ]
    return Snapshot(views, collection.problems, pairs)


def _by_process(files: Iterable[WorkerFile]) -> Mapping[tuple[str, str], ByProcess]:
    """Merge the *files* of each process; return its families by name and type.

    What is left of dead ones is one more process, called `ARCHIVE`.
    """
    files_of: dict[str, list[WorkerFile]] = defaultdict(list)
    for file in files:
        files_of[ARCHIVE if file.name.is_archive else file.name.id].append(file)
    views: dict[tuple[str, str], dict[str, Metric]] = defaultdict(dict)
    for process in sorted(files_of, key=_numbers_first):
        for family in Scraper().scrape(Listing(files_of[process], [])).families:
            views[family.name, family.type][process] = family
    return views


def _numbers_first(process: str) -> tuple[bool, int, str]:
    """Sort pids as numbers and other ids, as text, behind them."""
    is_pid = process.isdecimal()
    return not is_pid, int(process) if is_pid else 0, process
