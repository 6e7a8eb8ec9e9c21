"""The rules of compaction: which files are folded, and what a MANIFEST may contain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import mpmetrics
from mpmetrics import CompactionError, DirectoryError, compact
from mpmetrics.compaction import Compactor
from mpmetrics.directory import LeaseProver, liveness
from mpmetrics.directory.manifest import Manifest, read_manifest
from tests.cli.directories import fill
from tests.database import Entry, counter, gauge, histogram
from tests.workers import Worker

if TYPE_CHECKING:
    from mpmetrics.compaction.result import Compaction

pytestmark = pytest.mark.skipif(
    not liveness.HAS_LEASES, reason="this system has no file leases (Linux has them)"
)


def values(path: Path) -> dict[str, float]:
    """Return the value of each sample, by its name and label values."""
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in mpmetrics.collect(path).families
        for sample in family.samples
    }


def names(path: Path) -> list[str]:
    """Return the names of all files but hidden ones, such as the lock."""
    return sorted(each.name for each in path.iterdir() if each.name[0] != ".")


def skipped(done: Compaction) -> dict[str, str]:
    """Return the reason why each file was left alone, by its name."""
    return {Path(each.path).name: each.reason for each in done.skipped}


def test_files_of_live_workers_are_left_alone(directory: Path) -> None:
    """The file of a live worker is left alone, and the worker counts on in it."""
    fill(directory, {"counter_7.db": counter("jobs", 1)})
    with Worker(directory) as worker:
        worker.do("jobs = Counter('jobs', 'help'); jobs.inc(2)")
        assert skipped(compact(directory)) == {f"counter_{worker.pid}.db": "alive"}
        worker.do("jobs.inc(4)")
        assert values(directory) == {"jobs_total": 7.0}


def test_files_of_unknown_workers_are_left_alone(directory: Path) -> None:
    """Without a proof that leases work, no worker is taken for dead."""
    fill(directory, {"counter_7.db": counter("jobs", 1)})
    done = Compactor(directory, prover=LeaseProver(has_leases=False)).compact()
    assert (done.outcome, skipped(done)) == ("nothing", {"counter_7.db": "unknown"})
    assert names(directory) == ["counter_7.db"]


def test_a_manifest_of_a_later_version_stops_compaction(directory: Path) -> None:
    """A MANIFEST of a later version stops compaction, since its meaning is not known."""
    fill(directory, {"MANIFEST": b'{"version": 2, "generation": 1, "archives": []}'})
    with pytest.raises(CompactionError, match="version 2"):
        compact(directory)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"[]", b"null", b"{", b"\xff", b"[" * 100_000),
        b'{"version": 1, "generation": -1, "archives": []}',
        b'{"version": 1, "generation": true, "archives": []}',
        b'{"version": 1, "generation": 1, "archives": ["../counter_mpmetrics-archive-1.db"]}',
        b'{"version": 1, "generation": 1, "archives": ["counter_7.db"]}',
        b'{"version": 1, "generation": 1, "archives": [1]}',
    ],
    ids=range(11),
)
def test_an_impossible_manifest_is_refused(content: bytes) -> None:
    """A MANIFEST that is no JSON object of the known form is refused.

    So none makes a compactor read or remove a file outside of the directory.
    """
    with pytest.raises(mpmetrics.MpmetricsError, match="MANIFEST"):
        Manifest.parse(content)


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    """Compacting a directory that does not exist raises `DirectoryError`."""
    with pytest.raises(DirectoryError):
        compact(tmp_path / "nowhere")


def test_disagreements_are_not_folded_away(directory: Path) -> None:
    """A file with a series that the merge leaves out is not folded, and the page stays the same."""
    fill(
        directory,
        {
            "counter_7.db": counter("x", 1),
            "counter_8.db": [Entry("x", "x_odd", {}, 1)],
            "histogram_7.db": histogram("h", {"1.0": 1, "2.0": 1, "+Inf": 0}),
            "histogram_8.db": histogram("h", {"1.0": 1, "3.0": 1, "+Inf": 0}),
        },
    )
    before = values(directory)
    done = compact(directory)
    assert skipped(done) == {"counter_8.db": "odd_sample"}
    assert "bucket_conflict" in {problem.reason for problem in done.problems}
    assert values(directory) == before


def test_each_commit_is_one_generation(directory: Path) -> None:
    """The generation of the MANIFEST grows by one with each commit, and it names each archive."""
    for generation in (1, 2, 3):
        fill(directory, {"counter_7.db": counter("jobs", 1), "gauge_max_7.db": gauge("g", 1)})
        assert compact(directory).generation == generation
        assert read_manifest(str(directory)) == Manifest(
            generation,
            (
                f"counter_mpmetrics-archive-{generation}.db",
                f"gauge_max_mpmetrics-archive-{generation}.db",
            ),
        )


@pytest.mark.parametrize(
    "content",
    [b"", bytes(4096), b"\x08\0\0\0\0\0\0\0", b"\x08\0\0\0\xff\xff\xff\xff" + bytes(64)],
    ids=["empty", "zeros", "a header", "a header with padding"],
)
def test_a_file_without_entries_is_folded_beside_an_archive(
    directory: Path, content: bytes
) -> None:
    """A file of a dead worker that has no entry is folded, also if an archive is read before it."""
    fill(directory, {"counter_1.db": counter("jobs", 1)})
    compact(directory)
    fill(directory, {"counter_2.db": content})
    done = compact(directory)
    assert (done.folded, done.skipped) == ([str(directory / "counter_2.db")], [])
    assert names(directory) == ["MANIFEST", "counter_mpmetrics-archive-2.db"]
    assert values(directory) == {"jobs_total": 1.0}


@pytest.mark.parametrize("content", [b"\0", bytes(4), b"\x08\0\0\0", b"\x04\0\0\0" + bytes(60)])
def test_half_a_header_is_damage_beside_an_archive(directory: Path, content: bytes) -> None:
    """A file that ends within its header, or uses less than that, is set aside with its bytes."""
    fill(directory, {"counter_1.db": counter("jobs", 1)})
    compact(directory)
    fill(directory, {"counter_2.db": content})
    assert [each.reason for each in compact(directory).quarantined] == ["damaged"]
    assert (directory / "counter_2.db.quarantined").read_bytes() == content
    assert values(directory) == {"jobs_total": 1.0}


def test_a_name_outside_of_the_directory_does_not_keep_a_file(
    directory: Path, tmp_path: Path
) -> None:
    """A dead worker's file with a hard link elsewhere is folded; the other name keeps the bytes."""
    fill(directory, {"counter_1.db": counter("jobs", 1)})
    (tmp_path / "backup").hardlink_to(directory / "counter_1.db")
    assert compact(directory).folded == [str(directory / "counter_1.db")]
    assert values(directory) == {"jobs_total": 1.0}
    assert (tmp_path / "backup").stat().st_size


def test_a_link_to_a_manifest_is_replaced(directory: Path, tmp_path: Path) -> None:
    """A MANIFEST that is a symbolic link is replaced by a file; what it led to stays as it was."""
    fill(directory, {"counter_1.db": counter("jobs", 1)})
    compact(directory)
    (directory / "MANIFEST").rename(tmp_path / "elsewhere")
    (directory / "MANIFEST").symlink_to(tmp_path / "elsewhere")
    before = (tmp_path / "elsewhere").read_bytes()
    fill(directory, {"counter_1.db": counter("jobs", 1)})
    compact(directory)
    assert not (directory / "MANIFEST").is_symlink()
    assert (tmp_path / "elsewhere").read_bytes() == before
    assert values(directory) == {"jobs_total": 2.0}
