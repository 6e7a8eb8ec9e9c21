"""The limit of the log: how many lines, how long, and what they say."""

from __future__ import annotations

import ast
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import mpmetrics
from mpmetrics._log_limit import (
    ALL_LINES,
    KINDS,
    LENGTH,
    LINES,
    SECONDS,
    LogLimit,
    get_log,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

MORE = "more of this kind are counted, not shown, for a minute"


class ManualClock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        """Start at an arbitrary time."""
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class Lines(logging.Handler):
    """A handler that keeps the messages of the records that it gets."""

    def __init__(self) -> None:
        """Start without lines."""
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message, formatted as an application would do it."""
        self.lines.append(self.format(record))


@pytest.fixture
def clock() -> ManualClock:
    """Return a clock that stands still."""
    return ManualClock()


@pytest.fixture
def limit(clock: ManualClock) -> LogLimit:
    """Return a limit of its own."""
    return LogLimit(clock=clock)


@pytest.fixture
def lines(limit: LogLimit) -> Iterator[list[str]]:
    """Yield the lines of the logger `limited`, which has the limit."""
    handler, log = Lines(), logging.getLogger("limited")
    log.addHandler(handler)
    log.addFilter(limit)
    log.propagate = False
    yield handler.lines
    log.removeHandler(handler)
    log.removeFilter(limit)


log = logging.getLogger("limited")


def flood(count: int) -> None:
    """Log *count* lines of one kind."""
    for number in range(count):
        log.warning("line %d", number)


def test_few_lines_of_a_kind_in_a_minute(lines: list[str], clock: ManualClock) -> None:
    """Of a thousand lines ten are written, the tenth says so, and the next minute the number."""
    flood(1000)
    assert lines == [*(f"line {number}" for number in range(LINES - 1)), f"line 9 ({MORE})"]
    lines.clear()
    clock.now += SECONDS
    flood(1)
    assert lines == ["… and 990 more like this: line 9", "line 0"]


def test_the_end_of_a_process_has_the_number_of_lines_left_out(
    lines: list[str], limit: LogLimit
) -> None:
    """What was left out is reported at the end, once."""
    flood(12)
    limit.flush()
    limit.flush()
    assert lines[LINES:] == ["… and 2 more like this: line 9"]


def test_a_flood_does_not_hide_another_kind(lines: list[str]) -> None:
    """Another line of the code, or another kind in the record, has lines of its own."""
    flood(1000)
    log.warning("something else")
    for kind in ("damaged", "leased"):
        for _ in range(LINES):
            log.warning("a problem", extra={"kind": kind})
    assert lines[LINES] == "something else"
    assert len(lines) == LINES + 1 + 2 * LINES


def test_lines_of_all_kinds_are_limited_together(lines: list[str]) -> None:
    """Any number of kinds gives a limited number of lines."""
    for number in range(10 * KINDS):
        log.warning("a problem", extra={"kind": number})
    assert len(lines) == ALL_LINES


def test_kinds_take_limited_memory(limit: LogLimit, lines: list[str], clock: ManualClock) -> None:
    """Of any number of kinds the limit remembers some, until their minute has ended."""
    for number in range(100 * KINDS):
        log.warning("a problem", extra={"kind": number})
    assert len(limit._windows) <= KINDS + 1
    clock.now += SECONDS
    flood(1)
    assert len(limit._windows) == 1
    assert lines[-1] == "line 0"


@pytest.mark.parametrize(
    "text",
    ["a" * 1_000_000, "\n" * LENGTH, "\x1b[2J\r" * 1000, "\udc80" * LENGTH, "ü\u202e" * LENGTH],
    ids=["long", "line-breaks", "terminal-codes", "surrogates", "direction"],
)
def test_a_record_is_one_short_line(text: str, lines: list[str]) -> None:
    """Whatever a text is made of, its line is short and printable, with its beginning and end."""
    log.warning("begin %s end", text)
    (line,) = lines
    assert len(line) <= LENGTH
    assert line.isprintable()
    assert line.startswith("begin ")
    assert line.endswith(" end")


def test_the_last_line_of_a_minute_is_short_too(lines: list[str]) -> None:
    """The note that more lines follow is within the length."""
    for _ in range(LINES):
        log.warning("a" * 10 * LENGTH)
    assert [len(line) for line in lines] == [LENGTH] * LINES


def recurse() -> None:
    """Never return."""
    recurse()


def test_an_exception_has_no_traceback(lines: list[str]) -> None:
    """An exception is part of the line, with the innermost calls, however deep it was raised."""
    try:
        recurse()
    except RecursionError:
        log.exception("it failed", stack_info=True)
    (line,) = lines
    assert line.startswith("it failed: RecursionError: maximum recursion depth exceeded")
    assert line.count("test_log_limit.py:") == 3


class SilentError(Exception):
    """An exception without a text."""

    def __str__(self) -> str:
        """Fail."""
        raise ValueError


def test_what_cannot_be_formatted_does_not_raise(lines: list[str]) -> None:
    """Arguments that do not fit, and an exception that has no text, cost a text and no more."""
    log.warning("%d", "no number")
    log.warning("failed", exc_info=SilentError())
    assert lines[0].startswith("a message that cannot be formatted: TypeError (test_log_limit.py:")
    assert lines[1] == "failed: SilentError: ?"


def test_the_logger_of_the_library_has_the_limit_once() -> None:
    """Each module gets the same logger, with one filter, and without a handler or level."""
    own = get_log()
    assert own is get_log() is logging.getLogger("mpmetrics")
    assert len([each for each in own.filters if isinstance(each, LogLimit)]) == 1


def test_every_module_logs_within_the_limit() -> None:
    """No module of the library makes a logger of its own."""
    package = Path(mpmetrics.__file__).parent
    makers = [
        path.name
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "getLogger"
    ]
    assert makers == ["_log_limit.py"] * 2
