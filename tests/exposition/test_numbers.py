"""Values as the text of a page, and the lines that end with them."""

from __future__ import annotations

import math

import pytest
from prometheus_client.utils import floatToGoString

from mpmetrics.exposition import format_lines, format_value


@pytest.mark.parametrize(
    "value",
    [
        *(0.0, -0.0, 1.0, -1.0, 0.1, 1e-5, 1e-300, 5e-324, 123456.0, 999999.9999),
        *(1e6, 1000000.5, 1234567.0, 1e7, 12345678.9, 1e15, 1e16, 1.5e16, 1e22, 1e300),
        *(-1e6, -1e17, math.inf, -math.inf, math.nan),
    ],
)
def test_numbers_are_written_as_prometheus_writes_them(value: float) -> None:
    """Every number is written as prometheus_client's own function writes it."""
    assert format_value(value) == floatToGoString(value)


def test_only_lines_with_another_value_are_formatted() -> None:
    """A line whose value is the same is the old line, except for zero, which has a sign."""
    values = [1.0, 2.0, -0.0, math.nan, 2e6]
    prefixes = ["a ", "b ", "c ", "d ", "e "]
    old = ["A", "B", "C", "D", "E"]
    lines = format_lines(prefixes, values, [1.0, 3.0, 0.0, math.nan, 1.0], old)
    assert lines == ["A", "b 2.0\n", "c -0.0\n", "d NaN\n", "e 2e+06\n"]
