"""Callbacks of an endpoint: each family once, whatever is register, and no exception."""

from __future__ import annotations

import gc
import threading
from itertools import repeat
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, multiprocess
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.samples import Sample

import mpmetrics
from mpmetrics.engines import (
    DYNAMO_COMPONENT,
    LMCACHE,
    VLLM,
    register_engine_metrics_callback,
    setup_metrics_collection,
)
from mpmetrics.engines.dynamo.runtime_pages import PAGES
from mpmetrics.errors import FilterError, LabelError, SourceError
from tests.engines.endpoints import FakeEndpoint, FakeHandle, series
from tests.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

IDENTITY = "dynamo_component=backend,dynamo_endpoint=generate,dynamo_namespace=my-ns"
"""The labels of an endpoint that does not know its number."""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory in which two workers counted, three and four."""
    path = tmp_path_factory.mktemp("written")
    for count in (3, 4):
        with Worker(path) as worker:
            worker.do(f"Counter('vllm:req', 'Requests.', ['m']).labels('a').inc({count})")
            worker.do(f"Counter('lmcache:hits', 'Hits.', ['worker_id']).labels('0').inc({count})")
            worker.do(f"Gauge('sglang:busy', '', multiprocess_mode='sum').set({count})")
    return path


@pytest.fixture
def registry() -> CollectorRegistry:
    """Return a registry with this process's share of one family, and families of its own."""
    registry = CollectorRegistry()
    Counter("vllm:req", "Requests.", ["m"], registry=registry).labels("a").inc(3)
    Gauge("vllm:own", "Of this process.", registry=registry).set(1)
    Gauge("dynamo_component_total_blocks", "Blocks.", registry=registry).set(9)
    Histogram("vllm:a_b", "Two.", buckets=[1], registry=registry).observe(1)
    Gauge("python_version", "Not wanted.", registry=registry).set(3)
    return registry


def register(registry: Any, *arguments: Any, **more: Any) -> FakeEndpoint:
    """Return an endpoint with one callback for *registry*."""
    endpoint = FakeEndpoint()
    register_engine_metrics_callback(endpoint, registry, *arguments, **more)
    return endpoint


HISTOGRAM = {"vllm:a_b_bucket{le=1.0}": 1, "vllm:a_b_bucket{le=+Inf}": 1}
HISTOGRAM |= {"vllm:a_b_count": 1, "vllm:a_b_sum": 1}


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (VLLM, None, {"vllm:req_total{m=a}": 3, "vllm:own": 1, **HISTOGRAM}),
        ([VLLM], ["vllm:a_"], {"vllm:req_total{m=a}": 3, "vllm:own": 1}),
        (None, ["vllm:", "python_"], {"dynamo_component_total_blocks": 9}),
        ([VLLM, DYNAMO_COMPONENT], "vllm:", {"dynamo_component_total_blocks": 9}),
        (DYNAMO_COMPONENT, (), {"dynamo_component_total_blocks": 9}),
        ([VLLM, LMCACHE], ["vllm:req", "vllm:own"], HISTOGRAM),
        ("vllm:a_b_bucket", None, {}),
        ("nothing:", None, {}),
    ],
)
def test_prefix_filters_select_families(
    registry: CollectorRegistry, include: Any, exclude: Any, expected: dict[str, float]
) -> None:
    """A prefix filter selects whole families, so that no histogram is cut.

    A string is one prefix, and exclude beats include.
    """
    endpoint = register(registry, include, exclude)
    assert endpoint.series() == expected
    if not expected:
        assert endpoint.page() == ""


@pytest.mark.parametrize("prefix", [VLLM, LMCACHE])
def test_a_directory_is_merged(written: Path, prefix: str) -> None:
    """A directory, given by its path, is merged."""
    name = {VLLM: "vllm:req_total{m=a}", LMCACHE: "lmcache:hits_total{worker_id=0}"}[prefix]
    assert register(written, prefix).series() == {name: 7}
    assert register(str(written), prefix).series() == {name: 7}


def test_what_stands_for_several_sources(written: Path, registry: CollectorRegistry) -> None:
    """A `Registration` and a `Page` bring the merged view and the registry, each family once."""
    registration = mpmetrics.register(registry, written)
    page = mpmetrics.Page([written, registry], labels={"from": "page"})
    expected = {"vllm:req_total{m=a}": 7.0, "vllm:own": 1, **HISTOGRAM}
    assert register(registration, VLLM).series() == expected
    assert register(page, "vllm:req").series() == {"vllm:req_total{from=page,m=a}": 7}


def test_none_is_the_global_registry() -> None:
    """None stands for the global registry."""
    assert set(register(None, "python_info").series()) > set()


@pytest.mark.parametrize("order", [1, -1])
def test_two_callbacks_agree(written: Path, registry: CollectorRegistry, order: int) -> None:
    """Two callbacks show the merged value once, in whatever order they are register."""
    endpoint = FakeEndpoint()
    for source in [registry, written][::order]:
        register_engine_metrics_callback(endpoint, source, [VLLM, LMCACHE])
    assert endpoint.series() == {
        "vllm:req_total{m=a}": 7,
        "vllm:own": 1,
        "lmcache:hits_total{worker_id=0}": 7,
        **HISTOGRAM,
    }


def test_a_registry_that_is_merged_already(written: Path, registry: CollectorRegistry) -> None:
    """A registry that prometheus_client's own collector merges counts as the merged view.

    The two callbacks are those that Dynamo registers.
    """
    merged = CollectorRegistry()
    multiprocess.MultiProcessCollector(merged, str(written))
    endpoint = FakeEndpoint()
    register_engine_metrics_callback(endpoint, registry, ["vllm:"])
    register_engine_metrics_callback(endpoint, merged, ["vllm:", "lmcache:"])
    assert endpoint.series() == {
        "vllm:req_total{m=a}": 7,
        "vllm:own": 1,
        "lmcache:hits_total{worker_id=0}": 7,
        **HISTOGRAM,
    }


def test_a_registry_may_hold_both(tmp_path: Path) -> None:
    """A registry can have prometheus_client's collector and a family of this process.

    The collector was register before there were files; the merged value wins once there are.
    """
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, str(tmp_path))
    Counter("vllm:req", "Requests.", registry=registry).inc(3)
    endpoint = register(registry, VLLM)
    assert endpoint.series() == {"vllm:req_total": 3}
    with Worker(tmp_path) as worker:
        worker.do("Counter('vllm:req', 'Requests.').inc(7)")
    assert endpoint.series() == {"vllm:req_total": 7}


def test_the_same_registry_twice(registry: CollectorRegistry) -> None:
    """A second callback for the same registry returns nothing."""
    endpoint = FakeEndpoint()
    for _ in range(2):
        register_engine_metrics_callback(endpoint, registry, "vllm:own")
    assert endpoint.parts() == [{"vllm:own": 1}, {}]


@pytest.mark.parametrize("order", [1, -1])
def test_the_first_has_a_name_that_two_families_expose(order: int) -> None:
    """A later source cannot take a sample name from an earlier one, and keeps its other series."""
    stealing = gauge({}, "vllm:a", 2)
    stealing.samples.append(Sample("vllm:b", {}, 99))
    endpoint = FakeEndpoint()
    for family in [gauge({}, "vllm:b"), stealing][::order]:
        register_engine_metrics_callback(endpoint, Fixed([family]))
    expected = {"vllm:a": 2, "vllm:b": 1 if order == 1 else 99}
    assert endpoint.series() == expected


def test_names_that_are_written_alike() -> None:
    """Families whose names are written alike count as one; the first is kept."""
    endpoint = FakeEndpoint()
    for value, name in enumerate(["vllm:a.b", "vllm:a_b", "mpmetrics_source.up"]):
        register_engine_metrics_callback(endpoint, Fixed([gauge({}, name, value)]))
    register_engine_metrics_callback(endpoint, Fixed(OSError("down")))
    page = endpoint.series()
    assert page["vllm:a_b"] == 0
    assert series(endpoint.page(), about=True)["mpmetrics_source_up{source=registry}"] == 0


def test_every_scrape_is_new(written: Path, registry: CollectorRegistry) -> None:
    """A share that one scrape has left is not returned by the next scrape."""
    endpoint = FakeEndpoint()
    own = Gauge("lmcache:own", "", registry=registry)
    register_engine_metrics_callback(endpoint, written, LMCACHE)
    register_engine_metrics_callback(endpoint, registry, "lmcache:own")
    for number in range(5):
        own.set(number)
        assert endpoint.series()["lmcache:own"] == number
    first, second = endpoint.metrics.text
    for number in range(5):
        own.set(number)
        assert (first(), series(second())) != ("", {})
        assert series(second()) == {"lmcache:own": number}


def test_endpoints_do_not_share(registry: CollectorRegistry) -> None:
    """Endpoints that are not Dynamo's have a page each, which is dropped with the endpoint."""
    before = len(PAGES)
    first, second = register(registry, "vllm:own"), register(registry, "vllm:own")
    assert first.series() == second.series() == {"vllm:own": 1}
    del first, second
    gc.collect()
    assert len(PAGES) == before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, {}),
        ({"namespace_name": "my-ns"}, {}),
        ({"component_name": "backend", "model_name": "m"}, {}),
        (
            {"namespace_name": "my-ns", "component_name": "backend"},
            {
                "dynamo_namespace": "my-ns",
                "dynamo_component": "backend",
                "dynamo_endpoint": "generate",
                "worker_id": "c0ffee",
            },
        ),
        (
            {
                "namespace_name": "n",
                "component_name": "c",
                "endpoint_name": "e/1",
                "model_name": 'a "b"\\c\nd}',
                "inject_custom_labels": {"zone": "z", "model": "lost", "worker_id": "lost"},
            },
            {
                "dynamo_namespace": "n",
                "dynamo_component": "c",
                "dynamo_endpoint": "e/1",
                "worker_id": "c0ffee",
                "model": 'a "b"\\c\nd}',
                "model_name": 'a "b"\\c\nd}',
                "zone": "z",
            },
        ),
        ({"inject_custom_labels": {"model": "m"}}, {"model": "m"}),
    ],
    ids=["none", "namespace", "component", "both", "all", "custom"],
)
def test_labels(arguments: dict[str, Any], expected: dict[str, str]) -> None:
    """Label values are injected unchanged; an automatic label beats a custom one."""
    registry = CollectorRegistry()
    Gauge("vllm:one", "", registry=registry).set(1)
    endpoint = register(registry, VLLM, **arguments)
    (family,) = endpoint.typed()[0]
    assert family == (
        "vllm:one",
        "",
        "gauge",
        "",
        [("vllm:one", sorted(expected.items()), 1, None)],
    )
    written = ",".join(f"{name}={value}" for name, value in sorted(expected.items()))
    assert endpoint.series() == {f"vllm:one{{{written}}}" if written else "vllm:one": 1}


def test_labels_of_the_series_win(written: Path) -> None:
    """A label of the series itself, such as LMCache's `worker_id`, beats an automatic one."""
    endpoint = register(written, LMCACHE, namespace_name="my-ns", component_name="backend")
    assert endpoint.series() == {f"lmcache:hits_total{{{IDENTITY},worker_id=0}}": 7}


@pytest.mark.parametrize("number", [RuntimeError("not yet"), None, "abc"])
def test_an_endpoint_without_a_number(number: Any) -> None:
    """An endpoint without a connection number gives no `worker_id`, and does not fail."""
    registry = CollectorRegistry()
    Gauge("vllm:one", "", registry=registry).set(1)
    endpoint = FakeEndpoint(number)
    names: dict[str, Any] = {"namespace_name": "my-ns", "component_name": "backend"}
    register_engine_metrics_callback(endpoint, registry, VLLM, **names)
    assert endpoint.series() == {f"vllm:one{{{IDENTITY}}}": 1}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"inject_custom_labels": {"le": "1"}}, LabelError),
        ({"inject_custom_labels": {"quantile": "1"}}, LabelError),
        ({"inject_custom_labels": {"__name__": "1"}}, LabelError),
        ({"inject_custom_labels": {"a-b": "1"}}, LabelError),
        ({"inject_custom_labels": {"a": 1}}, LabelError),
        ({"metric_prefix_filters": ["vllm:", ""]}, FilterError),
        ({"exclude_prefixes": [1]}, FilterError),
        ({"metric_prefix_filters": 5}, FilterError),
        ({"registry": 42}, SourceError),
        ({"registry": "ftp://x"}, SourceError),
    ],
)
def test_invalid_arguments(arguments: dict[str, Any], error: type[Exception]) -> None:
    """Invalid arguments raise at registration, and nothing is register."""
    endpoint = FakeEndpoint()
    with pytest.raises(error):
        register_engine_metrics_callback(endpoint, **{"registry": CollectorRegistry(), **arguments})
    assert endpoint.metrics.text == []


def test_an_endpoint_that_takes_text_only(registry: CollectorRegistry) -> None:
    """An older endpoint, without typed callbacks, gets the text callback alone."""
    endpoint = FakeEndpoint(typed=False)
    register_engine_metrics_callback(endpoint, registry, "vllm:own")
    assert endpoint.series() == {"vllm:own": 1}


def test_typed_families(written: Path, registry: CollectorRegistry) -> None:
    """The typed callback returns the same families as the text callback, whole.

    Names may have a colon, units are kept, and families without samples are left out.
    """
    family = GaugeMetricFamily("vllm:size_bytes", "Size.", labels=["a"], unit="bytes")
    family.add_metric(["x"], 5, timestamp=12.5)
    endpoint = FakeEndpoint()
    register_engine_metrics_callback(endpoint, written, "vllm:req", model_name="m")
    register_engine_metrics_callback(
        endpoint, Fixed([family, GaugeMetricFamily("vllm:empty", "")]), VLLM
    )
    register_engine_metrics_callback(endpoint, registry, ["vllm:a_b", "vllm:req"])
    merged, fixed, own = endpoint.typed()
    assert merged == [
        ("vllm:req", "Requests.", "counter", "", [("vllm:req_total", [("m", "a")], 7.0, None)])
    ]
    assert fixed == [
        (
            "vllm:size_bytes",
            "Size.",
            "gauge",
            "bytes",
            [("vllm:size_bytes", [("a", "x")], 5.0, 12.5)],
        )
    ]
    ((name, _, kind, _, samples),) = own
    assert (name, kind) == ("vllm:a_b", "histogram")
    assert {sample[0] for sample in samples} >= {"vllm:a_b_bucket", "vllm:a_b_sum"}


class Fixed:
    """A registry that returns the families that it was made with."""

    def __init__(self, families: Any) -> None:
        """Take *families* to return, or an exception to raise."""
        self.families = families

    def collect(self) -> Any:
        """Return the families; raise an exception."""
        if isinstance(self.families, BaseException):
            raise self.families
        return self.families


def halfway(family: GaugeMetricFamily) -> Iterator[GaugeMetricFamily]:
    """Yield one family, then raise."""
    yield family
    message = "broken"
    raise RuntimeError(message)


def gauge(labels: Any, name: str = "vllm:x", value: Any = 1, **more: Any) -> Metric:
    """Return a gauge with one sample, without checks."""
    family = GaugeMetricFamily("unnamed", "")
    family.name = name
    family.samples = [Sample(name, labels, value, **more)]
    return family


NONSENSE: dict[str, Any] = {
    "raises": Fixed(ValueError("bad")),
    "key error": Fixed(KeyError(7)),
    "bytes": Fixed(b"vllm:x 1\n"),
    "text": Fixed("vllm:x 1\n"),
    "none": Fixed(None),
    "no families": Fixed([None, 7, "x", object()]),
    "an odd value": Fixed([GaugeMetricFamily("vllm:x", "", value="seven")]),  # type: ignore[arg-type]
    "label names of no use": Fixed([gauge({"": "x"}), gauge({"__name__": "x"}), gauge({1: "x"})]),
    "no labels": Fixed([gauge(None)]),
    "no name": Fixed([gauge({}, "")]),
    "families without end": Fixed(repeat(GaugeMetricFamily("vllm:x", "", value=1))),
    "callback of bytes": lambda: b"\xff\xfe",
    "callback of none": lambda: None,
    "callback of nonsense": lambda: "no page at all\n",
    "callback that raises": lambda: 1 / 0,
    "URL": "http://127.0.0.1:9/metrics",
    "directory": "/no/such/directory",
}


@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE)
def test_a_source_that_fails_costs_its_own_families_only(
    nonsense: Any, registry: CollectorRegistry
) -> None:
    """A source that fails is shown as down, and the families of the others are on the page."""
    endpoint = FakeEndpoint()
    register_engine_metrics_callback(endpoint, nonsense, VLLM)
    register_engine_metrics_callback(endpoint, registry, "vllm:own")
    page = endpoint.page()
    assert series(page)["vllm:own"] == 1
    up = {k: v for k, v in series(page, about=True).items() if k.startswith("mpmetrics_source_up")}
    assert min(up.values()) == 0
    assert isinstance(endpoint.typed()[0], list)


def test_label_values_that_are_not_text() -> None:
    """Label values that are not text are converted to text.

    Series that are written alike are one series.
    """
    families = [
        gauge({"a": 1}),
        gauge({"a": "1"}, value=2),
        gauge({"a": ["x"]}),
        gauge({"a": None}),
    ]
    endpoint = register(Fixed(families))
    expected = {"vllm:x{a=1}": 1, "vllm:x{a=['x']}": 1, "vllm:x{a=None}": 1}
    assert endpoint.series() == expected
    samples_of = {name: samples for name, *_, samples in endpoint.typed()[0]}
    assert len(samples_of["vllm:x"]) == len(expected)
    assert len(samples_of["mpmetrics_problems"]) == 1


@pytest.mark.skipif("native_histogram" not in Sample._fields, reason="prometheus_client is older")
def test_native_histograms_are_left_out() -> None:
    """Native histograms are left out of both forms; families with nothing else, too."""
    native = gauge({}, "vllm:native", None, native_histogram=object())
    both = gauge({}, "vllm:both", None, native_histogram=object())
    both.samples.append(Sample("vllm:both", {"a": "x"}, 1))
    endpoint = register(Fixed([native, both]))
    assert endpoint.page() == ('# HELP vllm:both \n# TYPE vllm:both gauge\nvllm:both{a="x"} 1.0\n')
    ((name, *_, samples),) = endpoint.typed()[0]
    assert (name, samples) == ("vllm:both", [("vllm:both", [("a", "x")], 1.0, None)])


def test_families_before_a_failure_are_kept() -> None:
    """Families that a registry yields before it raises are kept."""
    endpoint = register(Fixed(halfway(GaugeMetricFamily("vllm:x", "", value=1))), VLLM)
    assert series(endpoint.page(), about=True) == {
        "vllm:x": 1,
        "mpmetrics_source_up{source=registry}": 0,
        "mpmetrics_problems_total{reason=source_failed}": 1,
    }


def test_problems_are_logged_once(
    caplog: pytest.LogCaptureFixture, registry: CollectorRegistry
) -> None:
    """A problem is logged once for as long as it lasts."""
    fails = Fixed(ValueError("bad"))
    endpoint = register(fails, VLLM)
    for _ in range(3):
        endpoint.page()
    assert [record.getMessage() for record in caplog.records] == [
        "registry: source_failed: ValueError: bad"
    ]
    fails.families = list(registry.collect())
    assert endpoint.series()["vllm:own"] == 1


class Hanging:
    """A registry that hangs until the test frees it."""

    def __init__(self) -> None:
        """Begin by hanging."""
        self.free = threading.Event()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Wait until the test frees the registry; return a family."""
        self.free.wait()
        return [GaugeMetricFamily("vllm:late", "", value=1)]


def test_a_source_that_hangs(registry: CollectorRegistry) -> None:
    """The page shows what a hanging source returned last, and its age."""
    hanging = Hanging()
    endpoint = FakeEndpoint()
    register_engine_metrics_callback(endpoint, hanging, [VLLM, "mpmetrics_source"], timeout=0.05)
    register_engine_metrics_callback(endpoint, registry, "vllm:own", timeout=0.05)
    try:
        page = series(endpoint.page(), about=True)
        assert page["vllm:own"] == 1
        assert "vllm:late" not in page
        hanging.free.set()
        until(lambda: "vllm:late" in endpoint.series())
        hanging.free.clear()
        page = series(endpoint.page(), about=True)
        assert page["vllm:late"] == 1
        assert page["mpmetrics_source_up{source=registry}"] == 0
        assert page["mpmetrics_source_age_seconds{source=registry}"] > 0
    finally:
        hanging.free.set()


def until(happened: Callable[[], bool]) -> None:
    """Call *happened* until it returns true."""
    while not happened():
        pass


def test_scrapes_in_many_threads(written: Path, registry: CollectorRegistry) -> None:
    """Concurrent scrapes each get one valid page."""
    endpoint = FakeEndpoint()
    register_engine_metrics_callback(endpoint, registry, [VLLM])
    register_engine_metrics_callback(endpoint, written, [VLLM, LMCACHE])
    expected = endpoint.series()
    pages: list[dict[str, float]] = []

    def scrape() -> None:
        pages.extend(endpoint.series() for _ in range(20))

    threads = [threading.Thread(target=scrape) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pages == [expected] * 160


def test_a_handle_of_the_unified_backend(registry: CollectorRegistry) -> None:
    """A handle takes callbacks itself; its labels are on each series, and names replace them."""
    handle, renamed = FakeHandle(), FakeHandle()
    register_engine_metrics_callback(handle, registry, ["vllm:own"], None, {"a": "b"})
    own = "dynamo_component=sample,dynamo_endpoint=generate,dynamo_namespace=ns"
    assert handle.series() == {f"vllm:own{{a=b,{own},model=m,model_name=m,worker_id=2a}}": 1}
    assert len(handle.typed) == 1
    register_engine_metrics_callback(
        renamed, registry, "vllm:own", namespace_name="my-ns", component_name="c", model_name="x"
    )
    named = "dynamo_component=c,dynamo_endpoint=generate,dynamo_namespace=my-ns"
    assert renamed.series() == {f"vllm:own{{{named},model=x,model_name=x,worker_id=2a}}": 1}


def test_the_set_up_of_a_handle(registry: CollectorRegistry) -> None:
    """The whole set-up takes a handle of the unified backend in the place of an endpoint."""
    handle = FakeHandle()
    with setup_metrics_collection(handle, registry=registry, component_registry=registry) as setup:
        assert setup.labels == FakeHandle.auto_labels
        assert handle.series()["dynamo_component_total_blocks"] == 9
    assert handle.series() == {}
