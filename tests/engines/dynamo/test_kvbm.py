"""KVBM's metrics: upstream's names, better ones beside them, and a page that always comes up."""

from __future__ import annotations

import math
import socket
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mpmetrics
from mpmetrics.engines import KvbmMetrics, kvbm_port, serve_kvbm
from mpmetrics.engines.dynamo.kvbm_families import TRANSFERS
from mpmetrics.engines.errors import KvbmError, MetricConflictError
from mpmetrics.errors import LabelError
from tests.engines.endpoints import series
from tests.workers import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable


def shown(metrics: KvbmMetrics) -> dict[str, float]:
    """Return what a page of the metrics says, in both formats."""
    page = mpmetrics.Page(metrics)
    assert page.render(openmetrics=True).endswith(b"# EOF\n")
    return series(page.render().decode())


def test_everything_is_there_from_the_beginning() -> None:
    """All names of upstream, at 0; but no hit rate of what nobody has asked for."""
    names = [*TRANSFERS, "matched_tokens", "object_read_failures", "object_write_failures"]
    expected = {f"kvbm_{name}{suffix}": 0 for name in names for suffix in ("", "_total")}
    expected["kvbm_requested_tokens_total"] = 0
    for way in TRANSFERS.values():
        labels = f"source={way.source},target={way.target}"
        expected[f"kvbm_{way.family}_total{{{labels}}}"] = 0
    assert shown(KvbmMetrics()) == expected


def test_the_same_letters_are_different_ways() -> None:
    """`h2d` is to the disk when offloading and to the device when onboarding."""
    metrics = KvbmMetrics({"worker_id": "a-1"})
    metrics.offloaded("host", "disk", 3)
    metrics.onboarded("host", blocks=5)
    seen = {name: value for name, value in shown(metrics).items() if value}
    assert seen == {
        "kvbm_offload_blocks_h2d{worker_id=a-1}": 3,
        "kvbm_offload_blocks_h2d_total{worker_id=a-1}": 3,
        "kvbm_offload_blocks_total{source=host,target=disk,worker_id=a-1}": 3,
        "kvbm_onboard_blocks_h2d{worker_id=a-1}": 5,
        "kvbm_onboard_blocks_h2d_total{worker_id=a-1}": 5,
        "kvbm_onboard_blocks_total{source=host,target=device,worker_id=a-1}": 5,
    }


@pytest.mark.parametrize("name", TRANSFERS)
def test_every_way_is_counted(name: str) -> None:
    """Under its own name only."""
    metrics, way = KvbmMetrics(), TRANSFERS[name]
    count = metrics.offloaded if way.family == "offload_blocks" else metrics.onboarded
    count(way.source, way.target)
    seen = {each for each, value in shown(metrics).items() if value}
    labels = f"source={way.source},target={way.target}"
    spelled = f"kvbm_{way.family}_total{{{labels}}}"
    assert seen == {f"kvbm_{name}", f"kvbm_{name}_total", spelled}


def test_tokens_have_a_denominator() -> None:
    """So that the hit rate is a ratio of two rates."""
    metrics = KvbmMetrics()
    for matched, requested in [(3, 10), (0, 10), (7, 7)]:
        metrics.matched(matched, requested)
    page = shown(metrics)
    assert page["kvbm_matched_tokens"] == page["kvbm_matched_tokens_total"] == 10
    assert page["kvbm_requested_tokens_total"] == 27


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30))
def test_hit_rates_go_over_the_last_requests(requests: list[tuple[int, int]]) -> None:
    """By blocks; of a tier of which no block was asked there is none."""
    metrics = KvbmMetrics(window=5)
    for hits, misses in requests:
        metrics.looked_up("host", hits, hits + misses)
    last = requests[-5:]
    hits, blocks = sum(hit for hit, _ in last), sum(map(sum, last))
    expected = {"kvbm_host_cache_hit_rate": hits / blocks} if blocks else {}
    assert {name: rate for name, rate in shown(metrics).items() if "rate" in name} == expected


def test_failures_of_the_object_store() -> None:
    """By what failed."""
    metrics = KvbmMetrics()
    metrics.object_failed("read")
    page = shown(metrics)
    assert (page["kvbm_object_read_failures"], page["kvbm_object_write_failures"]) == (1, 0)


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("offloaded", ("device", "device")),
        ("offloaded", ("disk", "host")),
        ("onboarded", ("cloud",)),
        ("offloaded", ("device", "host", -1)),
        ("matched", (2, 1)),
        ("matched", (-1, 1)),
        ("looked_up", ("device", 1, 1)),
        ("looked_up", ("host", 2, 1)),
        ("object_failed", ("delete",)),
        ("offloaded", ("device", "host", math.nan)),
        ("offloaded", ("device", "host", math.inf)),
        ("matched", (math.inf, math.inf)),
        ("looked_up", ("host", math.inf, math.inf)),
    ],
)
def test_what_cannot_be_counted(method: str, arguments: tuple[Any, ...]) -> None:
    """Is an error with the numbers, and nothing is counted."""
    metrics = KvbmMetrics()
    before = shown(metrics)
    with pytest.raises(KvbmError):
        getattr(metrics, method)(*arguments)
    assert shown(metrics) == before


def test_names_are_normalised_and_labels_are_constant() -> None:
    """Of metrics of one's own, too; values stay as they are."""
    metrics = KvbmMetrics({"rank": "x/0"})
    metrics.create_counter("my-evictions", "Evictions.", ["tier"]).labels("a-b").inc(2)
    metrics.create_gauge("kvbm_depth", "Depth.").set(3)
    page = shown(metrics)
    assert page["kvbm_my_evictions_total{rank=x/0,tier=a-b}"] == 2
    assert page["kvbm_depth{rank=x/0}"] == 3
    with pytest.raises(LabelError):
        KvbmMetrics({"le": "1"})


@pytest.mark.parametrize(
    "name",
    [
        *("offload_blocks_d2h", "kvbm_offload_blocks_d2h_total", "onboard-blocks"),
        *("matched_tokens", "requested_tokens"),
        *("object_read_failures_total", "host_cache_hit_rate"),
    ],
)
@pytest.mark.parametrize("make", [KvbmMetrics.create_counter, KvbmMetrics.create_gauge])
def test_names_that_are_there_already(make: Callable[..., Any], name: str) -> None:
    """Would be twice on the page."""
    with pytest.raises(MetricConflictError):
        make(KvbmMetrics(), name, "Another one.")


@pytest.mark.parametrize("window", [0, -1, math.nan])
def test_a_window_without_a_request(window: Any) -> None:
    """Has no rate."""
    with pytest.raises(KvbmError, match="requests in a window"):
        KvbmMetrics(window=window)


@pytest.mark.parametrize(
    ("variables", "port"),
    [
        ({}, None),
        ({"DYN_KVBM_METRICS": "false", "DYN_KVBM_METRICS_PORT": "7000"}, None),
        ({"DYN_KVBM_METRICS": "true"}, 6880),
        ({"DYN_KVBM_METRICS": "1", "DYN_KVBM_METRICS_PORT": "7000"}, 7000),
        ({"DYN_KVBM_METRICS": "True", "DYN_KVBM_METRICS_PORT": "70000"}, 6880),
        ({"DYN_KVBM_METRICS": "true", "DYN_KVBM_METRICS_PORT": "many"}, 6880),
        ({"DYN_KVBM_METRICS": "true", "DYN_KVBM_METRICS_PORT": "9" * 5000}, 6880),
    ],
)
def test_variables(variables: dict[str, str], port: int | None) -> None:
    """Those that upstream has."""
    assert kvbm_port(variables) == port


def test_a_port_that_is_taken_is_no_crash(caplog: pytest.LogCaptureFixture) -> None:
    """Another one is taken, and it is said which."""
    metrics = KvbmMetrics()
    metrics.offloaded("device", "host", 4)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        serving = serve_kvbm(metrics, port=port)
    try:
        assert not serving.address.endswith(f":{port}")
        assert serving.address in caplog.text
        with urlopen(f"{serving.address}/metrics", timeout=PATIENCE) as response:
            assert b"kvbm_offload_blocks_d2h 4.0\n" in response.read()
    finally:
        serving.stop()
