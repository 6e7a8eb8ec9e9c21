"""A directory at one moment, for people: merged, and each process by itself.

The values of a process by itself are the merge of its own files: there is one way to merge, used
on fewer files.
"""

from __future__ import annotations

import os
from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics.directory import Listing, require_directory
from mpmetrics.exposition import PrefixFilter, check_labels, render_families
from mpmetrics.merging import MergedFamily, PlainNaming, Template
from mpmetrics.scrape.directory_parts import (
    PROCESS_LABEL,
    NamedReading,
    choose_label,
    count_once,
    drop_known_strangers,
    join_names,
    unique_names,
)
from mpmetrics.scrape.merger import Merger
from mpmetrics.scrape.scraper import Scraper
from mpmetrics.scrape.view import DirectoryView

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from prometheus_client import Metric

    from mpmetrics.directory import WorkerFile
    from mpmetrics.errors import Problem
    from mpmetrics.exposition import Format, Prefixes
    from mpmetrics.format import Labels

    ByProcess = Mapping[str, Metric]

ARCHIVE: Final = "archive"
"""The process that stands for all whose files are in an archive."""


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


class NamedDirectory(NamedTuple):
    """The *path* of a directory that is one of several, and its *name*: by default, the path."""

    path: str
    name: str = ""


def take_snapshot(  # noqa: PLR0913 - the arguments of a page
    path: str | os.PathLike[str] | Sequence[NamedDirectory] | None,
    include: Prefixes = (),
    exclude: Prefixes = (),
    labels: Mapping[str, str] | None = None,
    *,
    by_process: bool = False,
    directory_label: str | None = None,
) -> Snapshot:
    """Read the directory *path*, the one that the environment names, or several, once.

    Filters and labels are those of `mpmetrics.Page`. The values of single processes are read
    after the merged ones: while workers go on counting, they may add up to more. With several
    directories, the id of a process has the name of its directory before it.

    Raises `DirectoryError`, `FilterError` or `LabelError`.
    """
    prefixes = PrefixFilter.of(include, exclude)
    pairs = check_labels(labels)
    if path is None or isinstance(path, str | os.PathLike):
        directories = [NamedDirectory(require_directory(path))]
    else:
        directories = [each._replace(path=require_directory(each.path)) for each in path]
    has_several = len({os.path.abspath(each.path) for each in directories}) > 1
    label = choose_label(directory_label, has_several=has_several)
    readings = _read_each(directories)
    merged = Merger().merge([each.part(label) for each in readings])
    own = _merge_by_process(readings, label) if by_process else {}
    families = [
        # A process that uses the name for another type has not been merged in either.
        FamilySnapshot(family, own.get((family.name, family.type), {}))
        for family in merged.families
        if prefixes.accepts(family.name, family.type)
    ]
    problems = [problem for _, reading in readings for problem in reading.problems]
    known = drop_known_strangers(problems, [reading for _, reading in readings])
    return Snapshot(families, [*known, *merged.problems], pairs)


def _read_each(directories: Sequence[NamedDirectory]) -> list[NamedReading]:
    """Read the *directories*, each once. Raises `DirectoryError`."""
    scraper = Scraper()
    names = unique_names(name or path for path, name in directories)
    return count_once(
        NamedReading(name, DirectoryView(path, scraper).read())
        for name, (path, _) in zip(names, directories, strict=True)
    )


def _merge_by_process(
    readings: Iterable[NamedReading], label: str
) -> Mapping[tuple[str, str], ByProcess]:
    """Merge the files of each process; return its families by name and type.

    All archives of a directory together are one more process, called `ARCHIVE`. With a *label*
    for directories, the name of its directory stands before that of a process.
    """
    by_family: dict[tuple[str, str], dict[str, Metric]] = defaultdict(dict)
    for named in readings:
        for process, files in _group_by_process(named.reading.files):
            part = Scraper().read(Listing(files, []))
            own = named._replace(reading=named.reading._replace(part=part))
            shown = join_names(named.name, process) if label else process
            for family in Merger().merge([own.part(label)]).families:
                by_family[family.name, family.type][shown] = family
    return by_family


def _group_by_process(files: Iterable[WorkerFile]) -> list[tuple[str, list[WorkerFile]]]:
    """Return each process that wrote *files*, in order, with its files."""
    files_of: dict[str, list[WorkerFile]] = defaultdict(list)
    for file in files:
        files_of[ARCHIVE if file.name.is_archive else file.name.id].append(file)
    return sorted(files_of.items(), key=lambda item: _numbers_first(item[0]))


def _numbers_first(process: str) -> tuple[bool, int, str]:
    """Return a key that sorts pids as numbers, and other ids as text behind them."""
    is_pid = process.isdecimal()
    return not is_pid, int(process) if is_pid else 0, process
