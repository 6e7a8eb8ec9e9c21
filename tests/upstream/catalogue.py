"""Compare the tables of families with the metrics that the real packages make.

The sources of the packages are searched for names, too, so that a family of a module that is not
known here shows up.
"""

from __future__ import annotations

import ast
import re
import sys
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import prometheus_client
from prometheus_client import REGISTRY, Counter, Gauge, Histogram

from mpmetrics._client import definition_of, names_by_collector
from mpmetrics.engines.connectors import CONNECTOR_FAMILIES, offload_info
from mpmetrics.engines.families import (
    DYNAMO_FAMILIES,
    LMCACHE_FAMILIES,
    VLLM_FAMILIES,
    Family,
)
from tests.upstream.configuration import load, make_config
from tests.upstream.reporting import compare, count, differ

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

TYPES: Final = {Gauge: Gauge, Counter: Counter, Histogram: Histogram}
LABELS: Final = ["model_name", "engine"]
VALUES: Final[dict[int, list[object]]] = {0: ["m", "0"]}

CONNECTORS: Final[Mapping[str, tuple[str, str]]] = {
    "NixlPullConnector": ("nixl.stats", "NixlPromMetrics"),
    "MooncakeConnector": ("mooncake.stats", "MooncakePromMetrics"),
    "MooncakeStoreConnector": ("mooncake.store.metrics", "MooncakeStorePromMetrics"),
    "HF3FSKVConnector": ("hf3fs.hf3fs_connector", "HF3FSPromMetrics"),
    "HiSparseConnector": ("hisparse.stats", "HiSparsePromMetrics"),
    "UMBPStoreConnector": ("umbp.stats", "UMBPStorePromMetrics"),
    "OffloadingConnector": ("offloading.metrics", "OffloadPromMetrics"),
}
"""The class of metrics of each connector, and its module among those of connectors."""

PACKAGE: Final = "vllm.distributed.kv_transfer.kv_connector.v1"

TIERS: Final = [{"type": "example"}, {"type": "kvcr", "enable_telemetry": True}]
"""A configuration of tiers under which all families of tiers exist."""

OPEN_LABELS: Final = {"vllm:cache_config_info", "vllm:kv_offload_config_info"}
"""Families whose labels depend on the configuration."""

NAME: Final = re.compile(r"(vllm|lmcache):[a-z][a-z0-9_]*[a-z0-9]")


def make_vllm() -> None:
    """Make the metrics of vLLM itself."""
    loggers = load("vllm.v1.metrics.loggers")
    loggers.PrometheusStatLogger(make_config(), [0]).log_engine_initialized()
    load("vllm.parser.metrics").init_parser_metrics(model_name="m")
    load("vllm.entrypoints.serve.dev.sleep.metrics").SleepModeOperationMetrics()
    load("vllm.entrypoints.rl.online.metrics").WeightOperationMetrics()
    load("vllm.entrypoints.speech_to_text.realtime.metrics")


def make_diffusion() -> None:
    """Make the metrics that vLLM has for a diffusion model."""
    config = make_config()
    config.model_config.is_diffusion = True
    load("vllm.v1.metrics.loggers").PrometheusStatLogger(config, [0])


def stub_nixl() -> None:
    """Let the tier KVCR be imported without NIXL, which needs the libraries of a GPU."""
    if "nixl" not in sys.modules:
        stub: Any = ModuleType("nixl")
        stub.nixl_agent = stub.nixl_agent_config = object
        sys.modules["nixl"] = stub


def make_connector(name: str, extra: dict[str, Any] | None = None) -> Any:
    """Make the metrics of a connector by its name; return the object that shows its numbers."""
    module, kind = CONNECTORS[name]
    if extra:
        stub_nixl()
    config = load("vllm.config").KVTransferConfig(
        kv_connector="OffloadingConnector",
        kv_role="kv_both",
        kv_connector_extra_config=extra or {"cpu_bytes_to_use": 1 << 30, "store_threshold": 2},
    )
    make = getattr(load(f"{PACKAGE}.{module}"), kind)
    return make(make_config(kv_transfer_config=config), TYPES, LABELS, VALUES)


def make_simple_offloading() -> Any:
    """Make the metrics of simple offloading; return the object that shows its numbers."""
    make = load("vllm.v1.simple_kv_offload.metrics").SimpleCPUOffloadPromMetrics
    return make(make_config(), TYPES, LABELS, VALUES)


def make_lmcache_server() -> Any:
    """Make the metrics that LMCache's connector has in vLLM; return the object that shows them."""
    load("lmcache.integration.vllm.vllm_multi_process_adapter")
    make = load("lmcache.integration.vllm.lmcache_mp_metrics").LMCacheMPPromMetrics
    return make(make_config(), TYPES, LABELS, VALUES)


def make_lmcache() -> None:
    """Make the metrics of LMCache in an engine, and those of its cache controller."""
    metadata = SimpleNamespace(
        model_name="m", worker_id=0, role="worker", served_model_name="s", engine_id="e"
    )
    load("lmcache.observability").PrometheusLogger(metadata, None)
    controller = load("lmcache.v1.cache_controller.observability")
    controller.PrometheusLogger({"role": "controller"})


class _Metrics:
    """The `metrics` of an endpoint, which calls each callback once."""

    def register_prometheus_expfmt_callback(self, callback: Callable[[], str]) -> None:
        """Call it."""
        callback()

    def register_prometheus_typed_callback(self, callback: Callable[[], object]) -> None:
        """Call it."""
        callback()


def make_dynamo() -> None:
    """Make the metrics of a Dynamo component, all of them in the global registry."""
    helpers = load("dynamo.common.utils.prometheus")
    helpers.LLMBackendMetrics(REGISTRY)
    endpoint = SimpleNamespace(metrics=_Metrics())
    names = ("hits", "misses", "evictions", "utilization", "current_bytes", "entries")
    cache = SimpleNamespace(stats=dict.fromkeys(names, 0))
    loader = SimpleNamespace(shared_image_cache_stats=None, cache_entries=0)
    make_registry = prometheus_client.CollectorRegistry
    prometheus_client.CollectorRegistry = lambda: REGISTRY  # type: ignore[assignment, misc]
    try:
        helpers.register_embedding_cache_metrics(endpoint, cache)
        helpers.register_image_loader_metrics(endpoint, loader)
    finally:
        prometheus_client.CollectorRegistry = make_registry  # type: ignore[misc]


def take_definitions() -> Iterator[Any]:
    """Yield the definitions of all metrics in the global registry, and unregister them."""
    for collector in names_by_collector(REGISTRY):
        definition = definition_of(collector)
        if definition is not None:
            yield definition
        REGISTRY.unregister(collector)


def describe(definition: Any) -> tuple[str, str, list[str], list[float], str]:
    """Return a *definition* for a comparison, or a row of a table."""
    kind = definition.type
    name = definition.name.removesuffix("_total") if kind == "counter" else definition.name
    labels = sorted(definition.labels)
    buckets = [edge for edge in definition.buckets if edge != float("inf")]
    return name, kind, labels, buckets, definition.mode or ("all" if kind == "gauge" else "")


def find_names(package: str) -> Iterator[tuple[str, Path]]:
    """Yield each name of a family in the sources of a *package*, with the file."""
    for path in Path(load(package).__file__).parent.rglob("*.py"):
        text = path.read_text("utf-8")
        if not {"tests", "benchmarks"}.isdisjoint(path.parts) or not NAME.search(text):
            continue
        for node in ast.walk(ast.parse(text)):
            value = node.value if isinstance(node, ast.Constant) else None
            if isinstance(value, str) and NAME.fullmatch(value):
                yield value, path


def main() -> None:
    """Compare in both directions."""
    tables = [*VLLM_FAMILIES, *LMCACHE_FAMILIES, *DYNAMO_FAMILIES]
    rows: dict[str, Family] = {describe(family)[0]: family for family in tables}
    found: dict[str, Any] = {}
    makers: list[Callable[[], Any]] = [
        make_vllm,
        make_diffusion,
        *(partial(make_connector, name) for name in CONNECTORS),
        partial(
            make_connector,
            "OffloadingConnector",
            {
                "spec_name": "TieringOffloadingSpec",
                "cpu_bytes_to_use": 1 << 30,
                "secondary_tiers": TIERS,
            },
        ),
        make_simple_offloading,
        make_lmcache_server,
        make_lmcache,
        make_dynamo,
    ]
    list(take_definitions())
    for make in makers:
        make()
        found.update((describe(each)[0], each) for each in take_definitions())
    for name, definition in found.items():
        if name not in rows:
            differ(f"{name} is in no table")
            continue
        theirs, ours = list(describe(definition)), list(describe(rows[name]))
        if name in OPEN_LABELS:
            theirs[2] = ours[2] = []
        compare(name, theirs, ours)
    for name in rows.keys() - found.keys():
        differ(f"{name} is in a table, and nothing upstream makes it")
    count(f"{len(found)} families")
    names = {name for name, _ in names_in_sources()}
    for name, path in names_in_sources():
        if name.removesuffix("_total") not in rows and name not in rows:
            differ(f"{name}, in {path}, is in no table")
    count(f"{len(names)} names in sources")
    declared = {family.name for each in CONNECTOR_FAMILIES.values() for family in each}
    for name in declared - {family.name for family in VLLM_FAMILIES} - {offload_info().name}:
        differ(f"{name} is declared by a connector, and in no table")


def names_in_sources() -> list[tuple[str, Path]]:
    """Return the names in the sources of vLLM and LMCache, with their files."""
    return [each for package in ("vllm", "lmcache") for each in find_names(package)]


if __name__ == "__main__":
    main()
