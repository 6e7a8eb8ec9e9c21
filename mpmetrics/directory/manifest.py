"""The MANIFEST, which decides which files of a directory count.

Compaction replaces the files of dead workers by archives, and then the old MANIFEST by a new one,
by an atomic rename. The MANIFEST is a JSON object::

    {"version": 1, "generation": 7, "archives": ["counter_mpmetrics-archive-7.db", …]}

Three kinds of files count: every worker's file, every archive that the MANIFEST names, and every
file that is being folded into an archive of a *later* generation. So at the moment of the rename
the files of dead workers cease to count, and the archives begin to count.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics._opening import read_regular
from mpmetrics.directory.files import LAST_GENERATION, MANIFEST, OWN_PREFIX, FileName, WorkerFile
from mpmetrics.errors import DamagedError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mpmetrics.directory.files import Listing

VERSION: Final = 1

_LARGEST: Final = 1 << 20
"""The most bytes that a MANIFEST is read for; it names one archive for each type and mode."""


class Manifest(NamedTuple):
    """The *generation* of the last committed compaction, and the names of the *archives*."""

    generation: int = 0
    archives: tuple[str, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """Parse the bytes of a MANIFEST. Raises `DamagedError`."""
        try:
            document = json.loads(data)
            version = document["version"]
            manifest = cls(document["generation"], tuple(document["archives"]))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise DamagedError(0, f"not a MANIFEST: {error!r}") from error
        if version != VERSION:
            raise DamagedError(0, f"a MANIFEST of version {version!r:.40}, not {VERSION}")
        is_possible = _is_count(manifest.generation) and all(map(_is_archive, manifest.archives))
        if not is_possible or len(set(manifest.archives)) < len(manifest.archives):
            raise DamagedError(0, "a MANIFEST with an impossible generation or archive")
        return manifest

    def format(self) -> bytes:
        """Return the bytes of a MANIFEST; `parse` returns its content again."""
        document = {"version": VERSION, **self._asdict()}
        return (json.dumps(document) + "\n").encode()


def _is_count(number: object) -> bool:
    """Return whether *number* is a generation, with room for those that follow it."""
    return type(number) is int and 0 <= number <= LAST_GENERATION


def _is_archive(name: object) -> bool:
    """Return whether *name* is the file name of an archive, not a path into another directory."""
    parsed = FileName.parse(name) if isinstance(name, str) and name.isprintable() else None
    return parsed is not None and parsed.is_archive


def read_manifest(directory: str) -> Manifest | None:
    """Read the MANIFEST of a *directory*; return None if it has none, as before a compaction.

    Raises `DamagedError` if its content is invalid, `OSError` if it cannot be read.
    """
    try:
        return Manifest.parse(read_regular(os.path.join(directory, MANIFEST), _LARGEST))
    except FileNotFoundError:
        return None


def temporary_name(name: str) -> str:
    """Return the name that an archive, or the next MANIFEST, has until it is complete."""
    return f"{OWN_PREFIX}{name}.new"


def find_manifest(directory: str) -> Manifest | Problem | None:
    """Read the MANIFEST of a *directory* as `read_manifest` does; return errors as a problem."""
    path = os.path.join(directory, MANIFEST)
    try:
        return read_manifest(directory)
    except DamagedError as error:
        return Problem(path, "damaged_manifest", str(error))
    except OSError as error:
        return Problem(path, "damaged_manifest", error.strerror or str(error))


class Selection(NamedTuple):
    """The files that count (*listing*), and the *manifest* that they were selected by.

    *found* is the result of `find_manifest`. If that is not a MANIFEST, *manifest* is a guess.
    """

    listing: Listing
    manifest: Manifest
    found: Manifest | Problem | None


def select_files(directory: str, listing: Listing) -> Selection:
    """Select the files that count from the *listing* of a *directory*.

    If the MANIFEST is missing or cannot be read, the newest archives count, and there is a problem.
    """
    found = find_manifest(directory)
    problems = list(listing.problems)
    if isinstance(found, Problem):
        problems.append(found)
    manifest = found if isinstance(found, Manifest) else _guess_manifest(listing.files)
    if found is None:
        for name in manifest.archives:
            detail = f"there is no {MANIFEST} that says whether this archive counts"
            problems.append(Problem(os.path.join(directory, name), "lost_manifest", detail))
    files = sorted(_list_counted(directory, listing, manifest), key=lambda file: file.path)
    return Selection(listing._replace(files=files, problems=problems), manifest, found)


def _guess_manifest(files: Iterable[WorkerFile]) -> Manifest:
    """Guess the content of a lost MANIFEST: the newest archive of each type and mode."""
    newest: dict[str, FileName] = {}
    for file in files:
        if file.name.is_archive and not file.folding_into:
            known = newest.get(file.name.prefix, file.name)
            newest[file.name.prefix] = max(known, file.name, key=lambda name: name.generation)
    generation = max((name.generation for name in newest.values()), default=0)
    return Manifest(generation, tuple(name.format() for name in newest.values()))


def _list_counted(directory: str, listing: Listing, manifest: Manifest) -> Sequence[WorkerFile]:
    """Return the files that count by *manifest*; archives under the name that they have now."""
    workers = [file for file in listing.files if not (file.folding_into or file.name.is_archive)]
    # A compactor that returns a file to its old name gives it both names for a moment.
    known = {file.inode for file in workers if file.inode}
    folding = [
        file
        for file in listing.files
        if file.folding_into > manifest.generation and file.inode not in known
    ]
    return [*workers, *folding, *_list_archives(directory, listing, manifest)]


def _list_archives(directory: str, listing: Listing, manifest: Manifest) -> list[WorkerFile]:
    """Return the archives that *manifest* names, under the temporary or the final name."""
    archives = []
    for name in manifest.archives:
        parsed = FileName.parse(name)
        if parsed is not None:
            present = temporary_name(name) if temporary_name(name) in listing.own else name
            archives.append(WorkerFile(os.path.join(directory, present), parsed))
    return archives
