"""How long a page may take, by what the client says."""

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
    """Half a second earlier, so that there is time to send it."""
    assert time_limit(header) == seconds


@pytest.mark.parametrize(
    "header", [None, "", "0", "-1", "0.001", "nan", "-inf", "ten", "1s", "10, 5"]
)
def test_what_is_no_sensible_time_is_passed_over(header: str | None) -> None:
    """It must not make the page useless for those who share it."""
    assert time_limit(header) is None
