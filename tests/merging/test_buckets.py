"""The arithmetic of buckets: bounds, cumulative counts, and counts between shared bounds."""

from __future__ import annotations

import math

import pytest

from mpmetrics.merging.buckets import counts_between, cumulative, parse_bound, shared_bounds

INF = math.inf


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("0.5", 0.5),
        ("+Inf", INF),
        ("-1e3", -1000.0),
        ("NaN", None),
        ("much", None),
        ("", None),
        (None, None),
    ],
)
def test_a_bound_is_a_number_or_none(text: str | None, bound: float | None) -> None:
    """The text of `le` is a bound if it is a number other than NaN."""
    assert parse_bound(text) == bound


def test_counts_become_cumulative() -> None:
    """Each cumulative count is the sum of all counts up to its bound."""
    assert cumulative([1.0, 0.0, 2.0]) == [1.0, 1.0, 3.0]


@pytest.mark.parametrize(
    ("bounds_of_each", "shared"),
    [
        pytest.param([[1, 2, INF], [1, 2, INF]], [1, 2, INF], id="the same"),
        pytest.param([[1, 2, INF], [1, 3, INF]], [1, INF], id="one differs"),
        pytest.param([[1, INF], [2, INF]], [INF], id="all differ"),
        pytest.param([[1, 2, INF], [1]], [1, 2, INF], id="the second is incomplete"),
        pytest.param([[1, 2, INF], []], [1, 2, INF], id="the second is empty"),
        pytest.param(
            [[1, 3, INF], [1, 2]], [1, 3, INF], id="an incomplete one hides nothing above it"
        ),
        pytest.param([[1, 2]], [1, 2, INF], id="+Inf is missing"),
    ],
)
def test_bounds_at_which_every_layout_has_a_true_count_are_shared(
    bounds_of_each: list[list[float]], shared: list[float]
) -> None:
    """A bound is shared if every layout has it, or is incomplete and ends below it."""
    assert shared_bounds(bounds_of_each) == shared


def test_counts_are_added_up_between_shared_bounds() -> None:
    """The count of a bucket with a hidden bound is added to the next bound that is shown."""
    histogram = {1.0: 5.0, 2.0: 3.0, 4.0: 2.0, INF: 1.0}
    assert counts_between([2.0, INF], histogram) == [8.0, 3.0]
