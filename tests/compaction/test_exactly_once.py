"""Exactly once: a compactor that is killed at any operation changes no total."""

from __future__ import annotations

import random
import shutil
from typing import TYPE_CHECKING

import pytest

from mpmetrics import compact
from mpmetrics.compaction import Compactor
from mpmetrics.compaction.batch import DEFAULT_LIMITS, BatchLimits
from mpmetrics.directory import liveness
from tests.generations import (
    by_process,
    is_gone_with_its_worker,
    kept,
    ours,
    theirs,
    write_workers,
)
from tests.operations import killed_at

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    not liveness.HAS_LEASES, reason="this system has no file leases (Linux has them)"
)


@pytest.fixture(params=[1, 2], ids=["first generation", "second generation"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Sequence[int]]:
    """Return a directory with files of dead workers, or an archive and a file, and the workers."""
    path = tmp_path / "before"
    path.mkdir()
    workers = [1, 2]
    write_workers(path, workers)
    if not liveness.prove_leases(str(path)):
        pytest.skip("leases do not work on the file system of the temporary directory")
    if request.param == 2:
        assert compact(path, keep_dead_gauges=True).generation == 1
        write_workers(path, [3])
        workers = [1, 2, 3]
    return path, workers


def check(
    path: Path,
    workers: Sequence[int],
    *,
    keep: bool,
    where: object,
    limits: BatchLimits = DEFAULT_LIMITS,
) -> None:
    """Check the totals of *path* after a killed compactor, and after one more that ends."""
    before = ours(path)
    expected = kept(workers)
    there = {key: value for key, value in before.items() if not is_gone_with_its_worker(key)}
    assert there == expected, where
    if keep:
        assert by_process(workers).items() <= before.items(), where
    assert Compactor(path, keep, limits=limits).compact().outcome in ("folded", "nothing"), where
    final = {**expected, **(by_process(workers) if keep else {})}
    assert ours(path) == final, where
    names = {each.name for each in path.iterdir()}
    assert not any(".folding-" in name or name.endswith(".new") for name in names), (where, names)
    assert theirs(path) == final, where


@pytest.mark.parametrize("keep", [False, True], ids=["drop", "keep"])
def test_a_compactor_is_killed_once(
    directory: tuple[Path, Sequence[int]], tmp_path: Path, *, keep: bool
) -> None:
    """A compactor that is killed before or after any operation changes no total.

    The next compactor finishes or undoes its work, and both collectors read the same totals.
    """
    before, workers = directory
    path = tmp_path / "now"
    point = 0
    killed = True
    while killed:
        point += 1
        shutil.copytree(before, path)
        killed = killed_at(point, lambda: compact(path, keep))
        check(path, workers, keep=keep, where=point)
        shutil.rmtree(path)
    assert point > 100, f"there were only {point} points"


def test_compactors_are_killed_one_after_the_other(
    directory: tuple[Path, Sequence[int]], tmp_path: Path
) -> None:
    """A compactor that is killed while it recovers from a killed one changes no total."""
    before, workers = directory
    chance = random.Random(7)
    path = tmp_path / "now"
    kills = 0
    for _ in range(40):
        shutil.copytree(before, path)
        points = [chance.randrange(1, 250), chance.randrange(1, 120), chance.randrange(1, 120)]
        for point in points:
            kills += killed_at(point, lambda: compact(path))
        check(path, workers, keep=False, where=points)
        shutil.rmtree(path)
    assert kills > 40, f"there were only {kills} kills"


def test_files_of_a_killed_compactor_count_while_others_are_folded(
    directory: tuple[Path, Sequence[int]], tmp_path: Path
) -> None:
    """Files that a killed compactor put aside count, although others are folded before them."""
    before, workers = directory
    path = tmp_path / "now"
    aside = set()
    for point in range(1, 250, 6):
        shutil.copytree(before, path)
        killed_at(point, lambda: compact(path))
        aside.add(sum(".folding-" in each.name for each in path.iterdir()))
        check(path, workers, keep=False, where=point, limits=BatchLimits(files=3))
        shutil.rmtree(path)
    assert max(aside) > 3, "no compactor was killed with files put aside"
