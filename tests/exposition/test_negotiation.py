"""The time limit of a page follows from the header of the client."""

from __future__ import annotations

import pytest

from mpmetrics.exposition.negotiation import time_limit


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("10", 9.5),
        ("10.000000", 9.5),
        ("1", 0.5),
        ("1e1", 9.5),
        ("inf", float("inf")),
        (" 3 ", 2.5),
    ],
)
def test_the_page_is_there_before_the_client_gives_up(header: str, seconds: float) -> None:
    """The limit is half a second shorter than the client's, which is the time to send the page."""
    assert time_limit(header) == seconds


@pytest.mark.parametrize(
    "header", [None, "", "0", "-1", "0.001", "nan", "-inf", "ten", "1s", "10, 5"]
)
def test_a_time_limit_that_is_not_sensible_is_ignored(header: str | None) -> None:
    """A limit below a second, or that is no number, is none: other clients share the page."""
    assert time_limit(header) is None
