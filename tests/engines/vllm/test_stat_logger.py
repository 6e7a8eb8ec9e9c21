"""Stat loggers: the values that they publish and show, and observers that fail."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import threading
import time
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

import mpmetrics
from mpmetrics.engines import ComponentGauges, EndpointBoundError, StatLogger, StatLoggerFactory
from mpmetrics.engines.observers import Observer, ObserverErrors
from tests.engines.endpoints import FakeEndpoint, series
from tests.workers import PATIENCE, Worker, environment, fork, run_python, run_to_end

ROOT = Path(__file__).parents[3]


class FakePublisher:
    """A publisher that notes what is published."""

    def __init__(self) -> None:
        """Start without loads."""
        self.published: list[tuple[int, int]] = []

    def publish(self, dp_rank: int | None = None, *, kv_used_blocks: int | None = None) -> None:
        """Note the load."""
        assert dp_rank is not None
        assert kv_used_blocks is not None
        self.published.append((dp_rank, kv_used_blocks))


# On a slow machine, too, these loggers wait until their observers have been called.
patient_factory = partial(StatLoggerFactory, observer_timeout=PATIENCE)
patient_logger = partial(StatLogger, observer_timeout=PATIENCE)


def stats(usage: Any, queries: Any = 0, hits: Any = 0) -> SimpleNamespace:
    """Return the parts of vLLM's `SchedulerStats` that a logger reads."""
    return SimpleNamespace(
        kv_cache_usage=usage, prefix_cache_stats=SimpleNamespace(queries=queries, hits=hits)
    )


def read_series(registry: CollectorRegistry) -> dict[str, float]:
    """Return the series of a registry."""
    return series(generate_latest(registry).decode())


def gauge(name: str, value: float, rank: int = 0) -> dict[str, float]:
    """Return the one series of a gauge."""
    return {f"dynamo_component_{name}{{dp_rank={rank},dynamo_component=c,model=m}}": value}


@pytest.fixture
def registry() -> CollectorRegistry:
    """Return an empty registry."""
    return CollectorRegistry()


@pytest.fixture
def gauges(registry: CollectorRegistry) -> ComponentGauges:
    """Return gauges without values."""
    return ComponentGauges(registry, "m", "c")


def test_unknown_gauges_are_absent(registry: CollectorRegistry, gauges: ComponentGauges) -> None:
    """A gauge has no series before its value is known."""
    assert read_series(registry) == {}
    gauges.set_kv_cache_hit_rate(0, None)
    gauges.set_model_load_time(None)
    assert read_series(registry) == {}
    gauges.set_total_blocks(0, 0)
    gauges.set_gpu_cache_usage("1", 0.5)
    gauges.set_kv_cache_hit_rate(1, 0.25)
    gauges.set_model_load_time(12.5)
    assert read_series(registry) == {
        **gauge("total_blocks", 0),
        **gauge("gpu_cache_usage_percent", 0.5, 1),
        **gauge("kv_cache_hit_rate", 0.25, 1),
        "dynamo_component_model_load_time_seconds{dynamo_component=c,model=m}": 12.5,
    }


def test_two_models_share_a_registry(registry: CollectorRegistry, gauges: ComponentGauges) -> None:
    """The gauges of two models in one registry are made once."""
    ComponentGauges(registry, "other", "c").set_model_load_time(1)
    gauges.set_model_load_time(2)
    assert sorted(read_series(registry).values()) == [1, 2]


def test_the_largest_of_several_processes_counts(tmp_path: Path) -> None:
    """The page shows the largest value of several processes."""
    for usage in (0.25, 0.75, 0.5):
        with Worker(tmp_path) as worker:
            worker.do("from mpmetrics.engines import ComponentGauges")
            worker.do(f"ComponentGauges(None, 'm', 'c').set_gpu_cache_usage(0, {usage})")
    page = mpmetrics.collect(tmp_path).render().decode()
    assert series(page) == gauge("gpu_cache_usage_percent", 0.75)


def test_record(registry: CollectorRegistry, gauges: ComponentGauges) -> None:
    """A logger publishes whole blocks, and keeps the hit rate when there were no queries."""
    publisher = FakePublisher()
    factory = patient_factory(FakeEndpoint(), gauges, lambda: publisher)
    logger = factory(object(), 3)
    logger.record(stats(0.5), None)
    assert publisher.published == []
    assert read_series(registry) == gauge("gpu_cache_usage_percent", 0.5, 3)
    factory.set_num_gpu_blocks_all(1001)
    logger.record(None, object())
    assert publisher.published == []
    for each in (stats(0.5, 10, 5), stats(0.999, 0, 0), stats(1, 8, 8)):
        logger.record(each, object(), object(), 3, "more", something="else")
    assert publisher.published == [(3, 500), (3, 999), (3, 1001)]
    assert read_series(registry) == {
        **gauge("total_blocks", 1001, 3),
        **gauge("gpu_cache_usage_percent", 1, 3),
        **gauge("kv_cache_hit_rate", 1, 3),
    }


def test_all_ranks_are_initialised(registry: CollectorRegistry, gauges: ComponentGauges) -> None:
    """Every rank publishes zeros at the start, and a later rank knows the number of blocks."""
    publishers: list[FakePublisher] = []

    def factory() -> FakePublisher:
        publishers.append(FakePublisher())
        return publishers[-1]

    loggers = patient_factory(FakeEndpoint(), gauges, factory)
    made = [loggers(object(), rank) for rank in range(3)]
    assert loggers.create_stat_logger(1) is made[1]
    assert loggers.created_loggers == dict(enumerate(made))
    loggers.set_num_gpu_blocks_all(64)
    loggers.init_publish()
    assert [each.published for each in publishers] == [[(rank, 0)] for rank in range(3)]
    expected: dict[str, float] = {}
    for rank in range(3):
        expected |= gauge("total_blocks", 64, rank) | gauge("gpu_cache_usage_percent", 0, rank)
    assert read_series(registry) == expected
    late = loggers(object(), 7)
    late.record(stats(0.5))
    assert publishers[-1].published == [(7, 32)]


def test_the_endpoint_is_bound_once() -> None:
    """Existing loggers get a publisher when the endpoint is bound, which is possible once."""
    endpoint = FakeEndpoint()
    given: list[object] = []

    def factory(endpoint: object) -> FakePublisher:
        given.append(endpoint)
        return FakePublisher()

    loggers = StatLoggerFactory(publisher_factory=factory)
    logger = loggers(object(), 0)
    assert logger.publisher is None
    loggers.bind_endpoint(endpoint)
    assert isinstance(logger.publisher, FakePublisher)
    assert loggers(object(), 1).publisher is not None
    assert given == [endpoint, endpoint]
    with pytest.raises(EndpointBoundError, match="cannot be bound") as raised:
        loggers.bind_endpoint(FakeEndpoint())
    assert isinstance(raised.value, RuntimeError)


class DynamoPublisher(FakePublisher):
    """A publisher that needs its endpoint, as Dynamo's does."""

    def __init__(self) -> None:
        """Start without an endpoint."""
        super().__init__()
        self.endpoint: object = None
        self.ready = asyncio.Event()

    async def create_endpoint(self, endpoint: object) -> None:
        """Note the endpoint."""
        self.endpoint = endpoint
        self.ready.set()


def test_a_publisher_gets_its_endpoint() -> None:
    """A publisher gets its endpoint in the event loop in which vLLM makes its loggers."""

    async def make() -> DynamoPublisher:
        loggers = StatLoggerFactory(FakeEndpoint(), None, DynamoPublisher)
        publisher = loggers(object(), 0).publisher
        assert isinstance(publisher, DynamoPublisher)
        await publisher.ready.wait()
        return publisher

    assert isinstance(asyncio.run(make()).endpoint, FakeEndpoint)


def raise_exit(*_: object, **__: object) -> Any:
    """Raise an exception that is not an `Exception`."""
    message = "broken"
    raise SystemExit(message)


def raise_error() -> Any:
    """Raise an ordinary exception."""
    message = "broken"
    raise ValueError(message)


async def coroutine(*_: object, **__: object) -> None:
    """Do nothing, once awaited."""


OBSERVERS: dict[str, tuple[Any, str]] = {
    "raises": (raise_exit, "raised"),
    "wants other arguments": (lambda: None, "raised"),
    "no function": (b"bytes", "raised"),
    "coroutine": (coroutine, "coroutine"),
}


@pytest.mark.parametrize(("publish", "reason"), OBSERVERS.values(), ids=OBSERVERS)
def test_an_observer_that_fails_is_counted(
    publish: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Failures of an observer are counted and logged once, and the other calls are made."""
    errors = ObserverErrors()
    observer = Observer("publisher", timeout=PATIENCE, errors=errors)
    seen: list[int] = []
    for number in range(3):
        observer.notify(publish, number)
        observer.notify(seen.append, number)
    assert errors.counts() == {("publisher", reason): 3}
    assert seen == [0, 1, 2]
    assert len([record for record in caplog.records if record.name == "mpmetrics"]) == 1


def test_an_observer_that_hangs_is_passed_over() -> None:
    """An observer that hangs costs one timeout, and is called again once it has returned."""
    errors = ObserverErrors()
    observer = Observer("publisher", timeout=0.01, errors=errors)
    started, let_go, seen = threading.Event(), threading.Event(), threading.Event()

    def hang() -> None:
        started.set()
        let_go.wait()

    observer.notify(hang)
    assert started.wait(PATIENCE)
    assert errors.counts() == {("publisher", "late"): 1}
    observer.notify(seen.set)
    assert errors.counts() == {("publisher", "late"): 1, ("publisher", "busy"): 1}
    let_go.set()
    while not seen.is_set():
        observer.notify(seen.set)


def test_the_last_call_is_made() -> None:
    """The last call is made, so that the load of an idle engine is the last one."""
    errors = ObserverErrors()
    observer = Observer("publisher", timeout=0.01, errors=errors)
    started, let_go, done = threading.Event(), threading.Event(), threading.Event()
    seen: list[int] = []

    def hang() -> None:
        started.set()
        let_go.wait()

    def last() -> None:
        seen.append(2)
        done.set()

    observer.notify(hang)
    assert started.wait(PATIENCE)
    observer.notify(seen.append, 1)
    observer.notify(last)
    let_go.set()
    assert done.wait(PATIENCE)
    assert seen == [2]


def test_an_observer_that_is_slow_at_every_call() -> None:
    """An observer that is slow at every call costs its caller little more than one timeout."""
    errors = ObserverErrors()
    observer = Observer("publisher", timeout=0.2, errors=errors)
    waited = 0.0
    for _ in range(100):
        let_go, done = threading.Event(), threading.Event()

        def hang(let_go: threading.Event = let_go, done: threading.Event = done) -> None:
            let_go.wait(PATIENCE)
            done.set()

        begin = time.monotonic()
        observer.notify(hang)
        waited += time.monotonic() - begin
        let_go.set()
        assert done.wait(PATIENCE)
    assert waited < 10  # a hundred timeouts would be 20 seconds
    assert errors.counts()["publisher", "late"] == 1


def test_a_log_that_fails_does_not_hurt() -> None:
    """A log handler that raises does not stop the counting of a failure."""

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError(record)

    handler, errors = Broken(), ObserverErrors()
    logging.getLogger("mpmetrics").addHandler(handler)
    try:
        errors.count("publisher", "raised")
    finally:
        logging.getLogger("mpmetrics").removeHandler(handler)
    assert errors.counts() == {("publisher", "raised"): 1}


@pytest.mark.parametrize(
    "nonsense",
    [
        object(),
        b"bytes",
        7,
        stats(None),
        stats(float("nan")),
        stats(float("inf")),
        stats("full"),
    ],
    ids=["object", "bytes", "number", "none", "nan", "inf", "text"],
)
@pytest.mark.parametrize("blocks", [None, 10], ids=["unknown", "known"])
def test_invalid_statistics(
    nonsense: Any, blocks: int | None, registry: CollectorRegistry, gauges: ComponentGauges
) -> None:
    """Of invalid statistics nothing is published or shown, and nothing is raised."""
    publisher = FakePublisher()
    logger = patient_logger(0, component_gauges=gauges, publisher=publisher, num_gpu_blocks=blocks)
    logger.record(nonsense, None)
    assert publisher.published == []
    assert read_series(registry) == {}


@pytest.mark.parametrize(
    "nonsense",
    [
        stats(0.5, "many"),
        stats(0.5, 10, None),
        stats(0.5, 10, float("nan")),
        SimpleNamespace(kv_cache_usage=0.5, prefix_cache_stats=SimpleNamespace(requests=1)),
    ],
    ids=["queries", "hits", "nan", "others"],
)
def test_an_invalid_hit_rate(
    nonsense: Any, registry: CollectorRegistry, gauges: ComponentGauges
) -> None:
    """With an invalid hit rate, the load is still published and shown, since routing needs it."""
    publisher = FakePublisher()
    logger = patient_logger(0, component_gauges=gauges, publisher=publisher, num_gpu_blocks=10)
    logger.record(nonsense, None)
    assert publisher.published == [(0, 5)]
    assert read_series(registry) == {
        **gauge("total_blocks", 10),
        **gauge("gpu_cache_usage_percent", 0.5),
    }


def test_an_embedding_worker(registry: CollectorRegistry, gauges: ComponentGauges) -> None:
    """The loggers of an embedding worker do nothing, by position or by name."""
    publishers: list[FakePublisher] = []

    def factory() -> FakePublisher:
        publishers.append(FakePublisher())
        return publishers[-1]

    for loggers in (
        StatLoggerFactory(FakeEndpoint(), gauges, True),  # noqa: FBT003 - as Dynamo calls it
        StatLoggerFactory(FakeEndpoint(), gauges, embedding_worker=True, publisher_factory=factory),
    ):
        assert loggers.embedding_worker
        logger = loggers(object(), 0)
        loggers.set_num_gpu_blocks_all(10)
        loggers.init_publish()
        logger.record(stats(0.5, 4, 1))
    assert not publishers
    assert read_series(registry) == {}


def test_a_publisher_factory_by_position() -> None:
    """A publisher factory may be the third argument, which is Dynamo's `embedding_worker`."""
    publisher = FakePublisher()
    loggers = patient_factory(FakeEndpoint(), None, lambda: publisher)
    assert not loggers.embedding_worker
    loggers(object(), 0).set_num_gpu_block(10)
    loggers.created_loggers[0].record(stats(0.5))
    assert publisher.published == [(0, 5)]


def test_gauges_that_are_set_later(registry: CollectorRegistry, gauges: ComponentGauges) -> None:
    """Gauges that are set before the first logger is made are its gauges, as in Dynamo."""
    loggers = patient_factory()
    loggers.component_gauges = gauges
    loggers(object(), 0).record(stats(0.5))
    assert read_series(registry) == gauge("gpu_cache_usage_percent", 0.5)


DYNAMO_PUBLISHER = """
published = []
class WorkerMetricsPublisher:
    async def create_endpoint(self, endpoint):
        published.append(endpoint)
    def publish(self, dp_rank=None, active_decode_blocks=None, kv_used_blocks=None):
        published.append((dp_rank, active_decode_blocks, kv_used_blocks))
"""


def test_an_endpoint_alone(tmp_path: Path) -> None:
    """With an endpoint and nothing else, the load goes to Dynamo's own publisher."""
    package = tmp_path / "dynamo"
    package.mkdir()
    (package / "llm.py").write_text(DYNAMO_PUBLISHER)
    program = f"""
import asyncio, json
from types import SimpleNamespace as N
from mpmetrics.engines import StatLoggerFactory
async def main():
    loggers = StatLoggerFactory("endpoint", observer_timeout={PATIENCE})
    logger = loggers(None, 1)
    await asyncio.sleep(0)
    logger.set_num_gpu_block(100)
    logger.record(N(kv_cache_usage=0.25, prefix_cache_stats=None))
    late = StatLoggerFactory(observer_timeout={PATIENCE})
    late(None, 0)
    late.bind_endpoint("late")
    assert late.endpoint == "late"
    late.init_publish()
    await asyncio.sleep(0)
    assert not loggers.errors(), loggers.errors()
asyncio.run(main())
from dynamo.llm import published
print(json.dumps(published))
"""
    output = run_python(program, env=environment(None, PYTHONPATH=str(tmp_path)))
    assert output == '["endpoint", [1, null, 25], [0, null, 0], "late"]\n'


def test_a_publisher_that_cannot_be_made(caplog: pytest.LogCaptureFixture) -> None:
    """If the publisher cannot be made, the logger works without it."""
    with caplog.at_level(logging.CRITICAL):
        loggers = StatLoggerFactory(FakeEndpoint(), None, raise_error)
        loggers(object(), 0).record(stats(0.5))
        loggers.init_publish()
    assert loggers.errors()["publisher_factory", "raised"] >= 1


class Unpublishable:
    """A publisher whose method cannot even be looked up."""

    @property
    def publish(self) -> None:
        """Fail."""
        message = "broken"
        raise RuntimeError(message)


@pytest.mark.parametrize("nonsense", [object(), "text", Unpublishable()], ids=type)
def test_observers_without_the_methods(nonsense: Any) -> None:
    """An observer that lacks its methods does not hurt the engine, and is counted."""
    before = StatLoggerFactory().errors()
    loggers = StatLoggerFactory(FakeEndpoint(), nonsense, lambda: nonsense)
    logger = loggers(object(), 0)
    loggers.set_num_gpu_blocks_all(10)
    loggers.init_publish()
    logger.record(stats(0.5))
    after = loggers.errors()
    for source in ("publisher", "component_gauges"):
        assert after[source, "raised"] > before.get((source, "raised"), 0)


class UpstreamGauges:
    """Gauges as Dynamo has them, which accept only numbers."""

    def __init__(self) -> None:
        """Start without values."""
        self.values: dict[str, float] = {}

    def set_total_blocks(self, dp_rank: str, value: float) -> None:
        """Set the number of blocks."""
        self.values[f"blocks of {dp_rank}"] = float(value)

    def set_gpu_cache_usage(self, dp_rank: str, value: float) -> None:
        """Set the usage."""
        self.values[f"usage of {dp_rank}"] = float(value)

    def set_kv_cache_hit_rate(self, dp_rank: str, value: float) -> None:
        """Set the hit rate."""
        self.values[f"hits of {dp_rank}"] = float(value)


def test_gauges_of_dynamo_get_only_known_values() -> None:
    """Dynamo's own gauges, which refuse None, get only the values that are known."""
    gauges: Any = UpstreamGauges()
    logger = StatLogger(1, component_gauges=gauges)
    logger.record(stats(0.5))
    assert gauges.values == {"usage of 1": 0.5}
    logger.set_num_gpu_blocks(10)
    logger.record(stats(0.25, 4, 1))
    assert gauges.values == {"blocks of 1": 10, "usage of 1": 0.25, "hits of 1": 0.25}


def test_a_logger_that_is_dropped_leaves_no_threads() -> None:
    """The threads of a logger end with its last reference, even without the garbage collector."""
    gc.disable()
    try:
        gauges: Any = UpstreamGauges()
        logger = StatLogger(component_gauges=gauges, publisher=FakePublisher(), num_gpu_blocks=10)
        del gauges
        before = set(threading.enumerate())
        logger.record(stats(0.5, 4, 1))
        started = set(threading.enumerate()) - before
        assert started
        del logger
        for thread in started:
            thread.join(PATIENCE)
            assert not thread.is_alive()
    finally:
        gc.enable()


def test_threads_share_the_logger_of_a_rank() -> None:
    """Threads that ask for one rank at once get one logger with one publisher."""
    publishers: list[FakePublisher] = []
    at_once = threading.Barrier(4)
    others = threading.Semaphore(0)
    made: list[StatLogger] = []

    def factory() -> FakePublisher:
        publishers.append(FakePublisher())
        if len(publishers) == 1:  # the other threads ask while the publisher is being made
            for _ in range(3):
                others.acquire(timeout=PATIENCE)
        return publishers[-1]

    loggers = StatLoggerFactory(FakeEndpoint(), None, factory)

    def ask() -> None:
        at_once.wait()
        made.append(loggers(object(), 0))
        others.release()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(publishers) == 1
    assert len(made) == 4
    assert set(made) == {loggers.created_loggers[0]}


def test_the_sleep_state_has_any_signature() -> None:
    """A logger accepts the sleep state under the parameter names of every version of vLLM."""
    logger = StatLogger()
    logger.record_sleep_state()
    logger.record_sleep_state(1, 2)
    logger.record_sleep_state(sleep=1, level=2)
    logger.record_sleep_state(is_awake=0, level=0)


def test_errors_are_on_the_page(tmp_path: Path) -> None:
    """The page of a Dynamo endpoint shows the errors of observers."""
    program = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.engines.endpoints import FakeEndpoint, series
from mpmetrics.engines import *
endpoint = FakeEndpoint()
setup = setup_metrics_collection(endpoint)
class Broken:
    def publish(self, *a, **k): raise ValueError("broken")
logger = StatLogger(0, publisher=Broken(), num_gpu_blocks=10)
logger.init_publish(); logger.init_publish()
"""
    with Worker(tmp_path) as worker:
        worker.do(program)
        page = worker.ask("series(endpoint.page(), about=True)")
        assert page["mpmetrics_observe_errors_total{reason=raised,source=publisher}"] == 2


def test_a_forked_child_has_observers_of_its_own() -> None:
    """A forked child starts its own observer thread, and does not wait for the parent's."""
    observer = Observer("publisher", timeout=30)
    observer.notify(int)
    child = fork()
    if child == 0:
        try:
            observer.notify(os._exit, 7)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7


VLLM = """
from abc import ABC, abstractmethod
class StatLoggerBase(ABC):
    @abstractmethod
    def __init__(self, vllm_config, engine_index=0): ...
    @abstractmethod
    def record(self, scheduler_stats, iteration_stats, mm_cache_stats=None, engine_idx=0): ...
    @abstractmethod
    def log_engine_initialized(self): ...
    def log(self): ...
    def record_sleep_state(self, is_awake, level): ...
"""

LOAD = """
import sys
from importlib.metadata import entry_points
from types import SimpleNamespace as N
(plugin,) = [each for each in entry_points(group="vllm.stat_logger_plugins")
             if each.name == "mpmetrics"]
assert not any(name.split(".")[0] == "vllm" for name in sys.modules)
logger_class = plugin.load()
config = N(model_config=N(model="path", served_model_name=["m"]),
           cache_config=N(num_gpu_blocks=None))
logger = logger_class(config, 2)
config.cache_config.num_gpu_blocks = 100
logger.log_engine_initialized()
logger.record(N(kv_cache_usage=0.5, prefix_cache_stats=N(queries=4, hits=1)), None, None, 2)
logger.log()
from prometheus_client import generate_latest
print("".join(line for line in generate_latest().decode().splitlines(True) if "dynamo" in line))
"""

PLUGIN = {
    "dynamo_component_total_blocks{dp_rank=2,dynamo_component=c,model=m}": 100,
    "dynamo_component_gpu_cache_usage_percent{dp_rank=2,dynamo_component=c,model=m}": 0.5,
    "dynamo_component_kv_cache_hit_rate{dp_rank=2,dynamo_component=c,model=m}": 0.25,
}


@pytest.mark.parametrize("installed", ["installed", "missing", "broken"])
def test_the_plugin_for_vllm(tmp_path: Path, installed: str) -> None:
    """The plugin derives from vLLM's base class if that can be imported, and works without it."""
    check = ""
    if installed != "missing":
        package = tmp_path / "vllm" / "v1" / "metrics"
        package.mkdir(parents=True)
        broken = "raise OSError('libcudart.so: no such file')\n" if installed == "broken" else ""
        (package / "loggers.py").write_text(broken + VLLM)
    if installed == "installed":
        check = """
from vllm.v1.metrics.loggers import StatLoggerBase
assert isinstance(logger_class, type) and issubclass(logger_class, StatLoggerBase)
"""
    done = run_to_end(
        [sys.executable, "-c", LOAD + check],
        env=environment(None, PYTHONPATH=str(tmp_path), DYN_COMPONENT="c"),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert series(done.stdout.rstrip("\n") + "\n") == PLUGIN


def test_a_base_class_with_more_abstract_methods(tmp_path: Path) -> None:
    """The plugin can be created if the base class of a later vLLM has more abstract methods."""
    package = tmp_path / "vllm" / "v1" / "metrics"
    package.mkdir(parents=True)
    more = "    @abstractmethod\n    def record_more(self, what): ...\n"
    (package / "loggers.py").write_text(VLLM + more)
    run_python(LOAD + "logger.record_more(1)", env=environment(None, PYTHONPATH=str(tmp_path)))


PLUGIN_LOGGERS = """
from types import SimpleNamespace as N
from mpmetrics.engines.plugin import VllmStatLogger
config = N(model_config=N(model="m"), cache_config=N(num_gpu_blocks=8))
loggers = [VllmStatLogger(config, rank) for rank in range(2)]
for logger in loggers:
    logger.log_engine_initialized()
def record(rank, usage, queries, hits):
    cache = N(queries=queries, hits=hits)
    loggers[rank].record(N(kv_cache_usage=usage, prefix_cache_stats=cache), None, None, rank)
"""


def test_the_plugin_in_several_api_servers(tmp_path: Path) -> None:
    """Of several API servers, each report reaches one: the last one counts, not the largest."""
    labels = "dynamo_component=vllm,model=m"
    with Worker(tmp_path) as first, Worker(tmp_path) as second:
        for worker in (first, second):
            worker.do(PLUGIN_LOGGERS)
        first.do("record(0, 0.9, 8, 3)")
        second.do("record(1, 0.25, 8, 8)")
        second.do("record(0, 0.0, 8, 2)")
        found = series(mpmetrics.collect(tmp_path).render().decode())
    assert {name: value for name, value in found.items() if name.startswith("dynamo_")} == {
        f"dynamo_component_{name}{{dp_rank={rank},{labels}}}": value
        for name, rank, value in (
            ("total_blocks", 0, 8),
            ("total_blocks", 1, 8),
            ("gpu_cache_usage_percent", 0, 0.0),
            ("gpu_cache_usage_percent", 1, 0.25),
            ("kv_cache_hit_rate", 0, 0.25),
            ("kv_cache_hit_rate", 1, 1.0),
        )
    }


def test_gauges_of_a_component_keep_the_mode_of_dynamo(tmp_path: Path) -> None:
    """The gauges of a component show the largest value, unless another mode is asked for."""
    with Worker(tmp_path) as first, Worker(tmp_path) as second:
        for worker in (first, second):
            worker.do("from mpmetrics.engines import ComponentGauges; gauges = ComponentGauges()")
            # One metric has one mode, that of the first.
            worker.do("ComponentGauges(multiprocess_mode='mostrecent')")
        first.do("gauges.set_gpu_cache_usage(0, 0.9)")
        second.do("gauges.set_gpu_cache_usage(0, 0.1)")
        found = series(mpmetrics.collect(tmp_path).render().decode())
    labels = "dp_rank=0,dynamo_component=,model="
    assert found[f"dynamo_component_gpu_cache_usage_percent{{{labels}}}"] == 0.9


def test_gauges_whose_names_are_taken() -> None:
    """If the names of the gauges are taken, the plugin works without gauges."""
    program = """
import logging
from types import SimpleNamespace as N
from prometheus_client import Gauge
from mpmetrics.engines.plugin import VllmStatLogger
logging.disable(logging.CRITICAL)
Gauge("dynamo_component_total_blocks", "", ["model"])
logger = VllmStatLogger(N(cache_config=N(num_gpu_blocks=10)))
logger.log_engine_initialized()
logger.record(N(kv_cache_usage=0.5))
"""
    run_python(program, env=environment(None))


def test_a_base_class_that_is_installed_later(tmp_path: Path) -> None:
    """A class that was made without vLLM's base class is made again once vLLM is there."""
    check = """
import sys, mpmetrics.engines.plugin as plugin
assert not hasattr(plugin.VllmStatLogger, "__abstractmethods__")
sys.path.insert(0, sys.argv[1])
from vllm.v1.metrics.loggers import StatLoggerBase
assert issubclass(plugin.VllmStatLogger, StatLoggerBase)
assert plugin.VllmStatLogger is plugin.VllmStatLogger
"""
    package = tmp_path / "vllm" / "v1" / "metrics"
    package.mkdir(parents=True)
    (package / "loggers.py").write_text(VLLM)
    run_python(check.replace("sys.argv[1]", repr(str(tmp_path))), env=environment(None))


def test_the_entry_point_is_declared() -> None:
    """The plugin's entry point has the group and the name that vLLM looks for."""
    names = {each.name: each.value for each in entry_points(group="vllm.stat_logger_plugins")}
    assert names["mpmetrics"] == "mpmetrics.engines.plugin:VllmStatLogger"
