"""The registry tree: one page of all levels, without what cannot be joined."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry

import mpmetrics
from mpmetrics.engines import (
    MetricConflictError,
    MetricsRegistry,
    NameSanitizingError,
    register_engine_metrics_callback,
)
from mpmetrics.engines.dynamo import sanitize
from mpmetrics.errors import LabelError
from tests.engines.endpoints import FakeEndpoint, series
from tests.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def render(registry: MetricsRegistry, *, about: bool = False) -> dict[str, float]:
    """Return the series of the page of a tree."""
    return series(registry.render().decode(), about=about)


def problems(registry: MetricsRegistry) -> dict[str, int]:
    """Render the page; return the number of problems by reason."""
    render(registry)
    return dict(registry.problems())


def test_the_levels_of_the_hierarchy() -> None:
    """Each level adds its label, and each name gets the prefix once.

    Label values are not changed.
    """
    runtime = MetricsRegistry(worker_id=0xC0FFEE)
    component = runtime.namespace("my-ns").component("back end")
    endpoint = component.endpoint("generate")
    runtime.create_gauge("uptime", "Up.").set(1)
    component.create_counter("dynamo_component_requests", "Requests.", ["kind"]).labels("a").inc(2)
    endpoint.create_histogram("time", "Time.", buckets=[1]).observe(0.5)
    where = "dynamo_component=back end,dynamo_endpoint=generate,dynamo_namespace=my-ns"
    assert render(runtime) == {
        "dynamo_component_uptime{worker_id=c0ffee}": 1,
        "dynamo_component_requests_total{dynamo_component=back end,dynamo_namespace=my-ns,"
        "kind=a,worker_id=c0ffee}": 2,
        f"dynamo_component_time_bucket{{{where},le=1.0,worker_id=c0ffee}}": 1,
        f"dynamo_component_time_bucket{{{where},le=+Inf,worker_id=c0ffee}}": 1,
        f"dynamo_component_time_count{{{where},worker_id=c0ffee}}": 1,
        f"dynamo_component_time_sum{{{where},worker_id=c0ffee}}": 0.5,
    }
    assert len(render(endpoint)) == 4
    assert runtime.namespace("my-ns").component("back end") is component
    assert runtime.namespace("a").namespace("b") is not runtime.namespace("b")


def test_one_family_on_many_levels() -> None:
    """A family on several levels has one HELP and TYPE, and the series of all levels."""
    runtime = MetricsRegistry()
    for name in ("a", "b"):
        runtime.namespace(name).create_counter("requests", "Requests.").inc()
    assert render(runtime) == {
        "dynamo_component_requests_total{dynamo_namespace=a}": 1,
        "dynamo_component_requests_total{dynamo_namespace=b}": 1,
    }


def test_a_child_is_rendered_once() -> None:
    """A child that is added several times, or in a cycle, is render once."""
    first, second, child = MetricsRegistry(), MetricsRegistry(), MetricsRegistry("child")
    child.create_gauge("one", "").set(1)
    for parent in (first, first, second):
        parent.add_child_registry(child)
    first.add_child_registry(second)
    child.add_child_registry(first)
    assert render(first) == render(second) == {"dynamo_component_one": 1}
    assert problems(first) == {}


def test_equal_registries_are_not_the_same() -> None:
    """Two registries that look alike are two children.

    A series that both have is render once, and the other is counted as a problem.
    """
    parent = MetricsRegistry()
    for value in (1, 2):
        child = MetricsRegistry("twin")
        child.create_gauge("one", "Same.").set(value)
        parent.add_child_registry(child)
    assert render(parent, about=True) == {
        "dynamo_component_one": 1,
        "mpmetrics_problems_total{reason=repeated_series}": 1,
    }


def test_order_is_depth_first() -> None:
    """The first of two equal series is kept, in depth-first order."""
    parent, left, right = (MetricsRegistry(name) for name in ("parent", "left", "right"))
    deep = MetricsRegistry("deep")
    parent.add_child_registry(left)
    parent.add_child_registry(right)
    left.add_child_registry(deep)
    deep.create_gauge("one", "").set(1)
    right.create_gauge("one", "").set(2)
    assert render(parent) == {"dynamo_component_one": 1}
    parent.create_gauge("one", "").set(3)
    assert render(parent) == {"dynamo_component_one": 3}


def test_updates_come_first() -> None:
    """Update callbacks of all levels run before anything is gathered, at every scrape."""
    parent, child = MetricsRegistry(), MetricsRegistry()
    parent.add_child_registry(child)
    gauge = parent.create_gauge("count", "")
    child.add_update_callback(gauge.inc)
    assert [render(parent) for _ in range(2)] == [
        {"dynamo_component_count": 1},
        {"dynamo_component_count": 2},
    ]


TEXT = """# HELP vllm:requests_total Requests.
# TYPE vllm:requests_total counter
vllm:requests_total{model="a}\\"b"} 3
# HELP vllm:time Time.
# TYPE vllm:time histogram
vllm:time_bucket{le="1.0"} 1
vllm:time_bucket{le="+Inf"} 1
vllm:time_count 1
vllm:time_sum 0.5
"""

TYPED: Any = [
    ("vllm:requests", "Requests.", "counter", "", [("vllm:requests_total", [("x", "y")], 4, None)]),
    ("vllm:bytes", "Size.", "gauge", "bytes", [("vllm:bytes", [], 5.0, 12.0)]),
]


def test_text_is_parsed_and_joined() -> None:
    """Text of callbacks is joined with typed families of the same name, and with other texts."""
    registry = MetricsRegistry()
    registry.add_expfmt_callback(lambda: TEXT)
    registry.add_expfmt_callback(lambda: b'vllm:more 1\nvllm:requests_total{model="c"} 7\n')
    registry.add_typed_callback(lambda: TYPED)
    assert render(registry) == {
        'vllm:requests_total{model=a}"b}': 3,
        "vllm:requests_total{x=y}": 4,
        "vllm:bytes": 5,
        "vllm:requests_total{model=c}": 7,
        "vllm:more": 1,
        "vllm:time_bucket{le=1.0}": 1,
        "vllm:time_bucket{le=+Inf}": 1,
        "vllm:time_count": 1,
        "vllm:time_sum": 0.5,
    }
    assert problems(registry) == {}
    assert b"vllm:bytes 5.0 12000\n" in registry.render()


@pytest.mark.parametrize(
    ("later", "reason"),
    [
        ("# HELP a A.\n# TYPE a summary\na_sum 2\n", "type_conflict"),
        ('# HELP a Other.\n# TYPE a gauge\na{x="y"} 2\n', "help_conflict"),
        ("# HELP a A.\n# TYPE a gauge\na 2\n", "repeated_series"),
        ("# HELP a A.\n# TYPE a gauge\na 1\n", "repeated_series"),
        ("b_total 7\n", "repeated_series"),
        ("# TYPE b_total summary\nb_total_sum 7\n", "type_conflict"),
        ("a{ 1\n", "source_failed"),
    ],
    ids=["type", "help", "series", "equal series", "no type", "other type", "malformed"],
)
def test_conflicts_are_left_out(later: str, reason: str) -> None:
    """A later family or series that conflicts is left out and counted once.

    The page stays valid, and the first family is not changed.
    """
    registry = MetricsRegistry()
    registry.add_expfmt_callback(lambda: "# HELP a A.\n# TYPE a gauge\na 1\n")
    registry.add_expfmt_callback(lambda: "# TYPE b_total counter\nb_total 2\n")
    registry.add_expfmt_callback(lambda: later)
    for _ in range(2):
        page = render(registry, about=True)
        expected = {"a": 1, "b_total": 2, f"mpmetrics_problems_total{{reason={reason}}}": 1}
        assert page == expected


def test_a_family_without_help_agrees_with_all() -> None:
    """A family without help can be joined with any; families with help must agree."""
    registry = MetricsRegistry()
    for name, help_text in [("x", ""), ("y", "# HELP a A.\n"), ("z", "# HELP a B.\n")]:
        text = f'{help_text}# TYPE a gauge\na{{n="{name}"}} 1\n'
        registry.add_expfmt_callback(partial(str, text))
    assert render(registry) == {"a{n=x}": 1, "a{n=y}": 1}
    assert problems(registry) == {"help_conflict": 1}


def raising() -> Any:
    """Raise an unusual exception."""
    raise KeyError(7)


@pytest.mark.parametrize(
    "nonsense",
    [raising, lambda: None, lambda: 7, lambda: b"\xff", lambda: [("a",)], lambda: "x y z w\n"],
    ids=["raises", "none", "number", "bytes", "half a family", "no page"],
)
@pytest.mark.parametrize("kind", ["update", "expfmt", "typed"])
def test_callbacks_that_fail(kind: str, nonsense: Any) -> None:
    """A callback that fails costs its own families only."""
    registry = MetricsRegistry()
    registry.create_gauge("one", "").set(1)
    getattr(registry, f"add_{kind}_callback")(nonsense)
    registry.add_expfmt_callback(lambda: "fine 1\n")
    assert render(registry) == {"dynamo_component_one": 1, "fine": 1}
    fails = kind != "update" or nonsense is raising
    assert problems(registry) == ({"source_failed": 1} if fails else {})


def test_typed_families_before_a_failure_are_kept() -> None:
    """Typed families that a callback returns before it fails are kept."""
    registry = MetricsRegistry()
    good: Any = ("a", "", "gauge", "", [("a", [], 1.0, None)])
    registry.add_typed_callback(lambda: [good, ("b",), good])
    assert render(registry) == {"a": 1}
    assert problems(registry) == {"source_failed": 1}


def test_counters_may_lack_their_suffix() -> None:
    """A counter's sample is the same series with and without `_total`."""
    registry = MetricsRegistry()
    for value, name in enumerate(["a", "a_total"]):
        family: Any = ("a", "", "counter", "", [(name, [], value, None)])
        registry.add_typed_callback(partial(list, [family]))
    assert render(registry) == {"a_total": 0}
    assert problems(registry) == {"repeated_series": 1}


@pytest.mark.parametrize("kind", ["update", "expfmt", "typed"])
def test_callbacks_that_hang(kind: str) -> None:
    """A callback that hangs is waited for until the timeout only."""
    registry = MetricsRegistry(timeout=0.05)
    registry.create_gauge("one", "").set(1)
    release = threading.Event()
    getattr(registry, f"add_{kind}_callback")(release.wait)
    try:
        assert render(registry) == {"dynamo_component_one": 1}
        assert problems(registry) == {"source_failed": 1}
    finally:
        release.set()


def test_a_callback_that_hangs_is_not_called_again() -> None:
    """A callback that hangs is not called again while further callbacks are added."""
    registry = MetricsRegistry(timeout=0.05)
    release = threading.Event()
    calls: list[None] = []

    def hang() -> str:
        calls.append(None)
        release.wait()
        return ""

    registry.add_expfmt_callback(hang)
    try:
        for number in range(3):
            registry.add_expfmt_callback(partial("a{} 1\n".format, number))
            assert len(render(registry)) == number + 1
        assert len(calls) == 1
    finally:
        release.set()


def test_additions_of_an_update_are_on_the_same_page() -> None:
    """Metrics, levels and callbacks that an update adds are on the page of the same scrape."""
    registry = MetricsRegistry()

    def update() -> None:
        registry.namespace("n").create_gauge("x", "").set(1)
        registry.add_expfmt_callback(lambda: "y 2\n")

    registry.add_update_callback(update)
    assert render(registry) == {"dynamo_component_x{dynamo_namespace=n}": 1, "y": 2}


@pytest.fixture
def restless() -> Iterator[None]:
    """Let the interpreter switch between threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
def test_many_threads_make_the_same_metric() -> None:
    """Threads that make the same metric on the same level get one metric."""
    for _ in range(100):
        registry = MetricsRegistry()
        together = threading.Barrier(4)

        def count(registry: MetricsRegistry = registry, together: Any = together) -> None:
            together.wait()
            registry.namespace("n").create_counter("x", "").inc()

        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(count) for _ in range(4)]:
                done.result()
        assert render(registry) == {"dynamo_component_x_total{dynamo_namespace=n}": 4}


def test_the_same_metric_twice_is_one() -> None:
    """The same name and definition return the same metric; any difference raises.

    Names are compared after sanitizing, and the error describes both definitions.
    """
    registry = MetricsRegistry()
    first = registry.create_counter("a-b", "Help.", ["x"], {"y": "1"})
    assert registry.create_counter("a_b", "Help.", ["x"], {"y": "1"}) is first
    assert registry.create_histogram("h", "", buckets=[1]) is registry.create_histogram(
        "h", "", buckets=(1,)
    )
    for make, arguments in [
        (registry.create_gauge, ("Help.", ["x"], {"y": "1"})),
        (registry.create_counter, ("Other.", ["x"], {"y": "1"})),
        (registry.create_counter, ("Help.", ["z"], {"y": "1"})),
        (registry.create_counter, ("Help.", ["x"], {"y": "2"})),
    ]:
        with pytest.raises(MetricConflictError, match="'dynamo_component_a_b' is a counter"):
            make("a_b", *arguments)
    with pytest.raises(MetricConflictError, match=r"buckets \(1,\)\) and cannot be .*\(2,\)\)"):
        registry.create_histogram("h", "", buckets=[2])
    with pytest.raises(MetricConflictError, match="'dynamo_component_a_b_total'"):
        registry.create_gauge("a_b_total", "")
    with pytest.raises(ValueError, match="sorted"):
        registry.create_histogram("other", "", buckets=[2, 1])
    with pytest.raises(LabelError):
        MetricsRegistry(labels={"le": "x"})


@pytest.mark.parametrize(
    ("labels", "constant", "wrong"),
    [
        (["worker_id"], {}, "worker_id"),
        (["dynamo-namespace"], {}, "dynamo_namespace"),
        ([], {"dynamo_component": "x"}, "dynamo_component"),
        ([], {"dynamo_endpoint": "x"}, "dynamo_endpoint"),
        (["zone"], {}, "zone"),
        (["a"], {"a": "x"}, "a"),
        (["a-b", "a.b"], {}, "a_b"),
        (["le"], {}, "le"),
        ([], {"quantile": "x"}, "quantile"),
        ([], {"x": 7}, "x"),
    ],
)
def test_labels_that_are_rejected(labels: Any, constant: Any, wrong: str) -> None:
    """Labels that are automatic, reserved, or given twice raise, and nothing is registered."""
    registry = MetricsRegistry(labels={"zone": "z"})
    with pytest.raises(LabelError) as raised:
        registry.create_counter("a", "", labels, constant)
    assert raised.value.name == wrong
    assert render(registry) == {}


@pytest.mark.parametrize(
    ("given", "name", "label"),
    [
        ("requests", "requests", "requests"),
        ("vllm:requests", "vllm:requests", "vllm_requests"),
        ("a-b.c d/é", "a_b_c_d__", "a_b_c_d__"),
        ("1st", "_1st", "_1st"),
        ("__name", "__name", "name"),
        ("____x", "____x", "x"),
        ("___x", "___x", "_x"),
        ("-a", "_a", "_a"),
    ],
)
def test_sanitizing(given: str, name: str, label: str) -> None:
    """Illegal characters are replaced, and a label name gets no leading `__`."""
    assert sanitize.sanitize_name(given) == name
    assert sanitize.sanitize_label(given) == label


@pytest.mark.parametrize("nothing", ["", "_", "___", "-", "é.-"])
def test_names_of_which_nothing_is_left(nothing: str) -> None:
    """A name without any legal character raises."""
    for function in (sanitize.sanitize_name, sanitize.sanitize_label):
        with pytest.raises(NameSanitizingError, match="nothing is left"):
            function(nothing)


def test_label_values_are_never_sanitized() -> None:
    """Label values are never changed."""
    registry = MetricsRegistry(labels={"dynamo_namespace": 'a-b "é"\n'})
    registry.create_gauge("g", "", ["x"], {"y": "__/"}).labels("-1.5}").set(1)
    assert render(registry) == {'dynamo_component_g{dynamo_namespace=a-b "é"\n,x=-1.5},y=__/}': 1}


@pytest.mark.parametrize(("values", "named"), [((), {}), (("1", "2"), {}), ((), {"z": 1})])
def test_wrong_labels(values: Any, named: Any) -> None:
    """`labels` raises for wrong labels, as prometheus_client does."""
    metric = MetricsRegistry(worker_id=1).create_counter("a", "", ["x"])
    with pytest.raises(ValueError, match="'x'"):
        metric.labels(*values, **named)


def test_a_tree_is_a_source(tmp_path: Path) -> None:
    """A tree is a source of a page and of an endpoint, and a collector of any registry."""
    tree = MetricsRegistry(labels={"a": "b"})
    tree.create_gauge("one", "").set(1)
    tree.add_expfmt_callback(lambda: "broken line of text\n")
    endpoint = FakeEndpoint()
    register_engine_metrics_callback(endpoint, tree, "dynamo_component_")
    assert endpoint.series() == {"dynamo_component_one{a=b}": 1}
    page = series(mpmetrics.Page([tmp_path, tree]).render().decode(), about=True)
    assert page["dynamo_component_one{a=b}"] == 1
    assert page["mpmetrics_problems_total{reason=source_failed}"] == 1
    registry = CollectorRegistry()
    registry.register(tree)
    assert [family.name for family in registry.collect()] == ["dynamo_component_one"]


def test_automatic_labels_are_in_the_files(tmp_path: Path) -> None:
    """Automatic labels are in the files of the multiprocess mode, too.

    So the series of two endpoints of one process are told apart.
    """
    with Worker(tmp_path) as worker:
        worker.do("from mpmetrics.engines import MetricsRegistry; tree = MetricsRegistry()")
        for name, count in (("a", 1), ("b", 2)):
            worker.do(f"tree.namespace({name!r}).create_counter('c', '').inc({count})")
        page = mpmetrics.collect(tmp_path).render().decode()
    assert series(page) == {
        "dynamo_component_c_total{dynamo_namespace=a}": 1,
        "dynamo_component_c_total{dynamo_namespace=b}": 2,
    }
