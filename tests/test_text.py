"""Names and numbers are written for people to read."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mpmetrics._text import (
    format_bytes,
    format_count,
    format_duration,
    format_of,
    format_ratio,
    one_line,
    plural,
    width,
)


@given(st.text())
@example("a\nb\r\x1b[2J\x00\u2028\u202e\udcff\x85\U000e0001")
def test_one_line_is_one_line(text: str) -> None:
    """A line has nothing that breaks it, moves a cursor or cannot be encoded."""
    shown = one_line(text)
    assert shown.isprintable()
    assert shown.encode().decode() == shown
    assert one_line(shown) == shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("ünï 漢 \\n", "ünï 漢 \\n"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x1b[2J\udcff\u2028", "\\x1b[2J\\udcff\\u2028"),
    ],
)
def test_one_line_keeps_printable_characters(text: str, expected: str) -> None:
    """Letters of any script stay; all else has the escape of a Python string."""
    assert one_line(text) == expected


@pytest.mark.parametrize(
    ("text", "columns"),
    [("", 0), ("abc", 3), ("ünï", 3), ("u\u0308", 1), ("漢字", 4), ("\uff21", 2)],
)
def test_width_counts_columns(text: str, columns: int) -> None:
    """A wide character takes two columns of a terminal, a combining one none."""
    assert width(text) == columns


def test_a_noun_has_the_ending_of_its_count() -> None:
    """A noun has an ending unless the count is one; large counts have separators."""
    assert [plural(count, "file") for count in (0, 1, 2, 1234)] == [
        *("0 files", "1 file", "2 files", "1,234 files")
    ]
    assert [plural(count, "process", "es") for count in (1, 2)] == ["1 process", "2 processes"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((0.0, "0"), (1.0, "1"), (1e3, "1,000"), (123_456.0, "123,456"), (1e6, "1,000,000")),
        *((999_999_999_999_999.0, "999,999,999,999,999"), (1e15, "1e+15"), (1e300, "1e+300")),
        *((0.5, "0.5"), (2 / 3, "0.666667"), (1234.5678, "1,234.57"), (1234567.8, "1,234,568")),
        *((999_999.9, "1,000,000"), (1e-9, "1e-09"), (-1234.5, "-1,234.5")),
        *((math.nan, "NaN"), (math.inf, "+Inf"), (-math.inf, "-Inf")),
    ],
)
def test_counts(value: float, expected: str) -> None:
    """A whole number has all digits that a float keeps; any other has six."""
    assert format_count(value) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        *((0.0, "0 s"), (-0.0, "0 s"), (1.0, "1 s"), (12.345, "12.3 s"), (999.4, "999 s")),
        *((999.6, "1,000 s"), (86_400.0, "86,400 s"), (1e20, "1e+20 s")),
        *((0.9994, "999 ms"), (0.9996, "1 s"), (0.001, "1 ms"), (0.000_999_9, "1 ms")),
        *((1e-6, "1 us"), (1.5e-7, "150 ns"), (1e-9, "1 ns"), (1e-12, "0.001 ns")),
        *((-0.25, "-250 ms"), (math.nan, "NaN"), (math.inf, "+Inf"), (-math.inf, "-Inf")),
    ],
)
def test_durations(seconds: float, expected: str) -> None:
    """A duration has a unit that leaves one to three digits before the point, once rounded."""
    assert format_duration(seconds) == expected


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        *((0.0, "0 B"), (0.5, "0.5 B"), (1.0, "1 B"), (1023.0, "1,023 B"), (1023.9, "1,024 B")),
        *((1023.99, "1 KiB"), (1536.0, "1.5 KiB"), (1e6, "976.6 KiB"), (2.0**20, "1 MiB")),
        *((2.0**30, "1 GiB"), (2.0**40, "1 TiB"), (2.0**50, "1 PiB"), (2.0**60, "1 EiB")),
        *((2.0**80, "1,048,576 EiB"), (-2048.0, "-2 KiB"), (math.nan, "NaN"), (math.inf, "+Inf")),
    ],
)
def test_sizes(size: float, expected: str) -> None:
    """A size has a binary unit."""
    assert format_bytes(size) == expected


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [(0.0, "0 %"), (0.5, "50 %"), (1 / 3, "33.33 %"), (12.5, "1,250 %"), (math.nan, "NaN")],
)
def test_ratios(ratio: float, expected: str) -> None:
    """A ratio is written in percent."""
    assert format_ratio(ratio) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vllm:e2e_request_latency_seconds", format_duration),
        ("process_resident_memory_bytes", format_bytes),
        ("cache_usage_ratio", format_ratio),
        ("requests", format_count),
        ("seconds", format_count),
        ("bytes_sent", format_count),
    ],
)
def test_the_name_chooses_the_unit(name: str, expected: object) -> None:
    """The base unit at the end of a name chooses the format; a name without one has counts."""
    assert format_of(name) is expected
