"""A directory at one moment, for people: merged, and each process by itself.

The values of a process by itself are the merge of its own files: there is one way to merge, used
on fewer files.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics.directory import Listing, require_directory
from mpmetrics.exposition import PrefixFilter, check_labels, render_families
from mpmetrics.merging import MergedFamily, PlainNaming, Template
from mpmetrics.scrape.scraper import Scraper
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
"""The process that stands for all whose files are in an archive."""

PROCESS_LABEL: Final = "mpmetrics_process"
"""The label that marks the values of single processes in the text formats."""


class FamilySnapshot(NamedTuple):
    """A *merged* family, and if asked for, the same of each of the *processes*, by its id."""

    merged: Metric
    processes: ByProcess

    def join(self) -> Metric:
        """Return one family with all series; those of processes carry `PROCESS_LABEL`."""
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
    """All *families* of a directory, sorted by name, and the *problems* with it.

    *labels* are added when the snapshot is written.
    """

    families: Sequence[FamilySnapshot]
    problems: Sequence[Problem]
    labels: Labels = ()

    def write(self, form: Format) -> bytes:
        """Return the snapshot as a page in one of the text formats."""
        families = (family.join() for family in self.families)
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
    own = _merge_by_process(collection.files) if by_process else {}
    families = [
        # A process that uses the name for another type has not been merged in either.
        FamilySnapshot(family, own.get((family.name, family.type), {}))
        for family in collection.families
        if prefixes.accepts(family.name, family.type)
    ]
    return Snapshot(families, collection.problems, pairs)


def _merge_by_process(files: Iterable[WorkerFile]) -> Mapping[tuple[str, str], ByProcess]:
    """Merge the *files* of each process; return its families by name and type.

    All archives together are one more process, called `ARCHIVE`.
    """
    files_of: dict[str, list[WorkerFile]] = defaultdict(list)
    for file in files:
        files_of[ARCHIVE if file.name.is_archive else file.name.id].append(file)
    by_family: dict[tuple[str, str], dict[str, Metric]] = defaultdict(dict)
    for process in sorted(files_of, key=_numbers_first):
        for family in Scraper().scrape(Listing(files_of[process], [])).families:
            by_family[family.name, family.type][process] = family
    return by_family


def _numbers_first(process: str) -> tuple[bool, int, str]:
    """Return a key that sorts pids as numbers, and other ids as text behind them."""
    is_pid = process.isdecimal()
    return not is_pid, int(process) if is_pid else 0, process
