"""The metrics of connectors in several processes, merged to one page."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

import mpmetrics
from tests.engines.connectors.fakes import page_series
from tests.workers import Worker, environment, run_python

if TYPE_CHECKING:
    from pathlib import Path

METRICS = """
from mpmetrics.engines import CONNECTOR_FAMILIES, ConnectorFamily, MultiConnectorMetrics
own = (
    ConnectorFamily("jobs", "counter", labels=("kind",)),
    ConnectorFamily("last", "gauge"),
    ConnectorFamily("top", "gauge", merge="max"),
    ConnectorFamily("open", "gauge", merge="sum"),
    ConnectorFamily("filled", "histogram", buckets=(1, 10), merge="bucketed"),
)
metrics = MultiConnectorMetrics.of(
    {"NixlConnector": CONNECTOR_FAMILIES["NixlPullConnector"], "Own": own},
    model_name="m",
    engines=(0,),
    connector_label=True,
)
"""


def page(directory: Path) -> dict[str, float]:
    """Return the series of the page of a directory."""
    collection = mpmetrics.collect(directory)
    assert not collection.problems
    return page_series(collection.render().decode())


def observe(worker: Worker, number: int) -> None:
    """Let a worker observe numbers of its own."""
    worker.do(
        f"""metrics.observe({{
            "NixlPullConnector": {{
                "transfer_duration": [{number}.5], "num_failed_handshakes": [1] * {number},
            }},
            "Own": {{
                "jobs": {{("a",): {number}}}, "last": {number}, "top": {number}, "open": {number},
                "filled": [{number}, 0, 1, {number}.5],
            }},
        }})"""
    )


def test_three_processes_on_one_page(tmp_path: Path) -> None:
    """Three processes sum counters and buckets; gauges show the newest, the largest or the sum."""
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(tmp_path)) for _ in range(3)]
        for worker in workers:
            worker.do(METRICS)
        for number, worker in zip((2, 4, 1), workers, strict=True):
            observe(worker, number)
        found = page(tmp_path)
        nixl = "connector=NixlPullConnector,engine=0,model_name=m"
        own = "connector=Own,engine=0,model_name=m"
        assert found[f"vllm:nixl_num_failed_transfers_total{{{nixl}}}"] == 7
        assert found[f"vllm:nixl_xfer_time_seconds_count{{{nixl}}}"] == 3
        assert found[f"vllm:nixl_xfer_time_seconds_sum{{{nixl}}}"] == 8.5
        assert {name: value for name, value in found.items() if "connector=Own" in name} == {
            "jobs_total{connector=Own,engine=0,kind=a,model_name=m}": 7,
            f"last{{{own}}}": 1,
            f"top{{{own}}}": 4,
            f"open{{{own}}}": 7,
            "filled_bucket{connector=Own,engine=0,le=1.0,model_name=m}": 7,
            "filled_bucket{connector=Own,engine=0,le=10.0,model_name=m}": 7,
            "filled_bucket{connector=Own,engine=0,le=+Inf,model_name=m}": 10,
            f"filled_count{{{own}}}": 10,
            f"filled_sum{{{own}}}": 8.5,
        }


@pytest.mark.skipif(sys.platform != "linux", reason="liveness is known on Linux only")
def test_a_dead_process(tmp_path: Path) -> None:
    """The counts of a dead process stay on the page, and its live gauges leave it."""
    with Worker(tmp_path) as first, Worker(tmp_path) as second:
        for number, worker in ((2, first), (4, second)):
            worker.do(METRICS)
            observe(worker, number)
        second.kill()
        mpmetrics.compact(tmp_path)
        found = page(tmp_path)
    own = "connector=Own,engine=0,model_name=m"
    assert found["jobs_total{connector=Own,engine=0,kind=a,model_name=m}"] == 6
    assert found[f"top{{{own}}}"] == 4
    assert found[f"open{{{own}}}"] == 2
    assert found[f"filled_count{{{own}}}"] == 8


def test_neither_client_nor_engine_is_imported() -> None:
    """Only making metrics imports prometheus_client; nothing imports an engine."""
    program = """
import sys
from mpmetrics import engines
names = [name for name in engines.__all__ if "onnector" in name or "hma" in name.lower()]
assert len(names) > 15
for name in names:
    getattr(engines, name)
engines.MultiConnector([]).get_kv_connector_stats()
engines.MultiConnectorStats.build({"NixlConnector": {"transfer_duration": [1]}}).reduce()
print(*{'prometheus_client', 'vllm'} & sys.modules.keys())
"""
    assert run_python(program, env=environment(None)) == "\n"


def test_registering_where_the_engine_has_registered(tmp_path: Path) -> None:
    """In multiprocess mode, too, an existing metric of the engine is used."""
    program = f"""
from prometheus_client import Histogram
Histogram("filled", "", ["model_name", "engine", "connector"], buckets=(1, 10))
{METRICS}
metrics.observe({{"Own": {{"filled": [1, 0, 0, 0.5]}}}})
"""
    run_python(program, env=environment(tmp_path))
    found = page(tmp_path)
    assert found["filled_count{connector=Own,engine=0,model_name=m}"] == 1


def test_two_registries_share_the_files_of_a_process(tmp_path: Path) -> None:
    """Two registries in multiprocess mode share a metric, so that neither overwrites the other."""
    program = """
import gc
from prometheus_client import CollectorRegistry
from mpmetrics.engines import ConnectorConflictError, ConnectorFamily, ConnectorMetrics
jobs = ConnectorFamily("jobs", "counter")
registries = [CollectorRegistry(), CollectorRegistry()]
metrics = [ConnectorMetrics([jobs], each, owner="One") for each in registries]
for number in (1, 2, 3):
    for each in metrics:
        each.observe({"jobs": number})
print(*({family.name for family in each.collect()} for each in registries))
last = CollectorRegistry()
for family in (ConnectorFamily("jobs", "gauge"), ConnectorFamily("jobs_created", "gauge")):
    try:
        ConnectorMetrics([ConnectorFamily("more", "gauge"), family], last, owner="Two")
    except ConnectorConflictError as error:
        print(error.owners, len(list(last.collect())))
del metrics, registries, each
gc.collect()
ConnectorMetrics([jobs], last).observe({"jobs": 1})
"""
    said = run_python(program, env=environment(tmp_path))
    assert said.splitlines() == ["{'jobs'} {'jobs'}", *["('One', 'Two') 0"] * 2]
    assert page(tmp_path) == {"jobs_total{engine=0,model_name=}": 13}
