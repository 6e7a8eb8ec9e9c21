"""Names beyond the classic character set are escaped as in prometheus_client, by every scheme."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, generate_latest, multiprocess
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

import mpmetrics
from mpmetrics.exposition import Format, render_families
from mpmetrics.exposition.escaping import ESCAPING_SCHEMES
from tests import database
from tests.database import counter, gauge, histogram, summary

if TYPE_CHECKING:
    from pathlib import Path

LABELS = {"dotted.label": "a.b", "bl ank": "ä"}

ENTRIES = {
    "counter_1.db": [
        counter("dotted.name", 1, LABELS),
        counter("bl ank", 2),
        counter("classic__name", 3, LABELS),
    ],
    "gauge_sum_1.db": [
        gauge("umlaut_ä", 1, LABELS),
        gauge("1digit", 2),
        gauge('quote"back\\slash', 3),
        gauge("🎉", 4),
        gauge("a.1.b", 5),
    ],
    "histogram_1.db": histogram("h.1", {"1.0": 1, "+Inf": 2}, 3, LABELS),
    "summary_1.db": summary("s/um", 1, 2),
}


@pytest.mark.parametrize("escaping", ESCAPING_SCHEMES)
@pytest.mark.parametrize("openmetrics", [False, True])
def test_names_are_escaped_alike(tmp_path: Path, escaping: str, *, openmetrics: bool) -> None:
    """Every scheme gives the same lines as prometheus_client's own, in both formats.

    There is one difference: the scheme "values" keeps a classic name. So does theirs, but not in
    the samples of OpenMetrics, which then have another name than their family.
    """
    for name, entries in ENTRIES.items():
        database.write(tmp_path / name, entries)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, str(tmp_path))
    generate = generate_openmetrics if openmetrics else generate_latest
    theirs = generate(registry, escaping=escaping).decode()
    theirs = theirs.replace("U__classic____name__total", "classic__name_total")
    families = mpmetrics.collect(tmp_path).families
    ours = render_families(families, Format(openmetrics, escaping)).decode()
    assert sorted(ours.split("\n")) == sorted(theirs.split("\n"))
