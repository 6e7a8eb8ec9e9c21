"""The files of a multiprocess directory: their names and their listing.

prometheus_client names a worker's file ``<type>_<id>.db``, a gauge's ``gauge_<mode>_<id>.db``.
``<id>`` is a pid unless the application chose otherwise; any text is legal, underscores included.

Compaction adds names of its own. Of these only an archive's matches ``*.db``, so that other readers
count it::

    MANIFEST                              which archives count: see `mpmetrics.directory.manifest`
    <type>_mpmetrics-archive-<g>.db       an archive, made for generation g
    <worker's name>.folding-<g>           a dead worker's file, on its way into generation g
    <worker's name>.quarantined           a dead worker's file that cannot be read
    .mpmetrics-opening/                   files that may be about to be opened; see
                                          `mpmetrics.compaction.openings`
    .mpmetrics-…                          locks, probes, and files that are not complete yet
"""

from __future__ import annotations

import os
import re
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

GAUGE_MODES: Final = (
    "all",
    "liveall",
    "min",
    "livemin",
    "max",
    "livemax",
    "sum",
    "livesum",
    "mostrecent",
    "livemostrecent",
)
"""The multiprocess modes of a gauge, as prometheus_client spells them in file names."""

PLAIN_TYPES: Final = ("counter", "histogram", "summary")
"""The metric types whose file names carry no mode."""

SUFFIX: Final = ".db"
"""The suffix of workers' files and of archives."""

MANIFEST: Final = "MANIFEST"
"""The name of the file that decides which archives count."""

OWN_PREFIX: Final = ".mpmetrics-"
"""The prefix of the names of files that mpmetrics itself keeps beside those of workers."""

OPENING: Final = f"{OWN_PREFIX}opening"
"""The name of the directory that a compaction needs to find out who is about to open a file."""

FOLDING: Final = ".folding-"
"""The suffix, before a generation, that a dead worker's file gets before it is folded."""

QUARANTINED: Final = ".quarantined"
"""The suffix that a dead worker's file gets when it cannot be read."""

# It has no underscore, because prometheus_client cuts an id at an underscore.
_ARCHIVE: Final = "mpmetrics-archive-"

LAST_GENERATION: Final = 10**17 - 1
"""The last generation that a file may name: names have room for nine times as many more."""

_NAME: Final = re.compile(
    rf"(?:(?P<type>{'|'.join(PLAIN_TYPES)})|gauge_(?P<mode>{'|'.join(GAUGE_MODES)}))"
    rf"_(?P<id>.+){re.escape(SUFFIX)}",
    re.DOTALL,
)

_GENERATION: Final = re.compile(f"[0-9]{{1,{len(str(LAST_GENERATION))}}}")

# Two files that had the same name are kept apart by a number at the end.
_SET_ASIDE: Final = re.compile(
    rf"(?P<name>.+)(?:{re.escape(FOLDING)}(?P<generation>[1-9][0-9]{{0,17}})"
    rf"|(?P<quarantined>{re.escape(QUARANTINED)}))(?:\.[0-9]+)?",
    re.DOTALL,
)

MOST_STRANGERS: Final = 1000
"""The most entries of a directory that are reported one by one."""

_NOT_OURS: Final = "the name is not that of a multiprocess metrics file"


class FileName(NamedTuple):
    """The parts of a worker's file name: metric *type*, gauge *mode* ("" for others) and *id*."""

    type: str
    mode: str
    id: str

    @classmethod
    def parse(cls, name: str) -> FileName | None:
        """Return the parts of a file *name*, or None when no writer uses such a name."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        return cls(match["type"] or "gauge", match["mode"] or "", match["id"])

    def format(self) -> str:
        """Return the file name; `parse` returns its parts again."""
        return f"{self.prefix}_{self.id}{SUFFIX}"

    @property
    def prefix(self) -> str:
        """The part of the file name before the id and its underscore."""
        return f"{self.type}_{self.mode}" if self.mode else self.type

    def archive(self, generation: int) -> FileName:
        """Return the name of the archive of *generation* that this file is folded into."""
        return self._replace(id=f"{_ARCHIVE}{generation}")

    @property
    def is_archive(self) -> bool:
        """Whether this names an archive of dead workers' values, not the file of one process."""
        return self.generation > 0

    @property
    def generation(self) -> int:
        """The generation that an archive was made for, 0 for the file of a process."""
        number = self.id.removeprefix(_ARCHIVE)
        is_number = number != self.id and _GENERATION.fullmatch(number)
        return int(number) if is_number else 0

    @property
    def is_live(self) -> bool:
        """Whether the values of this file count only while their process lives."""
        return self.mode.startswith("live")


class WorkerFile(NamedTuple):
    """A worker's file in a directory: its *path*, the parts of its *name*, and its *inode*.

    *folding_into* is the generation of the archive that the file is being folded into, 0 for none.
    The *name* is then the one that the file had before. A name that *is_link* is a symbolic link.
    """

    path: str
    name: FileName
    inode: int = 0
    folding_into: int = 0
    is_link: bool = False


class Listing(NamedTuple):
    """The worker files of a directory, sorted by file name, and its other entries.

    *quarantined* are the paths of damaged files that have been set aside, *own* the names of files
    that mpmetrics keeps there for itself, *inodes* the inode numbers of all entries, and *shared*
    those that several files of workers have.
    """

    files: list[WorkerFile]
    problems: list[Problem]
    quarantined: Sequence[str] = ()
    own: frozenset[str] = frozenset()
    inodes: frozenset[int] = frozenset()
    shared: frozenset[int] = frozenset()


def list_directory(path: str) -> Listing:
    """List the directory *path*; entries that are not mpmetrics' or a worker's become problems.

    Raises `OSError` when the directory cannot be listed.
    """
    files: list[WorkerFile] = []
    problems: list[Problem] = []
    quarantined: list[str] = []
    own: set[str] = set()
    seen: set[int] = set()
    more = 0
    with os.scandir(path) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            seen.add(entry.inode())
            aside = _SET_ASIDE.fullmatch(entry.name)
            name = FileName.parse(aside["name"] if aside else entry.name)
            strange = _stranger_reason(entry, name)
            if entry.name == MANIFEST or entry.name.startswith(OWN_PREFIX):
                own.add(entry.name)
            elif name is None or strange:
                if len(problems) < MOST_STRANGERS:
                    problems.append(Problem(entry.path, "stranger", strange))
                else:
                    more += 1
            elif aside and aside["quarantined"]:
                quarantined.append(entry.path)
            else:
                generation = int(aside["generation"]) if aside else 0
                is_link = entry.is_symlink()
                files.append(WorkerFile(entry.path, name, entry.inode(), generation, is_link))
    if more:
        problems.append(Problem(path, "stranger", f"{more} more entries are no metrics files"))
    shared = _shared_inodes(files)
    return Listing(files, problems, quarantined, frozenset(own), frozenset(seen), shared)


def is_metrics_name(name: str) -> bool:
    """Return whether *name* is one that prometheus_client or mpmetrics gives to a metrics file."""
    if name == MANIFEST or name.startswith(OWN_PREFIX):
        return True
    aside = _SET_ASIDE.fullmatch(name)
    return FileName.parse(aside["name"] if aside else name) is not None


def list_inodes(path: str) -> frozenset[int]:
    """Return the inode numbers of all entries of the directory *path*. Raises `OSError`."""
    with os.scandir(path) as entries:
        return frozenset(entry.inode() for entry in entries)


def list_files(paths: Iterable[str | os.PathLike[str]]) -> Listing:
    """Make a listing of the files *paths*, as `list_directory` does for a directory."""
    files: list[WorkerFile] = []
    problems: list[Problem] = []
    for path in sorted((os.fspath(path) for path in paths), key=os.path.basename):
        name = FileName.parse(os.path.basename(path))
        if name is None:
            problems.append(Problem(path, "stranger", _NOT_OURS))
        else:
            files.append(WorkerFile(path, name, is_link=os.path.islink(path)))
    return Listing(files, problems)


def _shared_inodes(files: Iterable[WorkerFile]) -> frozenset[int]:
    """Return the inode numbers that several of *files* have.

    A file that is being folded does not count: for some time it has two names.
    """
    inodes = [file.inode for file in files if not file.folding_into]
    if len(set(inodes)) == len(inodes):
        return frozenset()
    return frozenset(inode for inode, count in Counter(inodes).items() if count > 1)


def _stranger_reason(entry: os.DirEntry[str], name: FileName | None) -> str:
    """Return why a directory *entry* is not a worker's file, "" if it is one."""
    try:
        if entry.is_dir():
            return "a directory"
        # An entry that has vanished is not a stranger: reading it will report that.
        if name is not None and not entry.is_file() and os.path.lexists(entry.path):
            return "not a regular file"
    except OSError as error:
        return f"cannot be examined ({error.strerror})"
    return "" if name is not None else _NOT_OURS
