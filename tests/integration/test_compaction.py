"""What compaction folds, drops, leaves and sets aside."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from math import fsum
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mpmetrics
from mpmetrics import CompactionError, DirectoryError, compact, liveness
from mpmetrics.compaction import Compaction, Compactor
from mpmetrics.locks import compaction_lock
from mpmetrics.manifest import Manifest, read_manifest
from tests.command.directories import fill
from tests.database import Entry, counter, encode, gauge, histogram
from tests.workers import PATIENCE, Worker, environment, run_python

pytestmark = pytest.mark.skipif(
    not liveness.HAS_LEASES, reason="this system has no file leases (Linux has them)"
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return an empty directory in which the dead are told from the living."""
    path = tmp_path / "metrics"
    path.mkdir()
    if not liveness.can_tell(str(path)):
        pytest.skip("the file system of the temporary directory does not tell open from closed")
    return path


def values(path: Path) -> dict[str, float]:
    """Return the value of each sample, by its name and label values."""
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in mpmetrics.collect(path).families
        for sample in family.samples
    }


def names(path: Path) -> list[str]:
    """Return the names of the files that count, and of those set aside."""
    return sorted(each.name for each in path.iterdir() if each.name[0] != ".")


def skipped(done: Compaction) -> dict[str, str]:
    """Return why each file was left, by its name."""
    return {Path(each.path).name: each.reason for each in done.skipped}


# -- gauges ---------------------------------------------------------------------------------------


def test_gauges_of_mode_all_go_unless_they_are_kept(directory: Path) -> None:
    """A series for each process that ever lived is what nobody wants, mostly."""
    fill(directory, {"gauge_all_7.db": gauge("g", 1), "counter_7.db": counter("c", 1)})
    kept = compact(directory, keep_dead_gauges=True)
    assert skipped(kept) == {"gauge_all_7.db": "kept"}
    assert values(directory) == {"c_total": 1.0, "g 7": 1.0}
    done = compact(directory)
    assert [Path(path).name for path in done.dropped] == ["gauge_all_7.db"]
    assert values(directory) == {"c_total": 1.0}


@pytest.mark.parametrize("mode", ["sum", "min", "max", "mostrecent"])
def test_lmcache_takes_its_share_with_it(directory: Path, mode: str) -> None:
    """By default the dead use no cache; whoever wants it otherwise says so."""
    entries = [gauge("lmcache:used", 5, timestamp=1), gauge("other", 7, timestamp=1)]
    file = {f"gauge_{mode}_7.db": entries}
    fill(directory, file)
    compact(directory, dead_gauges={"lmcache:": "kept"})
    assert values(directory) == {"lmcache:used": 5.0, "other": 7.0}
    fill(directory, file)
    compact(directory)
    assert "lmcache:used" not in values(directory)


def test_the_longest_prefix_decides(directory: Path) -> None:
    """A rule for one family beats that for its whole program."""
    entries = [gauge("a:x", 1), gauge("a:y", 2), gauge("b", 3)]
    fill(directory, {"gauge_sum_7.db": entries})
    compact(directory, dead_gauges={"a:": "gone", "a:x": "kept"})
    assert values(directory) == {"a:x": 1.0, "b": 3.0}


# -- what stays -----------------------------------------------------------------------------------


def test_the_living_are_left_alone(directory: Path) -> None:
    """A worker goes on in its own file."""
    fill(directory, {"counter_7.db": counter("jobs", 1)})
    with Worker(directory) as worker:
        worker.do("jobs = Counter('jobs', 'help'); jobs.inc(2)")
        assert skipped(compact(directory)) == {f"counter_{worker.pid}.db": "alive"}
        worker.do("jobs.inc(4)")
        assert values(directory) == {"jobs_total": 7.0}


def test_without_proof_nothing_is_done(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is taken for dead on suspicion."""
    fill(directory, {"counter_7.db": counter("jobs", 1)})
    monkeypatch.setattr(liveness, "_proven", {os.stat(directory).st_dev: False})  # noqa: PTH116
    done = compact(directory)
    assert (done.outcome, skipped(done)) == ("nothing", {"counter_7.db": "unknown"})
    assert names(directory) == ["counter_7.db"]


def test_a_dry_run_changes_nothing(directory: Path) -> None:
    """It says what would be, and no byte, name or time is another."""
    fill(directory, {"counter_7.db": counter("c", 1), "gauge_all_7.db": gauge("g", 1)})
    fill(directory, {"counter_8.db": b"x"})
    before = {each: (each.read_bytes(), each.stat().st_mtime_ns) for each in directory.iterdir()}
    done = compact(directory, dry_run=True)
    assert done.outcome == "preview"
    assert [Path(path).name for path in done.folded] == ["counter_7.db"]
    assert [Path(path).name for path in done.dropped] == ["gauge_all_7.db"]
    assert [Path(each.path).name for each in done.quarantined] == ["counter_8.db"]
    after = {each: (each.read_bytes(), each.stat().st_mtime_ns) for each in directory.iterdir()}
    assert after == before


def test_one_does_the_work(directory: Path) -> None:
    """Whoever comes second says so and leaves."""
    fill(directory, {"counter_7.db": counter("jobs", 1)})
    with compaction_lock(str(directory)):
        assert compact(directory).outcome == "busy"
    assert compact(directory).outcome == "folded"
    assert compact(directory).outcome == "nothing"


# -- what is wrong --------------------------------------------------------------------------------


def test_a_damaged_file_is_set_aside(directory: Path) -> None:
    """Its bytes stay under another name; the others are folded, and the next page is clean."""
    whole = encode([counter("jobs", 1)])
    fill(directory, {"counter_7.db": whole, "counter_8.db": whole[:-3]})
    done = compact(directory)
    (problem,) = done.quarantined
    assert (Path(problem.path).name, problem.reason) == ("counter_8.db", "damaged")
    assert (directory / "counter_8.db.quarantined").read_bytes() == whole[:-3]
    collection = mpmetrics.collect(directory)
    assert collection.problems == []
    assert [Path(path).name for path in collection.quarantined] == ["counter_8.db.quarantined"]
    fill(directory, {"counter_8.db": whole[:-3]})
    compact(directory)
    assert (directory / "counter_8.db.quarantined.1").exists()


def test_a_lost_manifest_costs_nothing(directory: Path) -> None:
    """The newest archive counts, and the next compaction writes a new MANIFEST."""
    fill(directory, {"counter_7.db": counter("jobs", 1)})
    compact(directory)
    (directory / "MANIFEST").unlink()
    collection = mpmetrics.collect(directory)
    assert [problem.reason for problem in collection.problems] == ["lost_manifest"]
    fill(directory, {"counter_8.db": counter("jobs", 2)})
    assert compact(directory).outcome == "folded"
    assert mpmetrics.collect(directory).problems == []
    assert values(directory) == {"jobs_total": 3.0}


def test_a_damaged_manifest_stops_compaction(directory: Path) -> None:
    """Nobody guesses what it said; the page goes by the newest archives, and says so."""
    fill(directory, {"counter_7.db": counter("jobs", 1)})
    compact(directory)
    (directory / "MANIFEST").write_text('{"version": 1}')
    fill(directory, {"counter_8.db": counter("jobs", 2)})
    before = names(directory)
    with pytest.raises(CompactionError, match="MANIFEST cannot be used"):
        compact(directory)
    assert names(directory) == before
    collection = mpmetrics.collect(directory)
    assert [problem.reason for problem in collection.problems] == ["damaged_manifest"]
    assert values(directory) == {"jobs_total": 3.0}


def test_a_manifest_of_a_later_version_is_not_understood(directory: Path) -> None:
    """What a later release means by it is not known here."""
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
    """Whatever it holds, nothing outside of the directory is ever read or removed."""
    with pytest.raises(mpmetrics.MpmetricsError, match="MANIFEST"):
        Manifest.parse(content)


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    """That is a mistake, and an error of its own."""
    with pytest.raises(DirectoryError):
        compact(tmp_path / "nowhere")


def test_disagreements_are_not_folded_away(directory: Path) -> None:
    """What the page would leave out must not vanish for good."""
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


# -- exactness ------------------------------------------------------------------------------------


# From microseconds to decades: what an archive keeps of a sum has 106 bits.
NUMBERS = st.floats(1e-6, 1e9) | st.just(0.0)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(NUMBERS, min_size=1, max_size=4), min_size=1, max_size=5))
def test_no_float_total_falls(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[list[float]]
) -> None:
    """Over any number of generations the total is the exact sum, rounded once."""
    path = tmp_path_factory.mktemp("metrics")
    compactor = Compactor(path)
    shown = 0.0
    pid = 0
    for numbers in rounds:
        for number in numbers:
            pid += 1
            fill(path, {f"counter_{pid}.db": encode([counter("seconds", number)])})
        for _ in range(2):
            now = values(path)["seconds_total"]
            assert now >= shown
            shown = now
            compactor.compact()
    assert values(path)["seconds_total"] == fsum(number for numbers in rounds for number in numbers)


def test_many_files_take_several_commits(directory: Path) -> None:
    """A great many files are folded in batches, and few descriptors are open at once."""
    size = 600
    fill(directory, {f"counter_{pid}.db": encode([counter("c", 1)]) for pid in range(1, size + 1)})
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 300, limits[1]))
    try:
        done = compact(directory)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert (len(done.folded), done.generation) == (size, 3)
    assert values(directory) == {"c_total": float(size)}
    assert names(directory) == ["MANIFEST", "counter_mpmetrics-archive-3.db"]
    assert len(os.listdir("/proc/self/fd")) == used  # noqa: PTH208


# -- other users, other namespaces, full disks ----------------------------------------------------


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another user")
def test_somebody_elses_files_are_left() -> None:
    """Linux tells the owner of a file only; nobody else may fold it."""
    # Not below pytest's own directory, into which only its user may go.
    with tempfile.TemporaryDirectory() as name:
        directory = fill(Path(name), {"counter_7.db": encode([counter("jobs", 1)])})
        directory.chmod(0o777)
        program = f"""
import os
from mpmetrics.compaction import compact
from filelock import FileLock
os.setuid(65534)
done = compact({name!r})
print(done.outcome, [each.reason for each in done.skipped])
"""
        assert run_python(program, env=environment(None)) == "nothing ['unknown']\n"
        assert names(directory) == ["counter_7.db"]


def test_a_worker_in_another_pid_namespace_is_left(directory: Path) -> None:
    """Both are process 1 where they live; one directory is still told right."""
    program = "import prometheus_client as p; p.Counter('jobs', 'help').inc(2); print(); input()"
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", program]
    with subprocess.Popen(
        command, env=environment(directory), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        if process.stdout.readline() != b"\n":
            pytest.skip("pid namespaces cannot be made here")
        fill(directory, {"counter_2.db": counter("jobs", 1)})
        assert skipped(compact(directory)) == {"counter_1.db": "alive"}
        process.communicate(b"\n", timeout=PATIENCE)
    assert values(directory) == {"jobs_total": 3.0}
    assert compact(directory).outcome == "folded"
    assert values(directory) == {"jobs_total": 3.0}


FULL = """
import os, subprocess, sys
import mpmetrics
from tests.database import counter, encode
path = sys.argv[1]
if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", path]).returncode:
    sys.exit("no mount")
for pid in range(20):
    with open(f"{path}/counter_{pid}.db", "wb") as file:
        file.write(encode([counter("jobs", 1, {"worker": str(pid), "x": "x" * 3000})]))
with open(f"{path}/ballast.txt", "wb", buffering=0) as file:
    try:
        while file.write(b"x" * 4096) == 4096:
            pass
    except OSError:
        pass
before = sorted(os.listdir(path))
page = mpmetrics.collect(path).render()
try:
    print(mpmetrics.compact(path))
except mpmetrics.CompactionError as error:
    print("No space left on device" in str(error))
after = sorted(name for name in os.listdir(path) if name[0] != ".")
print(after == before, mpmetrics.collect(path).render() == page)
os.unlink(f"{path}/ballast.txt")
print(mpmetrics.compact(path).outcome, mpmetrics.collect(path).render() == page)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to mount a file system")
def test_a_file_system_that_is_really_full(directory: Path) -> None:
    """The kernel itself says that there is no room: nothing has happened, and it is told."""
    command = ["unshare", "--mount", sys.executable, "-c", FULL, str(directory)]
    done = subprocess.run(
        command,
        env={**environment(None), "PYTHONPATH": os.getcwd()},  # noqa: PTH109
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if "no mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip("file systems cannot be mounted here")
    assert (done.stdout, done.stderr) == ("True\nTrue True\nfolded True\n", "")


def test_the_manifest_says_what_counts(directory: Path) -> None:
    """Its generation grows by one with each commit, and it names each archive."""
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
