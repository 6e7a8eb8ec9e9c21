"""What a page of several directories shows of those that vanish, fail and come back."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import mpmetrics
from mpmetrics.scrape import Remains
from tests.database import Entry, counter, gauge, histogram, summary, write
from tests.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def container(value: float, stamp: float = 1.0) -> dict[str, list[Entry]]:
    """Return the files of a container, by name: of each kind of metric one."""
    return {
        "counter_1.db": [counter("c", value)],
        "summary_1.db": summary("s", value, value),
        "histogram_1.db": histogram("h", {"1.0": value, "+Inf": 0}, value),
        "gauge_sum_1.db": [gauge("g_sum", value)],
        "gauge_max_1.db": [gauge("g_max", value)],
        "gauge_mostrecent_1.db": [gauge("g_last", value, timestamp=stamp)],
        "gauge_livesum_1.db": [gauge("live", value)],
        "gauge_all_1.db": [gauge("g_all", value)],
    }


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Read as a user whom permissions bind: root is not."""
    if os.geteuid() == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(os.getuid())


def chmod_as_owner(path: Path, mode: int) -> None:
    """Change the *mode* of *path* within `ordinary_user`."""
    user = os.geteuid()
    os.seteuid(os.getuid())
    path.chmod(mode)
    os.seteuid(user)


def make(path: Path, files: dict[str, list[Entry]]) -> Path:
    """Make the directory *path* with these *files*."""
    path.mkdir()
    for name, entries in files.items():
        write(path / name, entries, size=0)
    return path


def numbers(page: mpmetrics.Page) -> dict[str, float]:
    """Return the values of a page by name, with the labels that matter here."""
    values = {}
    for family in page.families():
        for sample in family.samples:
            if not sample.name.startswith("mpmetrics_"):
                directory = sample.labels.get("directory")
                values[f"{sample.name} {directory}" if directory else sample.name] = sample.value
    return values


def totals(value: float, *, last: float | None = None) -> dict[str, float]:
    """Return what stays of containers whose values add up to *value*."""
    return {
        "c_total": value,
        "s_count": value,
        "s_sum": value,
        "h_bucket": value,
        "h_count": value,
        "h_sum": value,
        "g_sum": value,
        "g_last": value if last is None else last,
    }


def live(value: float, name: str) -> dict[str, float]:
    """Return what goes with a container *name*, which has this *value*."""
    return {"live": value, f"g_all {name}": value}


def test_totals_of_a_container_that_has_gone_stay(tmp_path: Path) -> None:
    """Its counters and kept gauges are as they were, and its live gauges have gone."""
    make(tmp_path / "a", container(1, 1))
    make(tmp_path / "b", container(2, 2))
    page = mpmetrics.Page(mpmetrics.SubdirectoriesSource(tmp_path), include=("c", "s", "h", "g_"))
    assert numbers(page)["c_total"] == 3
    shutil.rmtree(tmp_path / "b")
    expected = {**totals(3, last=2), "g_max": 2.0, "g_all a": 1.0}
    for _ in range(2):
        assert numbers(page) == expected


def test_the_next_container_adds_up(tmp_path: Path) -> None:
    """Containers that come and go under one name, or under others, never let a total fall."""
    parent = tmp_path / "parent"
    parent.mkdir()
    page = mpmetrics.Page([mpmetrics.SubdirectoriesSource(parent)])
    assert numbers(page) == {}
    total = 0
    for number in range(1, 6):
        name = "same" if number % 2 else f"other-{number}"
        make(parent / name, container(number, number))
        total += number
        expected = {**totals(total, last=number), "g_max": float(number)}
        assert numbers(page) == {**expected, **live(number, name)}
        shutil.rmtree(parent / name)
        assert numbers(page) == expected


@pytest.mark.parametrize("count", [3, 100])
def test_many_containers_that_have_gone_take_the_space_of_one(tmp_path: Path, count: int) -> None:
    """What remains of them is folded: the number of parts has a limit."""
    parent = tmp_path / "parent"
    parent.mkdir()
    page = mpmetrics.Page([mpmetrics.SubdirectoriesSource(parent)])
    for number in range(count):
        make(parent / str(number), {"counter_1.db": [counter("c", 0.1)]})
        numbers(page)
        shutil.rmtree(parent / str(number))
    assert numbers(page) == {"c_total": pytest.approx(count / 10, abs=1e-12)}
    remains = page._gathering._directories._remains
    assert len(remains.update([])) <= 65


def test_a_directory_that_fails_for_a_while_does_not_let_totals_fall(tmp_path: Path) -> None:
    """Its totals stay while it is away, and count once when it is back, grown or compacted."""
    make(tmp_path / "a", container(1, 1))
    make(tmp_path / "b", container(2, 2))
    page = mpmetrics.Page([tmp_path / "a", tmp_path / "b"], include=("c", "mpmetrics_source_up"))
    for entry in (3, 4):
        assert numbers(page) == {"c_total": float(entry)}
        (tmp_path / "b").rename(tmp_path / "away")
        assert numbers(page) == {"c_total": float(entry)}
        write(tmp_path / "away" / "counter_1.db", [counter("c", entry)], size=0)
        (tmp_path / "away").rename(tmp_path / "b")
    assert numbers(page) == {"c_total": 5.0}
    (tmp_path / "b").rename(tmp_path / "away")
    mpmetrics.compact(tmp_path / "away")
    assert numbers(page) == {"c_total": 5.0}
    (tmp_path / "away").rename(tmp_path / "b")
    assert numbers(page) == {"c_total": 5.0}


def test_a_compaction_is_no_new_directory(tmp_path: Path) -> None:
    """Archives in the place of files count once, generation after generation."""
    for name in "ab":
        make(tmp_path / name, {})
    page = mpmetrics.Page([tmp_path / "a", tmp_path / "b"])
    for number in range(1, 5):
        write(tmp_path / "a" / f"counter_{number}.db", [counter("c", 1)], size=0)
        assert numbers(page) == {"c_total": float(number)}
        assert mpmetrics.compact(tmp_path / "a").outcome == "folded"
        assert numbers(page) == {"c_total": float(number)}


def test_a_directory_that_was_wiped_keeps_its_totals(tmp_path: Path) -> None:
    """A server that empties its directory at its start does not let the totals of all fall."""
    make(tmp_path / "a", {"counter_1.db": [counter("c", 1)]})
    make(tmp_path / "b", {"counter_1.db": [counter("c", 2)]})
    page = mpmetrics.Page([tmp_path / "a", tmp_path / "b"])
    assert numbers(page) == {"c_total": 3.0}
    (tmp_path / "b" / "counter_1.db").unlink()
    assert numbers(page) == {"c_total": 3.0}
    write(tmp_path / "b" / "counter_7.db", [counter("c", 4)], size=0)
    assert numbers(page) == {"c_total": 7.0}


def test_a_container_with_another_name_counts_once(tmp_path: Path) -> None:
    """A directory that is renamed, or whose link is removed, is the same one."""
    make(tmp_path / "a", {"counter_1.db": [counter("c", 1)]})
    make(tmp_path / "b", {"counter_1.db": [counter("c", 2)]})
    (tmp_path / "a-link").symlink_to(tmp_path / "b")
    page = mpmetrics.Page([mpmetrics.SubdirectoriesSource(tmp_path)])
    assert numbers(page) == {"c_total": 3.0}
    (tmp_path / "a-link").unlink()
    assert numbers(page) == {"c_total": 3.0}
    (tmp_path / "b").rename(tmp_path / "c")
    assert numbers(page) == {"c_total": 3.0}


def test_a_directory_that_was_wiped_and_compacted_keeps_its_totals(tmp_path: Path) -> None:
    """A new generation of archives does not hide that the files before it were removed."""
    make(tmp_path / "a", {"counter_1.db": [counter("c", 1)]})
    make(tmp_path / "b", {"counter_1.db": [counter("c", 20)], "counter_2.db": [counter("d", 1)]})
    page = mpmetrics.Page([tmp_path / "a", tmp_path / "b"])
    assert numbers(page) == {"c_total": 21.0, "d_total": 1.0}
    for each in (tmp_path / "b").iterdir():
        each.unlink()
    write(tmp_path / "b" / "counter_7.db", [counter("c", 4)], size=0)
    assert mpmetrics.compact(tmp_path / "b").outcome == "folded"
    for _ in range(2):
        assert numbers(page) == {"c_total": 25.0, "d_total": 1.0}


def test_a_compaction_of_all_files_is_no_loss(tmp_path: Path) -> None:
    """Archives that add up the files count once, though bounds are spelled in another way there."""
    make(tmp_path / "a", {})
    files = {
        f"histogram_{pid}.db": histogram("h", {bound: 1, "+Inf": 2}, 0.1)
        for pid, bound in enumerate(["1", "1.0", "1e0"])
    }
    make(tmp_path / "b", {**files, "counter_1.db": [counter("c", 0.1)] * 3})
    page = mpmetrics.Page([tmp_path / "a", tmp_path / "b"], exclude="mpmetrics_")
    before = page.render()
    assert mpmetrics.compact(tmp_path / "b").outcome == "folded"
    assert page.render() == before


def test_all_of_many_directories_may_come_back(tmp_path: Path) -> None:
    """A file system that is away for a while lets no total fall, and none rise."""
    parent, away = tmp_path / "parent", tmp_path / "away"
    parent.mkdir()
    page = mpmetrics.Page([mpmetrics.SubdirectoriesSource(parent)])
    for number in range(100):
        make(parent / str(number), {"counter_1.db": [counter("c", 1)]})
    assert numbers(page) == {"c_total": 100.0}
    for _ in range(2):
        parent.rename(away)
        assert numbers(page) == {"c_total": 100.0}
        away.rename(parent)
        assert numbers(page) == {"c_total": 100.0}


def test_a_directory_comes_back_in_the_place_of_another(tmp_path: Path) -> None:
    """It counts once, though another one had its name while it was away."""
    parent, away = tmp_path / "parent", tmp_path / "away"
    parent.mkdir()
    make(parent / "a", container(1, 1))
    page = mpmetrics.Page([mpmetrics.SubdirectoriesSource(parent)], include="c")
    assert numbers(page) == {"c_total": 1.0}
    (parent / "a").rename(away)
    make(parent / "a", container(10, 10))
    assert numbers(page) == {"c_total": 11.0}
    (parent / "a").rename(tmp_path / "other")
    away.rename(parent / "a")
    for _ in range(2):
        assert numbers(page) == {"c_total": 11.0}


def test_a_directory_that_was_emptied_while_it_was_away_adds_up(tmp_path: Path) -> None:
    """What it held before stays, beside what it holds when it is back."""
    parent, away = tmp_path / "parent", tmp_path / "away"
    parent.mkdir()
    make(parent / "a", container(5, 5))
    page = mpmetrics.Page([mpmetrics.SubdirectoriesSource(parent)], include="c")
    assert numbers(page) == {"c_total": 5.0}
    (parent / "a").rename(away)
    assert numbers(page) == {"c_total": 5.0}
    for each in away.iterdir():
        each.unlink()
    write(away / "counter_9.db", [counter("c", 2)], size=0)
    mpmetrics.compact(away)
    away.rename(parent / "a")
    for _ in range(2):
        assert numbers(page) == {"c_total": 7.0}


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs users")
@pytest.mark.parametrize("is_compacted", [False, True])
@pytest.mark.parametrize(("closed", "opened"), [(0o644, 0o755), (0, 0o644)])
def test_a_directory_whose_files_cannot_be_opened_for_a_while_counts_once(
    closed: int, opened: int, *, is_compacted: bool
) -> None:
    """It is listed meanwhile, but not emptied: its totals stay, and are taken back afterwards."""
    base = "/tmp"  # noqa: S108 - every user may look into it, unlike into pytest's own
    with tempfile.TemporaryDirectory(dir=base) as directory:
        Path(directory).chmod(0o755)
        seen = read_while_closed(Path(directory), closed, opened, is_compacted=is_compacted)
    assert seen == [{"c_total": 101.0}] * 10


def read_while_closed(
    parent: Path, closed: int, opened: int, *, is_compacted: bool
) -> list[dict[str, float]]:
    """Return what a page of two directories shows while one of them is closed and opened."""
    make(parent / "a", {"counter_1.db": [counter("c", 1)]})
    place = make(parent / "b", {"counter_1.db": [counter("c", 100)]})
    if is_compacted:
        mpmetrics.compact(place)
    targets = [place] if closed else list(place.glob("*.db"))
    page = mpmetrics.Page([mpmetrics.SubdirectoriesSource(parent)], include="c")
    seen = []
    with ordinary_user():
        for _ in range(2):
            seen.append(numbers(page))
            for each in targets:
                chmod_as_owner(each, closed)
            seen += [numbers(page), numbers(page)]
            for each in targets:
                chmod_as_owner(each, opened)
            seen += [numbers(page), numbers(page)]
    return seen


def test_what_remains_of_many_is_one_part(tmp_path: Path) -> None:
    """A scrape takes no longer because of directories that have gone."""
    page = mpmetrics.Page([mpmetrics.SubdirectoriesSource(tmp_path)])
    for number in range(5):
        make(tmp_path / str(number), container(1, 1))
    numbers(page)
    for number in range(5):
        shutil.rmtree(tmp_path / str(number))
    assert numbers(page)["c_total"] == 5.0
    assert len(page._gathering._directories._remains.update([])) == 1


def test_totals_that_stay_are_exact(tmp_path: Path) -> None:
    """A sum of what was folded in memory equals that of all values, to the last digit."""
    values = [0.1 + number / 7 for number in range(12)]
    parent, whole = tmp_path / "parent", make(tmp_path / "whole", {})
    parent.mkdir()
    page = mpmetrics.Page([mpmetrics.SubdirectoriesSource(parent)])
    for number, value in enumerate(values):
        write(whole / f"counter_{number}.db", [counter("c", value)], size=0)
        path = make(parent / "same", {"counter_1.db": [counter("c", value)]})
        (path / f"extra-{number}").touch()
        expected = numbers(mpmetrics.Page(whole))
        assert numbers(page) == expected
        shutil.rmtree(path)
        assert numbers(page) == expected


def test_a_page_of_one_directory_forgets(tmp_path: Path) -> None:
    """Where nothing is added up, a directory that fails has no metrics, as before."""
    make(tmp_path / "a", {"counter_1.db": [counter("c", 1)]})
    page = mpmetrics.Page(tmp_path / "a")
    assert numbers(page) == {"c_total": 1.0}
    shutil.rmtree(tmp_path / "a")
    assert numbers(page) == {}


def test_nothing_remains_of_nothing() -> None:
    """Without directories there are no parts."""
    parts: Sequence[object] = Remains().update([])
    assert parts == []


def test_real_containers_come_and_go(tmp_path: Path) -> None:
    """Each worker has a sub-directory of its own, one is killed, and its directory removed."""
    for name in ("web-1", "web-2"):
        (tmp_path / name).mkdir()
    page = mpmetrics.Page([mpmetrics.SubdirectoriesSource(tmp_path)], include=("jobs", "busy"))
    define = "jobs = Counter('jobs', ''); busy = Gauge('busy', '', multiprocess_mode='livesum')"
    with Worker(tmp_path / "web-1") as first:
        first.do(define)
        first.do("jobs.inc(2); busy.set(2)")
        with Worker(tmp_path / "web-2") as second:
            second.do(define)
            second.do("jobs.inc(5); busy.set(5)")
            assert numbers(page) == {"jobs_total": 7.0, "busy": 7.0}
        shutil.rmtree(tmp_path / "web-2")
        assert numbers(page) == {"jobs_total": 7.0, "busy": 2.0}
        (tmp_path / "web-3").mkdir()
        with Worker(tmp_path / "web-3") as third:
            third.do(define)
            third.do("jobs.inc(11); busy.set(1)")
            first.do("jobs.inc()")
            assert numbers(page) == {"jobs_total": 19.0, "busy": 3.0}
    assert sorted(os.listdir(tmp_path)) == ["web-1", "web-3"]
