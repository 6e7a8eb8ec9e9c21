"""Programs that type checkers must accept, and wrong ones that they must refuse.

mypy (`--strict`) and pyright (strict) read this file; nothing runs it. A line that must be refused
has an ignore comment, and an ignore comment that is not needed is an error.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import mpmetrics
from mpmetrics import engines
from mpmetrics.engines import events

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prometheus_client import CollectorRegistry, Metric

    from mpmetrics.engines.dynamo import Endpoint


def read_a_directory(path: Path) -> bytes:
    collection = mpmetrics.collect(path)
    families: Sequence[Metric] = collection.families
    problems: Sequence[mpmetrics.Problem] = collection.problems
    reasons: list[str] = [problem.reason for problem in problems]
    print(len(families), reasons)
    return collection.render(openmetrics=True)


def replace_the_collector(registry: CollectorRegistry) -> None:
    collector = mpmetrics.MultiProcessCollector(registry, path="/run/metrics")
    for family in collector.collect():
        print(family.name, [sample.value for sample in family.samples])
    mpmetrics.mark_process_dead(7)


def serve_a_page(registry: CollectorRegistry) -> None:
    page = mpmetrics.Page(
        ["/run/metrics", registry, lambda: "up 1\n", "http://127.0.0.1:9100/metrics"],
        include=("vllm:", engines.DYNAMO_COMPONENT),
        exclude="vllm:internal_",
        labels={"host": "a"},
        timeout=1.0,
    )
    one = mpmetrics.Page(Path("/run/metrics"))
    print(mpmetrics.make_asgi_app(page), mpmetrics.make_wsgi_app(one))
    for given in (registry, mpmetrics.register(), "/run/metrics", Path("/run/metrics")):
        print(mpmetrics.make_asgi_app(given), mpmetrics.make_wsgi_app(given))
    print(mpmetrics.make_wsgi_app([mpmetrics.register(), "http://127.0.0.1:9100/metrics"]))


def register_the_view() -> mpmetrics.Page:
    registration = mpmetrics.register()
    if registration.mode == "in_process":
        print(registration.reason)
    return registration.page(include="shop_", timeout=2.0)


def compact_a_directory() -> int:
    compaction = mpmetrics.compact("/run/metrics", keep_dead_gauges=True)
    liveness: mpmetrics.Liveness = mpmetrics.is_alive("/run/metrics/counter_1.db")
    return compaction.generation if liveness is mpmetrics.Liveness.DEAD else 0


def pass_events_on() -> None:
    source = events.EventSource(events.publishers("tcp://127.0.0.1:5557"))
    bridge = engines.EventBridge(source, [engines.CallbackSink(print)])
    bridge.start()
    bridge.stop()


def watch_an_engine(endpoint: Endpoint) -> str:
    directory = engines.ensure_multiproc_dir("vllm_prometheus_")
    setup = engines.setup_metrics_collection(
        endpoint, include=(engines.VLLM, engines.LMCACHE), exclude="vllm:internal_"
    )
    print(directory.path, setup.problems())
    return setup.reason


# -- what must be refused ---------------------------------------------------------------------


def misuse(page: mpmetrics.Page) -> None:
    mpmetrics.collect(7)  # type: ignore[arg-type]
    mpmetrics.collect("/run/metrics").families.append  # type: ignore[attr-defined]
    mpmetrics.Page(3.5)  # type: ignore[arg-type]
    mpmetrics.Page("/run/metrics", labels={"host": 1})  # type: ignore[dict-item]
    mpmetrics.make_wsgi_app(7)  # type: ignore[arg-type]
    mpmetrics.make_asgi_app(None)  # type: ignore[arg-type]
    mpmetrics.make_wsgi_app([page])  # type: ignore[list-item]
    page.render("openmetrics")  # type: ignore[arg-type]
    mpmetrics.register().mode == "separate"  # type: ignore[comparison-overlap]
    mpmetrics.nothing  # type: ignore[attr-defined]
    engines.nothing  # type: ignore[attr-defined]
