"""Sources with a time limit."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mpmetrics import Page
from mpmetrics.errors import Problem
from mpmetrics.exposition import Format
from mpmetrics.pages.source import Gathered
from mpmetrics.pages.text_source import TextSource
from mpmetrics.pages.timed_source import Answer, TimedSource
from tests.workers import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Slow:
    """A text callback that blocks while `free` is not set."""

    def __init__(self) -> None:
        """Block no call yet."""
        self.calls = 0
        self.begun = threading.Event()
        self.free = threading.Event()
        self.free.set()

    def __call__(self) -> str:
        """Return the number of the call."""
        self.calls += 1
        number = self.calls
        self.begun.set()
        assert self.free.wait(PATIENCE)
        if number == 99:
            raise OSError
        return f"slow {number}\n"


@pytest.fixture
def slow() -> Iterator[Slow]:
    """Return a callback whose calls all return when the test is over."""
    source = Slow()
    yield source
    source.free.set()


def values(page: Page) -> dict[str, float]:
    """Return the samples of a page, by name and label values."""
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(page.render().decode())
        for sample in family.samples
    }


class Ending(BaseException):
    """An exception that no `except Exception` catches, as `SystemExit` or a panic in Rust."""


def test_a_source_that_ends_its_thread_is_asked_again() -> None:
    """A source that ends its thread has failed at once, and is called again at the next scrape."""
    answers = iter([Ending("over"), None])

    def ending() -> str:
        if error := next(answers):
            raise error
        return "back 1\n"

    page = Page([ending], timeout=PATIENCE)
    assert values(page)["mpmetrics_source_up ending"] == 0
    assert values(page)["back"] == 1


def test_without_a_thread_a_source_is_down_until_there_is_one() -> None:
    """A source is down as long as the process may start no thread for it."""
    refusals = iter([True, False])

    def start_thread(function: Callable[[], None]) -> None:
        if next(refusals):
            message = "can't start new thread"
            raise RuntimeError(message)
        threading.Thread(target=function).start()

    good = Gathered([], [Problem("counter_1.db", "damaged", "cut")])
    source = TimedSource("a", lambda: good, PATIENCE, start_thread=start_thread)
    answers = []
    for _ in range(2):
        source.start()
        answers.append(source.wait())
    refused = Problem("a", "source_failed", "RuntimeError: can't start new thread")
    assert answers == [Answer(Gathered((), [refused]), 0.0), Answer(good, 0.0)]


def test_a_late_source_is_served_as_it_was(slow: Slow) -> None:
    """The page has what a late source gave last, and its age, until the source answers again."""
    page = Page([TextSource(slow, "slow"), TextSource(lambda: "quick 1\n", "quick")], timeout=0.05)
    first = values(page)
    assert (first["slow"], first["mpmetrics_source_up slow"]) == (1.0, 1.0)
    assert first["mpmetrics_source_age_seconds slow"] == 0.0
    slow.free.clear()
    for _ in range(3):
        late = values(page)
        assert (late["slow"], late["mpmetrics_source_up slow"]) == (1.0, 0.0)
        assert late["mpmetrics_source_age_seconds slow"] >= 0.05
        assert (late["quick"], late["mpmetrics_source_up quick"]) == (1.0, 1.0)
        assert late["mpmetrics_source_age_seconds quick"] == 0.0
    assert late["mpmetrics_problems_total source_late"] == 1.0
    # It was asked once more, and is not asked again before it has answered.
    assert slow.calls == 2
    slow.free.set()
    back = page_until(page, 3.0)
    assert (back["mpmetrics_source_up slow"], back["mpmetrics_source_age_seconds slow"]) == (1, 0)


def page_until(page: Page, value: float) -> dict[str, float]:
    """Scrape until the slow source has a value."""
    while (now := values(page))["slow"] != value:
        assert now["slow"] < value
    return now


def test_a_source_that_was_never_there_in_time(slow: Slow) -> None:
    """A source that has never answered in time has failed, and has no age."""
    slow.free.clear()
    page = Page([TextSource(slow, "slow")], timeout=0.05)
    now = values(page)
    assert now["mpmetrics_source_up slow"] == 0.0
    assert "slow" not in now
    assert "mpmetrics_source_age_seconds slow" not in now
    assert now["mpmetrics_problems_total source_failed"] == 1.0


def test_lateness_is_one_problem_for_all_clients(slow: Slow) -> None:
    """A late source is one problem, however long each client waits for it."""
    page = Page([TextSource(slow, "slow")], timeout=PATIENCE)
    values(page)
    slow.free.clear()
    for seconds in (0.01, 0.02, 0.03):
        page.write(Format(), within=seconds)
    text = page.write(Format(), within=0.01).decode()
    assert 'mpmetrics_problems_total{reason="source_late"} 1.0\n' in text


def test_a_source_that_hangs_costs_one_thread(slow: Slow) -> None:
    """A source that hangs holds one thread, however often the page is scraped."""
    slow.free.clear()
    page = Page([TextSource(slow, "slow")], timeout=0.01)
    values(page)
    before = threading.active_count()
    for _ in range(10):
        values(page)
    assert threading.active_count() == before


def test_a_source_that_fails_is_not_served_as_it_was() -> None:
    """The page of a failed source does not have the families that it gave before."""
    answers = iter(["it 1\n", "not a page", "it 3\n"])
    page = Page([TextSource(lambda: next(answers), "it")], timeout=PATIENCE)
    assert values(page)["it"] == 1.0
    failed = values(page)
    assert "it" not in failed
    assert failed["mpmetrics_source_up it"] == 0.0
    assert values(page)["it"] == 3.0


def test_sources_are_called_at_once() -> None:
    """A page calls all its sources at once: two that wait for each other both answer."""
    together = threading.Barrier(2, timeout=PATIENCE)

    def one() -> str:
        together.wait()
        return "one 1\n"

    def two() -> str:
        together.wait()
        return "two 1\n"

    page = values(Page([one, two], timeout=PATIENCE))
    assert (page["one"], page["two"]) == (1.0, 1.0)


def test_without_a_timeout_there_is_no_age() -> None:
    """A page without a timeout reports no ages."""
    assert "mpmetrics_source_age_seconds text" not in values(Page([TextSource(lambda: "a 1\n")]))
