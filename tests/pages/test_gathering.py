"""Sources that are asked together, and a check of what they give."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.samples import Sample

from mpmetrics.errors import Problem
from mpmetrics.pages.gathering import Gathering, drop_invalid_families
from mpmetrics.pages.sources import Gathered
from mpmetrics.scrape import is_covered
from tests.workers import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class FakeSource:
    """A source that calls a function."""

    in_process = False

    def __init__(self, name: str, gather: Callable[[], Gathered], path: str | None = None) -> None:
        """Call *gather*; *path* is that of a directory, if the source has one."""
        self.name = name
        self.gather = gather
        self.path = path


def one(name: str) -> Gathered:
    """Return a gauge of this *name*."""
    return Gathered([GaugeMetricFamily(name, "", 1)])


@pytest.mark.parametrize("timeout", [None, PATIENCE])
def test_answers_have_the_order_of_the_sources(timeout: float | None) -> None:
    """Each source has its own answer; one that raises has a problem instead of families."""

    def fail() -> Gathered:
        message = "no"
        raise KeyError(message)

    gathering = Gathering(
        [
            FakeSource("a", lambda: one("x")),
            FakeSource("b", fail),
            FakeSource("c", lambda: one("y")),
        ],
        timeout,
    )
    gathering.start()
    answers = gathering.wait()
    names = [[family.name for family in answer.gathered.families] for answer in answers]
    assert names == [["x"], [], ["y"]]
    assert [list(answer.gathered.problems) for answer in answers] == [
        [],
        [Problem("b", "source_failed", "KeyError: 'no'")],
        [],
    ]
    ages = [answer.age for answer in answers]
    assert ages == ([None] * 3 if timeout is None else [0.0] * 3)


def test_a_wait_that_is_given_up_ends_at_once() -> None:
    """`give_up_waiting` makes the sources late that have not answered."""
    asked, release = threading.Event(), threading.Event()

    def hang() -> Gathered:
        asked.set()
        release.wait(PATIENCE)
        return one("x")

    gathering = Gathering([FakeSource("a", hang)], 3600.0)
    gathering.start()
    try:
        assert asked.wait(PATIENCE)
        gathering.give_up_waiting()
        [late] = gathering.wait()
    finally:
        release.set()
    assert [problem.reason for problem in late.gathered.problems] == ["source_failed"]


@pytest.mark.parametrize("timeout", [None, PATIENCE])
def test_directories_of_sources_are_covered_while_sources_are_called(
    tmp_path: Path, timeout: float | None
) -> None:
    """Every source sees the directories of all as covered, by any path to them; no caller does."""
    directory, link, other = tmp_path / "directory", tmp_path / "link", tmp_path / "other"
    directory.mkdir()
    link.symlink_to(directory)
    seen: list[bool] = []

    def look() -> Gathered:
        seen.extend(is_covered(os.fspath(path)) for path in (directory, link, other))
        return Gathered(())

    sources = [FakeSource("a", look), FakeSource("b", lambda: one("x"), os.fspath(link))]
    gathering = Gathering(sources, timeout)
    gathering.start()
    gathering.wait()
    assert seen == [True, True, False]
    assert not is_covered(os.fspath(directory))


INVALID: dict[str, tuple[Any, str]] = {
    "no family": (7, "AttributeError: 'int' object has no attribute 'type'"),
    "an unknown type": (
        GaugeMetricFamily("g", "", 1),
        "ValueError: 'g' is of no known type: 'teapot'",
    ),
    "a reserved label": (
        GaugeMetricFamily("g", "", labels=["__x"]),
        "ValueError: 'g' has a label with the name '__x'",
    ),
    "no name": (GaugeMetricFamily("g", "", 1), "ValueError: a family without a name"),
}
INVALID["an unknown type"][0].type = "teapot"
INVALID["a reserved label"][0].add_metric(["v"], 1)
INVALID["no name"][0].name = ""


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_family_is_dropped_and_reported(name: str) -> None:
    """What cannot be written is a problem of its source; the families around it stay."""
    invalid, detail = INVALID[name]
    first, last = GaugeMetricFamily("first", "", 1), GaugeMetricFamily("last", "", 1)
    before = Problem("a", "damaged", "cut")
    checked = drop_invalid_families("a", Gathered([first, invalid, last], [before]))
    assert [family.name for family in checked.families] == ["first", "last"]
    assert checked.problems == [before, Problem("a", "source_failed", detail)]


def test_families_are_written_alike() -> None:
    """Empty families go, label values become text, and a counter's samples have its suffix."""
    numbers = GaugeMetricFamily("g", "", labels=["code"])
    numbers.samples.append(Sample("g", {"code": 200}, 1.0))  # type: ignore[dict-item]
    plain = CounterMetricFamily("c", "")
    plain.samples.append(Sample("c", {}, 2.0))
    empty = GaugeMetricFamily("empty", "")
    checked = drop_invalid_families("a", Gathered([numbers, empty, plain]))
    assert [(family.name, family.samples) for family in checked.families] == [
        ("g", [Sample("g", {"code": "200"}, 1.0)]),
        ("c", [Sample("c_total", {}, 2.0)]),
    ]
    assert checked.problems == []
