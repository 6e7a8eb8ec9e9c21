"""Families as a table for people."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    SummaryMetricFamily,
)

from mpmetrics.scrape.by_process import FamilySnapshot, Snapshot
from mpmetrics_cli.table import format_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from prometheus_client import Metric


def gauge(name: str, values: Mapping[str, float], help_text: str = "") -> Metric:
    """Return a gauge with a value for each value of the label `l`."""
    family = GaugeMetricFamily(name, help_text, labels=["l"])
    for value, number in values.items():
        family.add_metric([value], number)
    return family


def histogram(buckets: Sequence[tuple[str, float]], total: float | None, name: str = "h") -> Metric:
    """Return a histogram with one child, without labels."""
    family = HistogramMetricFamily(name, "")
    family.add_metric([], buckets, total)
    if total is None:
        family.add_sample(f"{name}_count", {}, buckets[-1][1])
    return family


def table(*families: Metric, **labels: str) -> str:
    """Return the table of merged *families*, with added *labels*."""
    snapshots = [FamilySnapshot(family, {}) for family in families]
    return format_table(Snapshot(snapshots, [], tuple(labels.items())))


def test_a_table_without_families_is_empty() -> None:
    """Without families the table is empty."""
    assert table() == ""


def test_families_are_set_apart() -> None:
    """Each family has a line of name, type and help; an empty line separates families."""
    one = GaugeMetricFamily("one", "What it is.\nIn two lines.", value=1)
    two = CounterMetricFamily("two", "", value=1e6)
    assert table(one, two) == (
        "one (gauge)  What it is.\\nIn two lines.\n    1\n\ntwo (counter)\n    1,000,000\n"
    )


def test_titles_stand_left_and_numbers_right() -> None:
    """Columns are aligned as a terminal shows them: wide characters take two places."""
    family = gauge("g", {"a": 1, "漢字": 22.5, "u\u0308": -333, "long " * 9: 4})
    assert table(family) == (
        "g (gauge)\n"
        f'  l="a"{" " * 46}   1\n'
        f'  l="漢字"{" " * 43}22.5\n'
        f'  l="u\u0308"{" " * 46}-333\n'
        f'  l="{"long " * 9}"     4\n'
    )


def test_nan_and_infinities() -> None:
    """NaN and infinities are spelt as on the page, without a unit."""
    numbers = {"nan": math.nan, "+inf": math.inf, "-inf": -math.inf, "none": 0.0}
    assert table(gauge("wait_seconds", numbers)) == (
        "wait_seconds (gauge)\n"
        '  l="nan"    NaN\n'
        '  l="+inf"  +Inf\n'
        '  l="-inf"  -Inf\n'
        '  l="none"   0 s\n'
    )


def test_labels_are_one_line_and_cannot_be_mistaken() -> None:
    """Quotes, backslashes and unprintable characters in labels are escaped, so that rows differ."""
    family = gauge("g", {"a\nb": 1, "a\\nb": 2, 'a" b="': 3, "\x1b[2J": 4})
    assert table(family) == (
        "g (gauge)\n"
        '  l="a\\nb"      1\n'
        '  l="a\\\\nb"     2\n'
        '  l="a\\" b=\\""  3\n'
        '  l="\\x1b[2J"   4\n'
    )


def test_labels_are_sorted_and_those_of_a_series_win() -> None:
    """Labels are sorted; a label of the series beats an added one of the same name."""
    assert table(gauge("g", {"own": 1}), z="z", l="added", a="a") == (
        'g (gauge)\n  a="a" l="own" z="z"  1\n'
    )


@pytest.mark.parametrize(
    ("family", "cells"),
    [
        pytest.param(
            histogram([("0.1", 50), ("0.5", 90), ("+Inf", 100)], 25.0, "h_seconds"),
            ["100", "250 ms", "100 ms", "500 ms", ">500 ms"],
            id="seconds",
        ),
        pytest.param(
            histogram([("1024.0", 0), ("4096.0", 1000), ("+Inf", 1000)], 2_048_000.0, "h_bytes"),
            ["1,000", "2 KiB", "2.5 KiB", "3.7 KiB", "3.97 KiB"],
            id="bytes",
        ),
        pytest.param(
            histogram([("1.0", 0), ("+Inf", 0)], 0.0), ["0", "-", "-", "-", "-"], id="empty"
        ),
        pytest.param(
            histogram([("+Inf", 4)], 8.0), ["4", "2", "-", "-", "-"], id="only-one-bucket"
        ),
        pytest.param(
            histogram([("-1.0", 1), ("1.0", 4), ("+Inf", 4)], None),
            ["4", "-", "-0.333333", "0.733333", "0.973333"],
            id="no-sum",
        ),
        pytest.param(
            histogram([("-1.0", 0), ("+Inf", 2)], None), ["2", "-", *[">-1"] * 3], id="all-above"
        ),
    ],
)
def test_histograms_in_five_numbers(family: Metric, cells: list[str]) -> None:
    """A histogram is shown as count, mean and three quantiles; an unknown number is a dash."""
    title, heads, row = table(family).splitlines()
    assert title == f"{family.name} (histogram)"
    assert heads.split() == ["count", "mean", "p50", "p90", "p99"]
    assert [cell.strip() for cell in row.split("  ") if cell.strip()] == cells


def test_summaries_in_two_numbers() -> None:
    """A summary is shown as count and mean."""
    assert table(SummaryMetricFamily("s_seconds", "", count_value=4, sum_value=0.01)) == (
        "s_seconds (summary)\n    count    mean\n        4  2.5 ms\n"
    )


def test_processes_stand_below_the_merged_row() -> None:
    """Rows of processes stand below the merged row of their series."""
    first, second = gauge("g", {"a": 1, "b": 2}), gauge("g", {"b": 3, "newer": 9})
    view = FamilySnapshot(gauge("g", {"a": 1, "b": 5}), {"7": first, "a\nb": second})
    assert format_table(Snapshot([view], [], (("host", "x"),))) == (
        "g (gauge)\n"
        '  host="x" l="a"  1\n'
        "    process 7     1\n"
        '  host="x" l="b"  5\n'
        "    process 7     2\n"
        "    process a\\nb  3\n"
    )
