"""KVBM's metrics: upstream's names, better names beside them, and a page on any port."""

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


def render(metrics: KvbmMetrics) -> dict[str, float]:
    """Return the series of a page of *metrics*; render it in both formats."""
    page = mpmetrics.Page(metrics)
    assert page.render(openmetrics=True).endswith(b"# EOF\n")
    return series(page.render().decode())


def test_all_names_are_there_from_the_beginning() -> None:
    """All of upstream's names are on the page at 0 from the beginning, but no hit rates."""
    names = [*TRANSFERS, "matched_tokens", "object_read_failures", "object_write_failures"]
    expected = {f"kvbm_{name}{suffix}": 0 for name in names for suffix in ("", "_total")}
    expected["kvbm_requested_tokens_total"] = 0
    for transfer in TRANSFERS.values():
        labels = f"source={transfer.source},target={transfer.target}"
        expected[f"kvbm_{transfer.family}_total{{{labels}}}"] = 0
    assert render(KvbmMetrics()) == expected


def test_the_same_letters_for_different_transfers() -> None:
    """`h2d` is host to disk when offloading, and host to device when onboarding."""
    metrics = KvbmMetrics({"worker_id": "a-1"})
    metrics.offloaded("host", "disk", 3)
    metrics.onboarded("host", blocks=5)
    seen = {name: value for name, value in render(metrics).items() if value}
    assert seen == {
        "kvbm_offload_blocks_h2d{worker_id=a-1}": 3,
        "kvbm_offload_blocks_h2d_total{worker_id=a-1}": 3,
        "kvbm_offload_blocks_total{source=host,target=disk,worker_id=a-1}": 3,
        "kvbm_onboard_blocks_h2d{worker_id=a-1}": 5,
        "kvbm_onboard_blocks_h2d_total{worker_id=a-1}": 5,
        "kvbm_onboard_blocks_total{source=host,target=device,worker_id=a-1}": 5,
    }


@pytest.mark.parametrize("name", TRANSFERS)
def test_every_transfer_is_counted(name: str) -> None:
    """Each transfer is counted under its own names only."""
    metrics, transfer = KvbmMetrics(), TRANSFERS[name]
    count = metrics.offloaded if transfer.family == "offload_blocks" else metrics.onboarded
    count(transfer.source, transfer.target)
    seen = {each for each, value in render(metrics).items() if value}
    labels = f"source={transfer.source},target={transfer.target}"
    spelled = f"kvbm_{transfer.family}_total{{{labels}}}"
    assert seen == {f"kvbm_{name}", f"kvbm_{name}_total", spelled}


def test_tokens_have_a_denominator() -> None:
    """Requested tokens are counted, so that the hit rate is a ratio of two rates."""
    metrics = KvbmMetrics()
    for matched, requested in [(3, 10), (0, 10), (7, 7)]:
        metrics.matched(matched, requested)
    page = render(metrics)
    assert page["kvbm_matched_tokens"] == page["kvbm_matched_tokens_total"] == 10
    assert page["kvbm_requested_tokens_total"] == 27


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30))
def test_hit_rates_cover_the_last_requests(requests: list[tuple[int, int]]) -> None:
    """A hit rate covers the blocks of the last requests.

    A tier of which no block was looked for has no hit rate.
    """
    metrics = KvbmMetrics(window=5)
    for hits, misses in requests:
        metrics.looked_up("host", hits, hits + misses)
    last = requests[-5:]
    hits, blocks = sum(hit for hit, _ in last), sum(map(sum, last))
    expected = {"kvbm_host_cache_hit_rate": hits / blocks} if blocks else {}
    assert {name: rate for name, rate in render(metrics).items() if "rate" in name} == expected


def test_failures_of_the_object_store() -> None:
    """Failures of the object store are counted by operation."""
    metrics = KvbmMetrics()
    metrics.object_failed("read")
    page = render(metrics)
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
def test_impossible_numbers(method: str, arguments: tuple[Any, ...]) -> None:
    """Impossible numbers and tiers raise `KvbmError`, and nothing is counted."""
    metrics = KvbmMetrics()
    before = render(metrics)
    with pytest.raises(KvbmError):
        getattr(metrics, method)(*arguments)
    assert render(metrics) == before


def test_further_metrics() -> None:
    """Further metrics get sanitized names and the constant labels; label values are not changed."""
    metrics = KvbmMetrics({"rank": "x/0"})
    metrics.create_counter("my-evictions", "Evictions.", ["tier"]).labels("a-b").inc(2)
    metrics.create_gauge("kvbm_depth", "Depth.").set(3)
    page = render(metrics)
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
def test_names_that_are_taken(make: Callable[..., Any], name: str) -> None:
    """A further metric cannot have a name that is on the page."""
    with pytest.raises(MetricConflictError):
        make(KvbmMetrics(), name, "Another one.")


@pytest.mark.parametrize("window", [0, -1, math.nan])
def test_a_window_without_a_request(window: Any) -> None:
    """A window must hold at least one request."""
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
    """The port comes from upstream's variables."""
    assert kvbm_port(variables) == port


def test_a_port_that_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    """If the port is taken, the page is served on another, which the log names."""
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
