"""Compaction of directories of every sort."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mpmetrics
from mpmetrics import CompactionError, compact
from mpmetrics.compaction import Compactor, policy
from mpmetrics.compaction.batch import BatchLimits
from mpmetrics.directory import liveness
from mpmetrics.directory.files import MANIFEST
from mpmetrics.directory.locks import make_compaction_lock
from tests.database import Entry, counter, gauge, histogram, write
from tests.generations import by_process, kept, ours, theirs, write_workers
from tests.workers import environment, fork, run_python, spawn

IS_ROOT = hasattr(os, "getuid") and os.getuid() == 0  # Windows has no such function

pytestmark = pytest.mark.skipif(
    not liveness.HAS_LEASES, reason="this system has no file leases (Linux has them)"
)


def names(path: Path) -> set[str]:
    """Return the names of everything in *path* but the lock."""
    return {each.name for each in path.iterdir()} - {".mpmetrics-compaction.lock"}


def test_a_second_compactor_leaves(directory: Path) -> None:
    """A compactor that finds another process at work reports "busy" and changes nothing."""
    write_workers(directory, [1])
    before = names(directory)
    with make_compaction_lock(str(directory)):
        assert compact(directory).outcome == "busy"
    assert names(directory) == before
    assert compact(directory).outcome == "folded"


def test_a_removed_directory_is_not_made_again(directory: Path) -> None:
    """Neither a compactor nor a reader makes a removed directory again for its lock."""
    compactor = Compactor(directory)
    view = mpmetrics.MultiProcessCollector(None, directory)
    directory.rmdir()
    with pytest.raises(CompactionError, match="No such file or directory"):
        compactor.compact()
    assert list(view.collect()) == []
    assert not directory.exists()


def test_a_name_that_is_too_long_costs_the_others_nothing(directory: Path) -> None:
    """A file whose name cannot be made longer is left alone; the others are folded."""
    long, damaged = (directory / f"counter_{letter * 240}.db" for letter in "ab")
    write(long, [counter("c", 1)])
    damaged.write_bytes(b"\1\2\3")
    write(directory / "counter_1.db", [counter("c", 2)])
    result = compact(directory)
    assert result.folded == [str(directory / "counter_1.db")]
    left = {(skipped.path, skipped.detail) for skipped in result.skipped}
    assert left == {(str(path), "File name too long") for path in (long, damaged)}
    assert mpmetrics.collect(directory).families[0].samples[0].value == 3


def test_a_preview_changes_nothing(directory: Path) -> None:
    """A preview changes no name, byte or time, and reports what a compaction then does."""
    write_workers(directory, [1])
    compact(directory)
    write_workers(directory, [2])
    (directory / "counter_9.db").write_bytes(b"\1\2\3")

    def state() -> dict[str, tuple[bytes, int, int]]:
        files = [*directory.iterdir()]
        stats = [each.stat() for each in files]
        return {
            each.name: (each.read_bytes(), stat.st_mtime_ns, stat.st_ctime_ns)
            for each, stat in zip(files, stats, strict=True)
        }

    before, changed = state(), directory.stat().st_mtime_ns
    preview = compact(directory, dry_run=True)
    assert state() == before
    assert directory.stat().st_mtime_ns == changed
    done = compact(directory)
    assert preview._replace(outcome="folded", generation=done.generation) == done


def test_a_preview_reads_an_archive_without_its_final_name(directory: Path) -> None:
    """A preview reads an archive that a killed compactor left under its temporary name."""
    write_workers(directory, [1])
    compact(directory)
    archive = "counter_mpmetrics-archive-1.db"
    (directory / archive).rename(directory / f".mpmetrics-{archive}.new")
    write_workers(directory, [2])
    assert compact(directory, dry_run=True).skipped == []
    assert compact(directory).skipped == []
    assert ours(directory) == kept([1, 2])


def test_other_things_are_left_alone(directory: Path, tmp_path: Path) -> None:
    """Links, pipes and directories are left alone, whatever their names are."""
    target = write(tmp_path / "elsewhere", [counter("c", 1)])
    (directory / "counter_1.db").symlink_to(target)
    (directory / "counter_2.db").symlink_to(tmp_path / "nowhere")
    (directory / "counter_3.db").mkdir()
    os.mkfifo(directory / "counter_4.db")
    before = names(directory)
    result = compact(directory)
    assert (result.outcome, names(directory)) == ("nothing", before)
    assert target.exists()


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_a_file_with_two_names_counts_once_after_a_compaction(directory: Path, kind: str) -> None:
    """A dead worker's file with two names counts once before and after any compaction."""
    write(directory / "counter_1.db", [counter("jobs", 3)])
    write(directory / "counter_7.db", [counter("jobs", 4)])
    if kind == "hard":
        (directory / "counter_2.db").hardlink_to(directory / "counter_1.db")
    else:
        (directory / "counter_2.db").symlink_to("counter_1.db")
    for _ in range(3):
        assert b"jobs_total 7.0\n" in mpmetrics.collect(directory).render()
        compact(directory)
    assert b"jobs_total 7.0\n" in mpmetrics.collect(directory).render()


def test_a_damaged_file_is_set_aside_once(directory: Path) -> None:
    """A damaged file is renamed once and keeps its bytes; the totals of the others stay."""
    write_workers(directory, [1, 2])
    (directory / "counter_9.db").write_bytes(b"\1\2\3")
    result = compact(directory)
    assert [problem.reason for problem in result.quarantined] == ["damaged"]
    assert (directory / "counter_9.db.quarantined").read_bytes() == b"\1\2\3"
    assert ours(directory) == theirs(directory) == kept([1, 2])
    assert compact(directory).quarantined == []


def test_a_lost_manifest_costs_nothing(directory: Path) -> None:
    """Without a MANIFEST the newest archives count, and the next compaction writes a new one."""
    write_workers(directory, [1])
    compact(directory)
    write_workers(directory, [2])
    compact(directory)
    (directory / MANIFEST).unlink()
    write_workers(directory, [3])
    compact(directory)
    assert ours(directory) == kept([1, 2, 3])


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"version": 2}', b"[" * 100_000])
def test_a_damaged_manifest_stops_compaction_only(directory: Path, data: bytes) -> None:
    """A damaged MANIFEST stops compaction; readers read the newest archives and report it."""
    write_workers(directory, [1])
    compact(directory)
    (directory / MANIFEST).write_bytes(data)
    before = names(directory)
    with pytest.raises(CompactionError, match="MANIFEST cannot be used"):
        compact(directory)
    assert names(directory) == before
    collection = mpmetrics.collect(directory)
    assert [problem.reason for problem in collection.problems] == ["damaged_manifest"]
    assert len(collection.files) == len(before) - 1


def test_dead_gauges_are_kept_on_demand(directory: Path) -> None:
    """Gauges of dead workers stay in their files with the option, and go without it."""
    write_workers(directory, [1, 2])
    result = compact(directory, keep_dead_gauges=True)
    assert {skipped.reason for skipped in result.skipped} == {"kept"}
    assert ours(directory) == theirs(directory) == {**kept([1, 2]), **by_process([1, 2])}
    compact(directory)
    assert ours(directory) == theirs(directory) == kept([1, 2])


@pytest.mark.parametrize(
    ("fates", "left"),
    [
        ({}, {"other"}),
        ({"lmcache:": "kept"}, {"other", "lmcache:a", "lmcache:b"}),
        ({"lmcache:b": "kept", "oth": "gone"}, {"lmcache:b"}),
        ({"": "gone", "lmcache:": "kept", "lmcache:a": "gone"}, {"lmcache:b"}),
    ],
)
def test_prefixes_decide_over_dead_gauges(
    directory: Path, fates: dict[str, policy.Fate], left: set[str]
) -> None:
    """The longest prefix that fits decides over a dead gauge; those of LMCache go by default."""
    families = ["other", "lmcache:a", "lmcache:b"]
    write(directory / "gauge_sum_1.db", [gauge(name, 1) for name in families])
    compact(directory, dead_gauges=fates)
    assert {name for name, _ in ours(directory)} == left


def test_histograms_that_disagree_stay_as_the_page_had_them(directory: Path) -> None:
    """Histograms with different buckets are folded to the buckets that the page showed before."""
    write(directory / "histogram_1.db", histogram("h", {"1.0": 1, "2.0": 2, "+Inf": 3}, 0.1))
    write(directory / "histogram_2.db", histogram("h", {"1.0": 4, "3.0": 5, "+Inf": 6}, 0.2))
    before = mpmetrics.collect(directory).render()
    result = compact(directory)
    assert {problem.reason for problem in result.problems} == {"bucket_conflict"}
    assert mpmetrics.collect(directory).render() == before


def test_many_files_are_many_batches(directory: Path) -> None:
    """Many files are folded in batches, each with its own generation; no descriptor stays open."""
    for number in range(95):
        write(directory / f"counter_{number}.db", [counter("c", number)], size=256)
    before = len(list(Path("/proc/self/fd").iterdir()))
    result = Compactor(directory, limits=BatchLimits(files=10)).compact()
    assert (len(result.folded), result.generation) == (95, 10)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert names(directory) == {MANIFEST, "counter_mpmetrics-archive-10.db"}
    assert ours(directory) == {("c_total", ()): sum(range(95))}


@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    st.lists(
        # Two numbers hold some 106 bits: enough for all that is counted in nanoseconds.
        st.lists(st.integers(0, 2**70).map(lambda n: n * 2.0**-30), min_size=1, max_size=4),
        min_size=1,
        max_size=5,
    )
)
def test_compaction_changes_no_digit_of_a_sum(
    directory: Path, generations: list[list[float]]
) -> None:
    """Compaction changes no digit of a sum, in whatever order it adds, and no sum falls."""
    shutil.rmtree(directory)
    directory.mkdir()
    last = 0.0
    for number, values in enumerate(generations):
        for place, value in enumerate(values):
            write(directory / f"counter_{number}x{place}.db", [counter("c", value)], size=256)
        before = ours(directory)
        compact(directory)
        assert ours(directory) == before
        assert before["c_total", ()] >= last
        last = before["c_total", ()]


@pytest.mark.skipif(not IS_ROOT, reason="needs root to become another user")
def test_a_file_of_another_user_is_skipped() -> None:
    """A file of another user is skipped as unknown; the user's own file is folded."""
    program = """
import os, sys, tempfile
from mpmetrics import compact
# What is imported late may be out of the other user's reach.
with tempfile.TemporaryDirectory() as other:
    compact(other)
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
result = compact(sys.argv[1])
print(len(result.folded), [(os.path.basename(each.path), each.reason) for each in result.skipped])
"""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o777)
        write(directory / "counter_1.db", [counter("c", 1)])
        os.chown(write(directory / "counter_2.db", [counter("c", 2)]), 65534, 65534)
        printed = run_python(program, name, env=environment(None))
        assert printed == "1 [('counter_1.db', 'unknown')]\n"
        assert ours(directory) == {("c_total", ()): 3}


def test_a_worker_in_another_pid_namespace_is_alive(directory: Path) -> None:
    """A worker in another pid namespace is alive, whatever its pid is here."""
    path = write(directory / "counter_1.db", [counter("c", 1)])
    program = f"import sys; f = open({str(path)!r}, 'rb'); print(); sys.stdin.read()"
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", program]
    with spawn(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        if not process.stdout.readline():
            pytest.skip("pid namespaces cannot be made here")
        assert [skipped.reason for skipped in compact(directory).skipped] == ["alive"]
        process.communicate()
    assert compact(directory).folded == [str(path)]


def test_a_lease_ends_although_a_child_has_a_copy_of_it(directory: Path) -> None:
    """A released lease has ended, although a forked child has a copy of the descriptor."""
    path = write(directory / "counter_1.db", [counter("c", 1)])
    descriptor = liveness.open_for_lease(str(path))
    liveness.take_lease(descriptor)
    reader, writer = os.pipe()
    child = fork()
    if child == 0:
        os.close(writer)
        select.select([reader], [], [])
        os._exit(0)
    try:
        liveness.release_lease(descriptor)
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)
        os.close(writer)


def test_an_empty_file_leaves_no_archive(directory: Path) -> None:
    """Neither an empty file nor one whose gauges all go leaves an archive."""
    (directory / "counter_1.db").touch()
    write(directory / "gauge_sum_1.db", [Entry("lmcache:a", "lmcache:a")])
    assert len(compact(directory).folded) == 2
    assert names(directory) == {MANIFEST}


def test_recycled_workers_leave_archives_only(directory: Path) -> None:
    """After hundreds of workers there are as many files and bytes to read as after one."""
    write_workers(directory, [1])
    compact(directory)

    def size() -> tuple[int, int]:
        files = mpmetrics.collect(directory).files
        return len(files), sum(Path(file.path).stat().st_size for file in files)

    first = size()
    for worker in range(2, 202):
        write_workers(directory, [worker])
        if worker % 20 == 1:
            compact(directory)
    assert size() == first
    assert ours(directory) == theirs(directory) == kept(range(1, 202))
