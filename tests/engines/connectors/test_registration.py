"""Registration of connectors' families: each metric is made once, and none is replaced."""

from __future__ import annotations

import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from mpmetrics.engines import (
    ConnectorConflictError,
    ConnectorDeclarationError,
    ConnectorFamily,
    ConnectorMetrics,
    MultiConnectorMetrics,
)
from tests.engines.connectors.fakes import FakeConnector, NixlPullConnector, OtherConnector, series
from tests.workers import environment, fork, run_python

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENGINE = ["model_name", "engine"]

JOBS = ConnectorFamily("jobs", "counter", "Jobs", labels=("kind",))
TIME = ConnectorFamily("time", "histogram", "Seconds", buckets=(1, 10))
LEVEL = ConnectorFamily("level", "gauge", "Level")


@pytest.fixture
def registry() -> CollectorRegistry:
    """Return an empty registry."""
    return CollectorRegistry()


def names(registry: CollectorRegistry) -> list[str]:
    """Return the names of the families in a registry."""
    return sorted(family.name for family in registry.collect())


def make_connector(*families: ConnectorFamily, kind: type[FakeConnector] = FakeConnector) -> Any:
    """Return a connector that declares *families*."""
    return kind(connector_families=families)


class MoreNixl(NixlPullConnector):
    """A connector of a class that derives from a known one."""


class NixlPushConnector(FakeConnector):
    """A connector of another class, which declares the same names as the one that pulls."""


def test_each_family_is_registered_once(registry: CollectorRegistry) -> None:
    """Connectors of one class, of a derived class and of one with the same names share metrics."""
    connectors = [NixlPullConnector(), NixlPullConnector(), MoreNixl(), NixlPushConnector()]
    metrics = MultiConnectorMetrics.of_connectors(connectors, registry, engines=(0,))
    found = names(registry)
    assert len(found) == len(set(found)) == 8
    for name in ("NixlConnector", "MoreNixl", "NixlPushConnector"):
        metrics.observe({name: {"transfer_duration": [1.5]}})
    assert series(registry)["vllm:nixl_xfer_time_seconds_count{model_name=,engine=0}"] == 3


def test_all_declarations_are_registered_and_observed(registry: CollectorRegistry) -> None:
    """The families and keys of every connector of a class are registered and observed."""
    again = ConnectorFamily("level", "gauge", keys=("other",))
    connectors = [make_connector(JOBS, LEVEL), make_connector(JOBS, TIME, again), OtherConnector()]
    metrics = MultiConnectorMetrics.of_connectors(connectors, registry)
    metrics.observe({"FakeConnector": {"jobs": {("a",): 2}, "time": [0.5], "other": 7}})
    assert not metrics.refused
    assert series(registry) == {
        "jobs_total{model_name=,engine=0,kind=a}": 2,
        "time_bucket{model_name=,engine=0,le=1.0}": 1,
        "time_bucket{model_name=,engine=0,le=10.0}": 1,
        "time_bucket{model_name=,engine=0,le=+Inf}": 1,
        "time_count{model_name=,engine=0}": 1,
        "time_sum{model_name=,engine=0}": 0.5,
        "level{model_name=,engine=0}": 7,
    }


def test_registries_in_memory_are_independent(registry: CollectorRegistry) -> None:
    """In memory, a registry has its own metrics, which may be declared differently in another."""
    other = CollectorRegistry()
    ConnectorMetrics([LEVEL], registry).observe({"level": 1})
    ConnectorMetrics([ConnectorFamily("level", "counter")], other).observe({"level": 2})
    assert series(registry) == {"level{model_name=,engine=0}": 1}
    assert series(other) == {"level_total{model_name=,engine=0}": 2}


def redeclare(family: ConnectorFamily, **changes: Any) -> ConnectorFamily:
    """Return another declaration of the same name."""
    known = {"type": family.type, "labels": family.labels, "buckets": family.buckets}
    return ConnectorFamily(family.name, **{**known, **changes})


DIFFERENT = [
    pytest.param(JOBS, redeclare(JOBS, type="gauge"), "a counter", "a gauge", id="type"),
    pytest.param(JOBS, redeclare(JOBS, labels=()), "engine, kind]", "engine]", id="labels"),
    pytest.param(JOBS, redeclare(JOBS, labels=("sort",)), "kind]", "sort]", id="names-of-labels"),
    pytest.param(
        TIME, redeclare(TIME, buckets=(1, 20)), "[1.0, 10.0]", "[1.0, 20.0]", id="buckets"
    ),
    pytest.param(LEVEL, redeclare(LEVEL, merge="max"), "mode mostrecent", "mode max", id="mode"),
    pytest.param(TIME, ConnectorFamily("time_sum", "gauge"), "a histogram", "a gauge", id="part"),
    pytest.param(
        ConnectorFamily("time_sum", "gauge"), TIME, "a gauge", "a histogram", id="part-first"
    ),
    pytest.param(
        JOBS, ConnectorFamily("jobs_created", "counter"), "a counter", "a counter", id="created"
    ),
]


def conflict(act: Callable[[], object]) -> ConnectorConflictError:
    """Return the error that *act* raises."""
    with pytest.raises(ConnectorConflictError) as caught:
        act()
    return caught.value


@pytest.mark.parametrize(("first", "second", "there", "asked"), DIFFERENT)
def test_a_difference_is_an_error_that_names_both_owners(
    registry: CollectorRegistry,
    first: ConnectorFamily,
    second: ConnectorFamily,
    there: str,
    asked: str,
) -> None:
    """A different declaration names both owners in its error, and registers nothing."""
    together = CollectorRegistry()
    ConnectorMetrics([first], registry, owner="One")
    before = names(registry)
    later = conflict(lambda: ConnectorMetrics([LEVEL_2, second], registry, owner="Two"))
    at_once = conflict(
        lambda: MultiConnectorMetrics.of({"One": [first], "Two": [LEVEL_2, second]}, together)
    )
    for error in (later, at_once):
        assert error.owners == ("One", "Two")
        assert there in error.there
        assert asked in error.asked
        assert isinstance(error, ValueError)
        assert "\n" not in str(error)
    assert names(registry) == before
    assert names(together) == []


LEVEL_2 = ConnectorFamily("level_2", "gauge")


def test_a_conflict_between_a_class_and_one_derived_from_it(registry: CollectorRegistry) -> None:
    """The error of a conflict names a class and the class derived from it."""
    wrong = ConnectorFamily("vllm:nixl_xfer_time_seconds", "histogram", buckets=(1, 2))
    connectors = [NixlPullConnector(), make_connector(wrong, kind=MoreNixl)]
    error = conflict(lambda: MultiConnectorMetrics.of_connectors(connectors, registry))
    assert error.owners == ("NixlPullConnector", "MoreNixl")
    assert names(registry) == []


def test_with_and_without_the_label_of_the_connector(registry: CollectorRegistry) -> None:
    """Families with and without the label `connector` conflict."""
    MultiConnectorMetrics.of({"One": [LEVEL]}, registry, connector_label=True)
    error = conflict(lambda: MultiConnectorMetrics.of({"Two": [LEVEL]}, registry))
    assert error.owners == ("One", "Two")


def test_a_metric_of_the_engine_is_used(registry: CollectorRegistry) -> None:
    """A metric that the engine has registered with the same definition is used."""
    jobs = Counter("jobs", "", [*ENGINE, "kind"], registry=registry)
    Histogram("time", "", ENGINE, buckets=(1, 10), registry=registry)
    Gauge("level", "", ENGINE, multiprocess_mode="mostrecent", registry=registry)
    metrics = ConnectorMetrics([JOBS, TIME, LEVEL], registry)
    metrics.observe({"jobs": {("a",): 2}, "time": [3.0], "level": 5})
    jobs.labels("", "0", "a").inc()
    found = series(registry)
    assert found["jobs_total{model_name=,engine=0,kind=a}"] == 3
    assert found["time_count{model_name=,engine=0}"] == 1
    assert found["level{model_name=,engine=0}"] == 5


@pytest.mark.parametrize(
    "make",
    [
        lambda registry: Counter("time", "", ENGINE, registry=registry),
        lambda registry: Histogram("time", "", ENGINE, buckets=(1, 20), registry=registry),
        lambda registry: Histogram("time", "", ["engine"], buckets=(1, 10), registry=registry),
        lambda registry: Gauge("time_count", "", registry=registry),
        lambda registry: Info("time", "", registry=registry),
    ],
    ids=["type", "buckets", "labels", "part", "info"],
)
def test_a_different_metric_of_the_engine(
    registry: CollectorRegistry, make: Callable[[CollectorRegistry], object]
) -> None:
    """A different metric of the same name is a conflict, stays, and nothing is registered."""
    make(registry)
    before = names(registry)
    error = conflict(lambda: ConnectorMetrics([LEVEL, TIME], registry, owner="Two"))
    assert error.owners == ("an unknown owner", "Two")
    assert names(registry) == before


def test_an_unregistered_metric_is_made_again(registry: CollectorRegistry) -> None:
    """A metric that was unregistered, as by an engine that restarts, is made again."""
    ConnectorMetrics([LEVEL], registry).observe({"level": 1})
    (collector,) = list(registry._collector_to_names)
    registry.unregister(collector)
    ConnectorMetrics([LEVEL], registry).observe({"level": 2})
    assert series(registry) == {"level{model_name=,engine=0}": 2}


def test_what_prometheus_client_refuses_leaves_nothing_behind(registry: CollectorRegistry) -> None:
    """If prometheus_client refuses one family, none is registered."""
    wrong = ConnectorFamily("time", "gauge", mode="never")
    with pytest.raises(ConnectorDeclarationError, match="connector family 'time': Invalid multi"):
        ConnectorMetrics([LEVEL, wrong], registry)
    assert names(registry) == []


@pytest.fixture
def restless() -> Iterator[None]:
    """Let the interpreter switch threads as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
def test_many_threads_register_at_once() -> None:
    """Threads that register the same families at once share the metrics."""
    with ThreadPoolExecutor(8) as threads:
        for _ in range(20):
            registry, begin = CollectorRegistry(), threading.Barrier(8)

            def register(
                registry: CollectorRegistry = registry, begin: threading.Barrier = begin
            ) -> None:
                begin.wait()
                ConnectorMetrics([JOBS, TIME, LEVEL], registry).observe({"jobs": {("a",): 1}})

            for done in [threads.submit(register) for _ in range(8)]:
                done.result()
            assert series(registry)["jobs_total{model_name=,engine=0,kind=a}"] == 8


def test_the_global_registry_is_the_default() -> None:
    """Without a registry, families are registered in the global one."""
    program = """
from prometheus_client import REGISTRY
from mpmetrics.engines import ConnectorFamily, ConnectorMetrics
ConnectorMetrics([ConnectorFamily("level", "gauge")], engines=(0,))
print(REGISTRY.get_sample_value("level", {"model_name": "", "engine": "0"}))
"""
    assert run_python(program, env=environment(None)) == "0.0\n"


def test_a_child_that_was_forked_while_a_thread_registered() -> None:
    """A child that was forked while a thread registered does not wait for that thread."""

    class Slow(CollectorRegistry):
        """A registry in which registration lasts as long as the child lives."""

        def register(self, collector: Any) -> None:
            under_way.set()
            over.wait(30)
            super().register(collector)

    under_way, over = threading.Event(), threading.Event()
    thread = threading.Thread(target=ConnectorMetrics, args=([JOBS], Slow()))
    thread.start()
    try:
        assert under_way.wait(30)
        child = fork()
        if child == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(10)
            try:
                ConnectorMetrics([JOBS], CollectorRegistry())
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
    finally:
        over.set()
        thread.join()
    assert os.waitstatus_to_exitcode(status) == 0
