"""Collect a directory twice, with prometheus_client's collector and with ours.

Run as ``reader.py DIRECTORY`` under any supported version of prometheus_client; prints a JSON
object with both results.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families

import mpmetrics

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import Metric


def plain(families: Iterable[Metric]) -> dict[str, Any]:
    """Return *families* as JSON; samples are sorted, and floats have all digits."""
    return {
        family.name: {
            "type": family.type,
            "help": family.documentation,
            "unit": family.unit,
            "samples": sorted(
                [sample.name, sorted(sample.labels.items()), repr(sample.value), sample.timestamp]
                for sample in family.samples
            ),
        }
        for family in families
    }


def view(registry: CollectorRegistry) -> dict[str, Any]:
    """Return the families of a *registry*, and its pages as prometheus_client writes them."""
    text = generate_latest(registry).decode()
    return {
        "families": plain(registry.collect()),
        "text": sorted(text.split("\n")),
        "openmetrics": sorted(generate_openmetrics(registry).decode().split("\n")),
        "parsed": plain(text_string_to_metric_families(text)),
    }


def main(directory: str) -> None:
    """Print both views of *directory*, and ours without a registry."""
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    MultiProcessCollector(theirs, directory)
    mpmetrics.MultiProcessCollector(ours, directory)
    collection = mpmetrics.collect(directory)
    text = collection.render().decode()
    result = {
        "theirs": view(theirs),
        "ours": view(ours),
        "rendered": {
            "families": plain(collection.families),
            "text": sorted(text.split("\n")),
            "openmetrics": sorted(collection.render(openmetrics=True).decode().split("\n")),
            "parsed": plain(text_string_to_metric_families(text)),
        },
        "problems": collection.problems,
    }
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
