"""The MANIFEST: its content, and which files count by it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import mpmetrics
from mpmetrics.directory.files import LAST_GENERATION, list_directory
from mpmetrics.directory.manifest import (
    Manifest,
    find_manifest,
    read_manifest,
    select_files,
    temporary_name,
)
from mpmetrics.errors import DamagedError, Problem
from tests.cli.directories import fill
from tests.database import counter

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
    assert find_manifest(str(tmp_path)) == Problem(
        str(path), "damaged_manifest", "not a regular file"
    )


def document(generation: object = 7, archives: object = (), **fields: object) -> bytes:
    """Return the bytes of a MANIFEST."""
    content = {"version": 1, "generation": generation, "archives": archives, **fields}
    return json.dumps(content).encode()


BAD = {
    "no-json": b"{",
    "no-utf-8": b"\xff\xfe\x80",
    "empty": b"",
    "null-bytes": bytes(64),
    "another-shape": b"[1, 2, 3]",
    "text": b'"MANIFEST"',
    "nothing": b"{}",
    "deep": b"[" * 100_000,
    "deep-objects": b'{"version":' * 50_000,
    "many-digits": document().replace(b"7", b"7" * 4300),
    "too-many-digits": document().replace(b"7", b"7" * 4301),
    "beyond-names": document(LAST_GENERATION + 1),
    "negative": document(-1),
    "fraction": document(7.0),
    "bool": document(True),  # noqa: FBT003 - a value of JSON
    "no-number": document().replace(b"7", b"NaN"),
    "infinite": document().replace(b"7", b"1e999"),
    "text-for-number": document("7"),
    "another-version": document(version=2),
    "version-as-text": document(version="1" * 1_000),
    "archives-as-number": document(archives=1),
    "archives-as-text": document(archives=ARCHIVE_2),
    "archive-as-list": document(archives=[[ARCHIVE_2]]),
    "archive-elsewhere": document(archives=["../" + ARCHIVE_2]),
    "archive-in-a-directory": document(archives=["counter_mpmetrics-archive-2/../../x.db"]),
    "null-byte": document(archives=["counter_mpmetrics-archive-2\0.db"]),
    "surrogate": document(archives=["counter_mpmetrics-archive-\udcff.db"]),
    "worker": document(archives=["counter_7.db"]),
    "twice": document(archives=[ARCHIVE_2, ARCHIVE_2]),
    "large": document(archives=[f"counter_mpmetrics-archive-{n}.db" for n in range(1, 10**5)]),
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_a_bad_manifest_is_one_problem(tmp_path: Path, content: bytes) -> None:
    """Whatever is in a MANIFEST, it is one short problem; nothing is compacted by it."""
    fill(tmp_path, {"counter_7.db": counter("jobs", 3)})
    (tmp_path / "MANIFEST").write_bytes(content)
    collection = mpmetrics.collect(tmp_path)
    assert [problem.reason for problem in collection.problems] == ["damaged_manifest"]
    assert len(str(collection.problems[0])) < 1000
    with pytest.raises(mpmetrics.CompactionError, match="its MANIFEST cannot be used"):
        mpmetrics.compact(tmp_path)
    assert mpmetrics.collect(tmp_path).render() == collection.render()
    assert b"jobs_total 3.0\n" in collection.render()


def test_the_last_generation_leaves_room_for_names(tmp_path: Path) -> None:
    """Files on their way into the archive of the generation after the last are still found."""
    fill(tmp_path, {f"counter_7.db.folding-{LAST_GENERATION + 1}": counter("jobs", 3)})
    assert counted(tmp_path, Manifest(LAST_GENERATION)) == [
        f"counter_7.db.folding-{LAST_GENERATION + 1}"
    ]


def test_a_number_without_end_names_no_generation(tmp_path: Path) -> None:
    """An archive whose generation has a hundred digits is the file of a worker, and counts."""
    name = f"counter_mpmetrics-archive-{'7' * 100}.db"
    fill(tmp_path, {name: counter("jobs", 3)})
    assert counted(tmp_path) == [name]
    mpmetrics.compact(tmp_path)
    assert b"jobs_total 3.0\n" in mpmetrics.collect(tmp_path).render()


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
