"""Problems over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpmetrics._problem_log import ProblemLog
from mpmetrics.errors import Problem

if TYPE_CHECKING:
    import pytest

DAMAGED = Problem("counter_1.db", "damaged", "cut")
STRANGE = Problem("backup.db", "stranger", "no name\nof ours")


def test_a_problem_is_logged_and_counted_once_for_as_long_as_it_lasts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A problem is logged in one line and counted once, and again when it had been gone."""
    log = ProblemLog()
    for problems in ([DAMAGED], [STRANGE, DAMAGED, STRANGE], [DAMAGED], [], [DAMAGED]):
        log.report(problems)
    assert log.counts() == {"damaged": 2, "stranger": 1}
    assert caplog.messages == [
        "counter_1.db: damaged: cut",
        "backup.db: stranger: no name\\nof ours",
        "counter_1.db: damaged: cut",
    ]


def test_numbers_in_the_message_of_an_exception_are_no_other_cause(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A failure whose message differs in a time or an address only is the same problem."""
    log = ProblemLog()
    for text in ("<a at 0x7f12> at 12:01", "<a at 0x7f99> at 12:06", "<b at 0x7f99> at 12:06"):
        log.report([Problem("registry", "source_failed", f"ValueError: {text}")])
    assert log.counts() == {"source_failed": 2}
    assert caplog.messages == [
        "registry: source_failed: ValueError: <a at 0x7f12> at 12:01",
        "registry: source_failed: ValueError: <b at 0x7f99> at 12:06",
    ]
