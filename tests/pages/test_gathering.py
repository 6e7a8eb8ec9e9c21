"""Sources that are asked together."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest
from prometheus_client.core import GaugeMetricFamily

from mpmetrics.errors import Problem
from mpmetrics.pages.gathering import Gathering
from mpmetrics.pages.source import Gathered
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
