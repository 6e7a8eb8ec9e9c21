"""Which files of a directory count: the MANIFEST, and what it says about all others.

Compaction replaces the files of dead workers by archives, and the MANIFEST by a new one, in one
atomic rename. It is a JSON object::

    {"version": 1, "generation": 7, "archives": ["counter_mpmetrics-archive-7.db", …]}

What counts is every worker's file, every archive that the MANIFEST names, and every file that is
on its way into an archive of a *later* generation. So the moment of the rename is the moment in
which the files of the dead stop to count and the archives begin to.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics.directory.files import MANIFEST, OWN_PREFIX, FileName, WorkerFile
from mpmetrics.errors import DamagedError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mpmetrics.directory.files import Listing

VERSION: Final = 1

_LARGEST: Final = 1 << 20
"""Bytes beyond which a file is no MANIFEST; there is an archive for each type and mode."""


class Manifest(NamedTuple):
    """The *generation* that was committed last, and the names of the *archives* that count."""

    generation: int = 0
    archives: tuple[str, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """Return what the bytes of a MANIFEST say. Raises `DamagedError`."""
        try:
            document = json.loads(data)
            version = document["version"]
            manifest = cls(document["generation"], tuple(document["archives"]))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise DamagedError(0, f"not a MANIFEST: {error!r}") from error
        if version != VERSION:
            raise DamagedError(0, f"a MANIFEST of version {version!r}, not {VERSION}")
        if not (_is_count(manifest.generation) and all(map(_is_archive, manifest.archives))):
            raise DamagedError(0, "a MANIFEST with an impossible generation or archive")
        return manifest

    def format(self) -> bytes:
        """Return the bytes that `parse` reads back."""
        document = {"version": VERSION, **self._asdict()}
        return (json.dumps(document) + "\n").encode()


def _is_count(number: object) -> bool:
    return type(number) is int and number >= 0


def _is_archive(name: object) -> bool:
    """Tell whether *name* is that of an archive, and no path to another place."""
    parsed = FileName.parse(name) if isinstance(name, str) and name.isprintable() else None
    return parsed is not None and parsed.is_archive


def read_manifest(directory: str) -> Manifest | None:
    """Return the MANIFEST of a *directory*, None where nothing was ever compacted.

    Raises `DamagedError` for one that says nothing, `OSError` for one that cannot be read.
    """
    try:
        with open(os.path.join(directory, MANIFEST), "rb") as file:
            return Manifest.parse(file.read(_LARGEST))
    except FileNotFoundError:
        return None


def temporary_name(name: str) -> str:
    """Return what an archive, or the next MANIFEST, is called until it is complete."""
    return f"{OWN_PREFIX}{name}.new"


def find_manifest(directory: str) -> Manifest | Problem | None:
    """Return what `read_manifest` does, and a problem in place of an exception."""
    path = os.path.join(directory, MANIFEST)
    try:
        return read_manifest(directory)
    except DamagedError as error:
        return Problem(path, "damaged_manifest", str(error))
    except OSError as error:
        return Problem(path, "damaged_manifest", error.strerror or str(error))


class Selection(NamedTuple):
    """The files that count (*listing*), by which *manifest*; *found* is what lay there as such."""

    listing: Listing
    manifest: Manifest
    found: Manifest | Problem | None


def select_files(directory: str, listing: Listing) -> Selection:
    """Return the files that count of all those in the *listing* of a *directory*.

    A MANIFEST that cannot be read is a problem, and costs nothing that can be told without it.
    """
    found = find_manifest(directory)
    problems = list(listing.problems)
    if isinstance(found, Problem):
        problems.append(found)
    manifest = found if isinstance(found, Manifest) else _newest(listing.files)
    if found is None:
        for name in manifest.archives:
            detail = f"there is no {MANIFEST} that says whether this archive counts"
            problems.append(Problem(os.path.join(directory, name), "lost_manifest", detail))
    files = sorted(_counted(directory, listing, manifest), key=lambda file: file.path)
    return Selection(listing._replace(files=files, problems=problems), manifest, found)


def _newest(files: Iterable[WorkerFile]) -> Manifest:
    """Guess what a lost MANIFEST said: that the newest archive of each kind counts."""
    newest: dict[str, FileName] = {}
    for file in files:
        if file.name.is_archive and not file.folding:
            known = newest.get(file.name.prefix, file.name)
            newest[file.name.prefix] = max(known, file.name, key=lambda name: name.generation)
    generation = max((name.generation for name in newest.values()), default=0)
    return Manifest(generation, tuple(name.format() for name in newest.values()))


def _counted(directory: str, listing: Listing, manifest: Manifest) -> Sequence[WorkerFile]:
    """Return the files that count; archives under the name that they have by now."""
    workers = [file for file in listing.files if not (file.folding or file.name.is_archive)]
    # A file that is being given its old name back has both for a moment.
    known = {file.inode for file in workers if file.inode}
    folding = [
        file
        for file in listing.files
        if file.folding > manifest.generation and file.inode not in known
    ]
    return [*workers, *folding, *_archives(directory, listing, manifest)]


def _archives(directory: str, listing: Listing, manifest: Manifest) -> list[WorkerFile]:
    """Return the archives that *manifest* names."""
    archives = []
    for name in manifest.archives:
        parsed = FileName.parse(name)
        if parsed is not None:
            there = temporary_name(name) if temporary_name(name) in listing.own else name
            archives.append(WorkerFile(os.path.join(directory, there), parsed))
    return archives
