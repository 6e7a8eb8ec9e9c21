"""The page of a Dynamo worker: a real runtime, a simulated vLLM with LMCache, each metric once.

    make demo-engines

This process is the worker: it has the runtime, and counts some requests itself. The processes of
`vllm_simulation.py` are the engine behind it, with families of the same names. The program fetches
the page from the runtime's own HTTP server, and compares it with the values in the files and with
the text that you get by appending one registry after the other. It exits with status 1 if anything
is on the page twice or has a wrong value. It leaves no files behind.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

from mpmetrics.engines import LMCACHE, VLLM, ensure_multiproc_dir, setup_metrics_collection

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 30
"""Seconds to wait for the page."""

OWN_REQUESTS = 3
SHOWN = (
    "vllm:request_success_total",
    "vllm:prompt_tokens_by_source_total",
    "vllm:iteration_tokens_total_count",
    "lmcache:num_hit_tokens_total",
    "dynamo_component_total_blocks",
    "mpmetrics_source_up",
    "mpmetrics_files",
)


def main() -> int:
    """Run the demo; return its exit status."""
    # Before anything imports prometheus_client.
    with ensure_multiproc_dir("mpmetrics-demo-") as directory, run_engine():
        registry = count_own_requests()
        page = asyncio.run(scrape(registry))
        show(page)
        return compare(page, directory.path)


@contextmanager
def run_engine() -> Iterator[None]:
    """Run the simulated engine: the block begins when it has replayed everything."""
    program = Path(__file__).with_name("vllm_simulation.py")
    process = subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True)
    with process:
        try:
            print((process.stdout or sys.stdin).readline(), end="", flush=True)
            yield
        finally:
            process.terminate()


def count_own_requests() -> Any:
    """Count requests in this process, too; return a registry with the worker's own gauges."""
    from prometheus_client import CollectorRegistry
    from prometheus_client import Counter as PrometheusCounter

    from mpmetrics.engines import ComponentGauges

    labels = ("model_name", "engine", "finished_reason")
    requests = PrometheusCounter("vllm:request_success", "Requests that are over", labels)
    requests.labels("simulated", "0", "stop").inc(OWN_REQUESTS)
    registry = CollectorRegistry()
    gauges = ComponentGauges(registry, model_name="simulated", component_name="backend")
    gauges.set_total_blocks(0, 32_768)
    return registry


async def scrape(component_registry: Any) -> str:
    """Start a runtime, set up the metrics of its endpoint, and return its page."""
    os.environ |= {"DYN_SYSTEM_PORT": "0", "DYN_SYSTEM_HOST": "127.0.0.1", "DYN_LOG": "off"}
    from dynamo.runtime import DistributedRuntime  # reads the environment

    runtime = DistributedRuntime(asyncio.get_running_loop(), "mem", "tcp")
    try:
        endpoint = runtime.endpoint("demo.backend.generate")
        with setup_metrics_collection(
            endpoint,
            component_registry=component_registry,
            namespace_name="demo",
            component_name="backend",
            model_name="simulated",
        ) as setup:
            print(f"{setup.mode}: {setup.reason.partition(':')[0]}\n")
            return await asyncio.to_thread(fetch, f"http://127.0.0.1:{find_port()}/metrics")
    finally:
        runtime.shutdown()


def find_port() -> int:
    """Return the port on which this process listens, which the kernel has chosen."""
    links = list(Path("/proc/self/fd").iterdir())
    sockets = {str(link.readlink()) for link in links if link.is_symlink()}
    for line in Path("/proc/self/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        _, local, _, state, *_, inode = line.split()[:10]
        if state == "0A" and f"socket:[{inode}]" in sockets:
            return int(local.rpartition(":")[2], 16)
    message = "the runtime does not listen"
    raise OSError(message)


def fetch(url: str) -> str:
    """Fetch the page at *url*."""
    with urlopen(url, timeout=PATIENCE) as response:  # noqa: S310 - our own server
        return str(response.read().decode())


def show(page: str) -> None:
    """Print some lines of the *page*."""
    for line in page.splitlines():
        if line.startswith(SHOWN):
            print(line)
    print("…\n")


def compare(page: str, directory: str) -> int:
    """Print what is there twice, on this page and in appended texts; return the exit status."""
    from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    merged = CollectorRegistry()
    MultiProcessCollector(merged, directory)
    texts = [generate_latest(registry).decode() for registry in (REGISTRY, merged)]
    appended = "".join(texts).splitlines()
    right = count_requests(texts[1].splitlines())
    print("                       families  twice  without series  requests answered")
    for title, lines in [("today, texts appended", appended), ("this page", page.splitlines())]:
        families = count_families(lines)
        empty = sum(f"# TYPE {name} " in line for name in families for line in find_empty(lines))
        figures = (
            f"{len(families):8}  {count_twice(families):5}  {empty:14}  {count_requests(lines):17}"
        )
        print(f"{title:21}  {figures}")
    print()
    here = count_families(page.splitlines())
    if count_twice(here) or count_requests(page.splitlines()) != right:
        print("demo: something is there twice, or has another value", file=sys.stderr)
        return 1
    print(
        f"Each family is there once, and all {right} requests are counted:"
        f" {right - OWN_REQUESTS} that\nthe engine has replayed, and {OWN_REQUESTS} that this"
        " worker counted itself. Of equal series\nin appended texts Prometheus takes the first,"
        " and so it misses requests."
    )
    return 0


def count_families(lines: list[str]) -> Counter[str]:
    """Count the TYPE lines of each family of the engine."""
    names = [line.split()[2] for line in lines if line.startswith("# TYPE ")]
    # Files have no `_created`; only the registry of the process has it.
    return Counter(
        name for name in names if name.startswith((VLLM, LMCACHE)) and "_created" not in name
    )


def find_empty(lines: list[str]) -> list[str]:
    """Return the TYPE lines that are not followed by a series."""
    following = [*lines[1:], "#"]
    pairs = zip(lines, following, strict=True)
    return [line for line, after in pairs if line.startswith("# TYPE ") and after.startswith("#")]


def count_twice(families: Counter[str]) -> int:
    """Return the number of *families* that are there more than once."""
    return sum(count > 1 for count in families.values())


def count_requests(lines: list[str]) -> int:
    """Return the number of requests, as Prometheus counts it: by the first of equal series."""
    first: dict[str, float] = {}
    for line in lines:
        series, _, value = line.rpartition(" ")
        if series.startswith("vllm:request_success_total{"):
            first.setdefault(find_reason(series), float(value))
    return int(sum(first.values()))


def find_reason(series: str) -> str:
    """Return the label in which the series differ."""
    return next(part for part in series.split(",") if "finished_reason" in part).strip("}")


if __name__ == "__main__":
    sys.exit(main())
