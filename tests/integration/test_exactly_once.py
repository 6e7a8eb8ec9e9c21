"""Compaction that is killed, starved or met by workers at every single step of its way."""

from __future__ import annotations

import errno
import os
import random
import select
import shutil
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.multiprocess import MultiProcessCollector as TheirCollector

import mpmetrics
from mpmetrics import liveness
from mpmetrics.files import GAUGE_MODES
from tests.command.directories import fill
from tests.database import Entry, counter, encode, gauge, histogram, summary
from tests.saboteur import Saboteur
from tests.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    not liveness.HAS_LEASES, reason="this system has no file leases (Linux has them)"
)

OWN = {".mpmetrics-compaction.lock"}
"""What a compaction may leave beside what counts."""


@pytest.fixture(scope="module")
def saboteur() -> Iterator[Saboteur]:
    """Return a process that compacts and comes to grief."""
    with Saboteur() as process:
        yield process


def files_of(pid: int, scale: float, only: str = "") -> dict[str, bytes]:
    """Return the files of one worker, *only* those of a type: numbers that do not add up well."""
    files: dict[str, list[Entry]] = {
        f"counter_{pid}.db": [
            counter("jobs", 3 * scale),
            counter("seconds", 0.1 * scale, {"kind": "a"}),
            counter("seconds", 0.7 * scale, {"kind": str(pid)}),
        ],
        f"histogram_{pid}.db": histogram("size", {"1.0": scale, "2.0": 2, "+Inf": 1}, 0.3 * scale),
        f"summary_{pid}.db": summary("wait", scale, 0.2 * scale),
    }
    for mode in GAUGE_MODES:
        stamp = float(pid) if "mostrecent" in mode else 0.0
        files[f"gauge_{mode}_{pid}.db"] = [gauge(f"g_{mode}", 0.1 * pid * scale, timestamp=stamp)]
    return {name: encode(entries) for name, entries in files.items() if name.startswith(only)}


def page(path: Path) -> bytes:
    """Return the page of a directory; nothing may be wrong with it."""
    collection = mpmetrics.collect(path)
    assert collection.problems == []
    return collection.render()


def contents(path: Path) -> dict[str, bytes]:
    """Return every file of a directory by its name."""
    return {each.name: each.read_bytes() for each in path.iterdir() if each.name not in OWN}


@pytest.fixture
def template(tmp_path: Path, saboteur: Saboteur, request: pytest.FixtureRequest) -> Path:
    """Return a directory of dead workers, in the first or the second generation."""
    path = tmp_path / "template"
    path.mkdir()
    if not liveness.can_tell(str(path)):
        pytest.skip("the file system of the temporary directory does not tell open from closed")
    generation, _, only = request.param.partition("-only-")
    if generation == "second":
        fill(path, {**files_of(3, 1.0, only), **files_of(4, 0.1, only)})
        assert saboteur.compact(path).outcome == "folded"
    return fill(path, {**files_of(7, 1.1, only), **files_of(8, 0.3, only)})


def copied(template: Path, name: object) -> Path:
    """Return a fresh copy of the template."""
    return shutil.copytree(template, template.with_name(str(name)))


in_both_generations = pytest.mark.parametrize("template", ["first", "second"], indirect=True)


@pytest.mark.parametrize(
    ("template", "keep"),
    [
        pytest.param("first", False, id="first"),
        pytest.param("second", False, id="second"),
        pytest.param("second", True, id="second-keep-all"),
    ],
    indirect=["template"],
)
def test_killed_at_every_operation(template: Path, saboteur: Saboteur, *, keep: bool) -> None:
    """Whoever looks sees the old truth or the new one, and the next compaction makes it new."""
    before = page(template)
    whole = copied(template, "whole")
    operations = saboteur.compact(whole, keep=keep).operations
    after = page(whole)
    assert operations > 50
    seen = set()
    for operation in range(1, operations + 1):
        path = copied(template, operation)
        assert saboteur.kill_at(operation, path, keep=keep).was_killed
        between = page(path)
        assert between in {before, after}, operation
        seen.add(between)
        again = saboteur.compact(path, keep=keep)
        assert again.error == "", operation
        assert page(path) == after, operation
        assert contents(path).keys() == contents(whole).keys() or keep, operation
        shutil.rmtree(path)
    assert seen == {before, after}


@in_both_generations
def test_killed_twice_in_a_row(template: Path, saboteur: Saboteur) -> None:
    """Whoever tidies up after a killed compactor may be killed, too."""
    rng = random.Random(8)  # noqa: S311 - not for secrets
    before = page(template)
    whole = copied(template, "whole")
    operations = saboteur.compact(whole).operations
    after = page(whole)
    for number in range(80):
        path = copied(template, number)
        first, second = (rng.randint(1, operations) for _ in range(2))
        saboteur.kill_at(first, path)
        saboteur.kill_at(second, path)
        assert page(path) in {before, after}, (first, second)
        saboteur.compact(path)
        assert page(path) == after, (first, second)
        shutil.rmtree(path)


def totals(path: Path) -> dict[tuple[str, frozenset[tuple[str, str]]], Any]:
    """Return what prometheus_client's own collector makes of the series that outlive workers."""
    kept = ("jobs", "seconds", "size", "wait", "g_sum", "g_min", "g_max", "g_mostrecent")
    return {
        (sample.name, frozenset(sample.labels.items())): pytest.approx(sample.value, rel=1e-12)
        for family in TheirCollector(None, str(path)).collect()
        if family.name in kept
        for sample in family.samples
    }


@pytest.mark.parametrize("template", ["first"], indirect=True)
def test_their_own_collector_reads_archives(template: Path, saboteur: Saboteur) -> None:
    """prometheus_client gets the same numbers from an archive, of either generation."""
    before = totals(template)
    assert before
    assert saboteur.compact(template).outcome == "folded"
    assert totals(template) == before
    fill(template, files_of(9, 0.5))
    before = totals(template)
    assert saboteur.compact(template).outcome == "folded"
    assert totals(template) == before


@in_both_generations
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO], ids=["ENOSPC", "EIO"])
def test_no_room_at_any_write(template: Path, saboteur: Saboteur, number: int) -> None:
    """A write that fails leaves everything as it was, or what counts right; and it is told."""
    before, files = page(template), contents(template)
    whole = copied(template, "whole")
    assert saboteur.compact(whole).outcome == "folded"
    after = page(whole)
    untouched = 0
    for operation in count(1):
        path = copied(template, operation)
        report = saboteur.fail_at(operation, path, number)
        if report.operations < operation:
            break
        now = page(path)
        assert now in {before, after}, operation
        if now == before:
            untouched += 1
            assert os.strerror(number) in report.error, operation
            assert contents(path) == files, operation
        saboteur.compact(path)
        assert page(path) == after, operation
        shutil.rmtree(path)
    assert untouched > 20


INCREMENT = """
from prometheus_client.mmap_dict import MmapedDict, mmap_key
key = mmap_key("jobs", "jobs_total", [], [], "help")
file = MmapedDict({path!r})
value, _ = file.read_value(key)
for _ in range(5):
    value += 1
    file.write_value(key, value, 0.0)
"""


def jobs(path: Path) -> float:
    """Return the total of the counter."""
    families = {family.name: family for family in mpmetrics.collect(path).families}
    return float(families["jobs"].samples[0].value)


@pytest.mark.parametrize("template", ["first-only-counter", "second-only-counter"], indirect=True)
def test_a_worker_that_comes_in_the_middle(template: Path, saboteur: Saboteur) -> None:
    """A process with a dead one's pid opens its file at any moment; no increment is lost."""
    before = jobs(template)
    with Worker(template) as worker:
        worker.do("file = None")
        for operation in count(1):
            path = copied(template, operation)
            arrival = Arrival(worker, path)
            report = saboteur.pause_at(operation, path, arrival.begin)
            assert report.error == "", operation
            if report.operations < operation:
                break
            arrival.end()
            assert jobs(path) == pytest.approx(before + 5, abs=1e-9), operation
            worker.do("file.close()")
            saboteur.compact(path)
            assert jobs(path) == pytest.approx(before + 5, abs=1e-9), operation
            shutil.rmtree(path)
    assert operation > 30


class Arrival:
    """A *worker* that opens a file in *path* and counts, as far as it is let in at once."""

    def __init__(self, worker: Worker, path: Path) -> None:
        """Do nothing yet."""
        self._worker = worker
        self._code = INCREMENT.format(path=str(path / "counter_7.db"))
        self._is_waiting = False

    def begin(self) -> None:
        """Let it try; while somebody has a lease on the file it waits, in the kernel."""
        self._worker.begin(self._code)
        stdout = self._worker._process.stdout
        assert stdout is not None
        # Long enough for whoever is let in; whoever is not has to wait for the compactor.
        ready, _, _ = select.select([stdout], [], [], 0.02)
        self._is_waiting = not ready
        if ready:
            self._worker.finish()

    def end(self) -> None:
        """See that it has been let in by now."""
        if self._is_waiting:
            self._worker.finish()
