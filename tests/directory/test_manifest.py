"""The MANIFEST: its content, and which files count by it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mpmetrics.directory.files import list_directory
from mpmetrics.directory.manifest import (
    Manifest,
    find_manifest,
    read_manifest,
    select_files,
    temporary_name,
)
from mpmetrics.errors import DamagedError, Problem
from tests.cli.directories import fill

ARCHIVE_2 = "counter_mpmetrics-archive-2.db"
ARCHIVE_3 = "counter_mpmetrics-archive-3.db"


def counted(directory: Path, found: Manifest | None = None) -> list[str]:
    """Return the names of the files that count, after writing the MANIFEST *found* if given."""
    if found is not None:
        (directory / "MANIFEST").write_bytes(found.format())
    selection = select_files(str(directory), list_directory(str(directory)))
    assert selection.found == found
    return [Path(file.path).name for file in selection.listing.files]


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Parsing a formatted MANIFEST returns the same generation and archives."""
    manifest = Manifest(7, (ARCHIVE_2, "gauge_max_mpmetrics-archive-7.db"))
    assert Manifest.parse(manifest.format()) == manifest
    (tmp_path / "MANIFEST").write_bytes(manifest.format())
    assert read_manifest(str(tmp_path)) == manifest
    assert find_manifest(str(tmp_path)) == manifest


def test_a_directory_without_a_manifest(tmp_path: Path) -> None:
    """A directory that was never compacted has no MANIFEST, and that is not a problem."""
    assert read_manifest(str(tmp_path)) is None
    assert find_manifest(str(tmp_path)) is None


def test_a_manifest_that_cannot_be_used_is_a_problem(tmp_path: Path) -> None:
    """A damaged or unreadable MANIFEST raises when it is read, and is a problem when looked for."""
    path = tmp_path / "MANIFEST"
    path.write_text("{")
    with pytest.raises(DamagedError):
        read_manifest(str(tmp_path))
    found = find_manifest(str(tmp_path))
    assert isinstance(found, Problem)
    assert (found.path, found.reason) == (str(path), "damaged_manifest")
    path.unlink()
    path.mkdir()
    with pytest.raises(OSError, match="MANIFEST"):
        read_manifest(str(tmp_path))
    assert find_manifest(str(tmp_path)) == Problem(str(path), "damaged_manifest", os.strerror(21))


def test_workers_files_count_without_a_manifest(tmp_path: Path) -> None:
    """Before the first compaction every worker's file counts."""
    fill(tmp_path, {"counter_8.db": [], "counter_7.db": [], "README": b""})
    assert counted(tmp_path) == ["counter_7.db", "counter_8.db"]


def test_only_archives_that_the_manifest_names_count(tmp_path: Path) -> None:
    """An archive of another generation does not count, complete or not."""
    fill(tmp_path, {ARCHIVE_2: [], ARCHIVE_3: [], "counter_7.db": []})
    assert counted(tmp_path, Manifest(2, (ARCHIVE_2,))) == ["counter_7.db", ARCHIVE_2]
    assert counted(tmp_path, Manifest(3, (ARCHIVE_3,))) == ["counter_7.db", ARCHIVE_3]


def test_a_committed_archive_counts_under_its_temporary_name(tmp_path: Path) -> None:
    """Between the commit and its renaming, an archive is read under the temporary name."""
    fill(tmp_path, {temporary_name(ARCHIVE_3): []})
    assert counted(tmp_path, Manifest(3, (ARCHIVE_3,))) == [temporary_name(ARCHIVE_3)]
    assert counted(tmp_path, Manifest(2, ())) == []


def test_a_file_that_is_being_folded_counts_until_the_commit(tmp_path: Path) -> None:
    """A file of generation 3 counts while the MANIFEST has 2, and not once it has 3."""
    fill(tmp_path, {"counter_7.db.folding-3": []})
    assert counted(tmp_path, Manifest(2, ())) == ["counter_7.db.folding-3"]
    assert counted(tmp_path, Manifest(3, ())) == []


def test_a_file_with_both_of_its_names_counts_once(tmp_path: Path) -> None:
    """A file that a compactor is renaming back counts once, under its worker's name."""
    fill(tmp_path, {"counter_7.db": []})
    (tmp_path / "counter_7.db.folding-3").hardlink_to(tmp_path / "counter_7.db")
    assert counted(tmp_path, Manifest(2, ())) == ["counter_7.db"]


def test_a_lost_manifest_is_guessed(tmp_path: Path) -> None:
    """Without a MANIFEST the newest archive of each type counts, and each of them is a problem."""
    newest = "gauge_max_mpmetrics-archive-2.db"
    fill(tmp_path, {ARCHIVE_2: [], ARCHIVE_3: [], newest: []})
    selection = select_files(str(tmp_path), list_directory(str(tmp_path)))
    assert selection.manifest == Manifest(3, (ARCHIVE_3, newest))
    assert [Path(file.path).name for file in selection.listing.files] == [ARCHIVE_3, newest]
    assert [(Path(path).name, reason) for path, reason, _ in selection.listing.problems] == [
        (ARCHIVE_3, "lost_manifest"),
        (newest, "lost_manifest"),
    ]
