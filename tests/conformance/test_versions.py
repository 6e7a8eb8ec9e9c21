"""The library works the same under the oldest supported prometheus_client and the newest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.conftest import CLIENTS
from tests.workers import Worker, environment, run_python

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PROGRAM = """
import json
import sys

import mpmetrics
from prometheus_client import (
    REGISTRY, CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, generate_latest
)

registry = CollectorRegistry()
Info("build", "Build.", registry=registry).info({"version": "1"})
Enum("state", "State.", states=["on", "off"], registry=registry).state("off")
Gauge("own", "Own.", registry=registry).set(1)
text = "# TYPE told gauge\\ntold 7\\n"
page = mpmetrics.Page(
    [sys.argv[1], registry, lambda: text, lambda: f"{text.replace('told', 'other')}# EOF\\n"],
    exclude="mpmetrics_",
    labels={"zone": "x"},
)

shared = mpmetrics.register(CollectorRegistry(), sys.argv[1])
isolated_from = CollectorRegistry()
Counter("vllm:requests", "", registry=isolated_from)
isolated = mpmetrics.register(isolated_from, sys.argv[1])


def samples(families):
    return sorted([sample.name, sorted(sample.labels.items()), sample.value]
                  for family in families for sample in family.samples)


print(json.dumps({
    "text": page.render().decode(),
    "openmetrics": page.render(openmetrics=True).decode(),
    "families": samples(page.families()),
    "modes": [shared.mode, isolated.mode],
    "shared": samples(shared.registry.collect()),
    "isolated": samples(isolated.registry.collect()),
    "served": generate_latest(isolated.registry).decode().splitlines()[-1],
}))
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory that a worker wrote."""
    with Worker(tmp_path) as worker:
        worker.do("Counter('vllm:requests', 'Requests.', ['model']).labels('ä').inc(2)")
        worker.do("Histogram('latency', '', buckets=(1, 2)).observe(1)")
        worker.do("Gauge('busy', '', multiprocess_mode='mostrecent').set(1)")
    return tmp_path


def run_under(client: Path | None, directory: Path) -> dict[str, Any]:
    """Run the program under a version of prometheus_client; return what it prints."""
    output = run_python(PROGRAM, str(directory), env=environment(None, client=client))
    seen: dict[str, Any] = json.loads(output)
    return seen


def test_versions_make_no_difference(clients: Mapping[str, Path | None], directory: Path) -> None:
    """Pages, registrations and families are the same under both versions."""
    oldest, newest = (run_under(clients[name], directory) for name in CLIENTS)
    assert oldest == newest
    assert newest["modes"] == ["shared", "isolated"]
    assert newest["shared"] == newest["isolated"]
    assert newest["text"].count("\n# TYPE ") == 8
    assert newest["openmetrics"].endswith("\n# EOF\n")


def test_the_versions_are_different_ones(clients: Mapping[str, Path | None]) -> None:
    """The version called the oldest is 0.18, and the newest is another one."""
    program = "from importlib.metadata import version; print(version('prometheus_client'))"
    found = [run_python(program, env=environment(None, client=clients[name])) for name in CLIENTS]
    assert found[0].startswith("0.18")
    assert found[0] != found[1]
