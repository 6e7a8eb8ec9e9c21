"""Exactly once: a compactor that is killed anywhere leaves every total as it was."""

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
    """Return a directory with files of the dead, and whose; for the second, there is an archive."""
    path = tmp_path / "before"
    path.mkdir()
    workers = [1, 2]
    write_workers(path, workers)
    if not liveness.has_proven_leases(str(path)):
        pytest.skip("the file system of the temporary directory does not tell open from closed")
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
    """Check that *path* reads right in the middle of it, and after one more compactor."""
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
def test_killed_once(directory: tuple[Path, Sequence[int]], tmp_path: Path, *, keep: bool) -> None:
    """Before and after each operation; then read, then compact, then read by both sides."""
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
    assert point > 250, f"there were only {point} points"


def test_killed_again_and_again(directory: tuple[Path, Sequence[int]], tmp_path: Path) -> None:
    """The one who finishes, or undoes, what the first has left is killed; and so is the next."""
    before, workers = directory
    chance = random.Random(7)
    path = tmp_path / "now"
    kills = 0
    for _ in range(40):
        shutil.copytree(before, path)
        points = [chance.randrange(1, 400), chance.randrange(1, 200), chance.randrange(1, 200)]
        for point in points:
            kills += killed_at(point, lambda: compact(path))
        check(path, workers, keep=False, where=points)
        shutil.rmtree(path)
    assert kills > 40, f"there were only {kills} kills"


def test_what_one_was_killed_over_is_no_part_of_another_batch(
    directory: tuple[Path, Sequence[int]], tmp_path: Path
) -> None:
    """Files that were put aside still count, although others are folded before them."""
    before, workers = directory
    path = tmp_path / "now"
    aside = set()
    for point in range(1, 400, 9):
        shutil.copytree(before, path)
        killed_at(point, lambda: compact(path))
        aside.add(sum(".folding-" in each.name for each in path.iterdir()))
        check(path, workers, keep=False, where=point, limits=BatchLimits(files=3))
        shutil.rmtree(path)
    assert max(aside) > 3, "no compactor was killed with files put aside"
