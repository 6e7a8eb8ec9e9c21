"""A check of the families that a source gives."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.samples import Sample

from mpmetrics.errors import Problem
from mpmetrics.pages.source import Gathered
from mpmetrics.pages.validation import drop_invalid_families

INVALID: dict[str, tuple[Any, str]] = {
    "no family": (7, "AttributeError: 'int' object has no attribute 'type'"),
    "an unknown type": (
        GaugeMetricFamily("g", "", 1),
        "ValueError: 'g' is of no known type: 'teapot'",
    ),
    "a reserved label": (
        GaugeMetricFamily("g", "", labels=["__x"]),
        "ValueError: 'g' has a label with the name '__x'",
    ),
    "no name": (GaugeMetricFamily("g", "", 1), "ValueError: a family without a name"),
}
INVALID["an unknown type"][0].type = "teapot"
INVALID["a reserved label"][0].add_metric(["v"], 1)
INVALID["no name"][0].name = ""


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_family_is_dropped_and_reported(name: str) -> None:
    """What cannot be written is a problem of its source; the families around it stay."""
    invalid, detail = INVALID[name]
    first, last = GaugeMetricFamily("first", "", 1), GaugeMetricFamily("last", "", 1)
    before = Problem("a", "damaged", "cut")
    checked = drop_invalid_families("a", Gathered([first, invalid, last], [before]))
    assert [family.name for family in checked.families] == ["first", "last"]
    assert checked.problems == [before, Problem("a", "source_failed", detail)]


def test_families_are_written_alike() -> None:
    """Empty families go, label values become text, and a counter's samples have its suffix."""
    numbers = GaugeMetricFamily("g", "", labels=["code"])
    numbers.samples.append(Sample("g", {"code": 200}, 1.0))  # type: ignore[dict-item]
    plain = CounterMetricFamily("c", "")
    plain.samples.append(Sample("c", {}, 2.0))
    empty = GaugeMetricFamily("empty", "")
    checked = drop_invalid_families("a", Gathered([numbers, empty, plain]))
    assert [(family.name, family.samples) for family in checked.families] == [
        ("g", [Sample("g", {"code": "200"}, 1.0)]),
        ("c", [Sample("c_total", {}, 2.0)]),
    ]
    assert checked.problems == []
