"""Compare what vLLM's stat loggers and our plugin write in several API servers, merged.

vLLM finds the plugin by its own loader. Each report of an engine reaches one of the servers, by
chance. The gauges of the plugin have to agree with vLLM's, and the merged page with the page that
prometheus_client makes of the same directory.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Final

from prometheus_client import CollectorRegistry, multiprocess

import mpmetrics
from mpmetrics.engines.plugin import DEFAULT_COMPONENT
from tests.upstream.configuration import load, make_config
from tests.upstream.reporting import compare, count, differ
from tests.workers import spawn

SERVERS: Final = 3
ENGINES: Final = (0, 1)
REPORTS: Final = 60
SEED: Final = 33


def serve(orders: IO[str]) -> None:
    """Be one API server: record what the *orders* say, a report on each line, and answer each."""
    loggers, stats = load("vllm.v1.metrics.loggers"), load("vllm.v1.metrics.stats")
    factories = loggers.load_stat_logger_plugin_factories()
    names = [factory.__name__ for factory in factories]
    manager = loggers.StatLoggerManager(
        make_config(speculative_config=None, kv_transfer_config=None),
        engine_idxs=list(ENGINES),
        custom_stat_loggers=factories,
        enable_default_loggers=False,
        client_count=SERVERS,
    )
    manager.log_engine_initialized()
    print("ready", *names, flush=True)
    for order in orders:
        engine, usage, queries, hits, running = order.split()
        scheduler = stats.SchedulerStats(
            num_running_reqs=int(running),
            kv_cache_usage=float(usage),
            prefix_cache_stats=stats.PrefixCacheStats(
                requests=1, queries=int(queries), hits=int(hits)
            ),
        )
        iteration = stats.IterationStats()
        iteration.num_generation_tokens = int(running)
        manager.record(scheduler, iteration, engine_idx=int(engine))
        print("done", flush=True)


def read_page(families: Any) -> dict[Any, float]:
    """Return the series of *families*, by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def drive(directory: str) -> dict[int, tuple[float, float]]:
    """Run the servers in a *directory*; return the last usage and hit rate of each engine."""
    last: dict[int, tuple[float, float]] = {}
    chance = random.Random(SEED)
    with ExitStack() as stack:
        servers = [
            stack.enter_context(
                spawn(
                    [sys.executable, "-W", "ignore", "-m", "tests.upstream.loggers", "serve"],
                    env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": directory},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(SERVERS)
        ]
        for server in servers:
            line = wait_for(server, "ready")
            if "VllmStatLogger" not in line:
                differ(f"vLLM has loaded {line} and not our plugin")
        for _ in range(REPORTS):
            engine, server = chance.choice(ENGINES), chance.choice(servers)
            usage, queries = chance.random(), chance.randrange(1, 100)
            hits = chance.randrange(queries)
            assert server.stdin is not None
            server.stdin.write(f"{engine} {usage} {queries} {hits} {chance.randrange(9)}\n")
            server.stdin.flush()
            wait_for(server, "done")
            last[engine] = usage, hits / queries
        compare_pages(directory, last)
        for server in servers:
            assert server.stdin is not None
            server.stdin.close()
            server.wait()
    return last


def wait_for(server: subprocess.Popen[str], word: str) -> str:
    """Return the next line of a *server* that begins with *word*."""
    assert server.stdout is not None
    for line in server.stdout:
        if line.startswith(word):
            return line.strip()
    message = f"a server has ended before it said {word!r}"
    raise RuntimeError(message)


def compare_pages(directory: str, last: dict[int, tuple[float, float]]) -> None:
    """Compare the merged page with prometheus_client's, and the plugin's gauges with vLLM's."""
    ours = read_page(mpmetrics.collect(directory).families)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, directory)
    theirs = read_page(registry.collect())
    for key in theirs.keys() | ours.keys():
        if key[0] != "vllm:lora_requests_info":
            compare(f"page: {key}", theirs.get(key), ours.get(key))
    count(f"{len(theirs)} series of {SERVERS} servers")
    for engine, (usage, rate) in last.items():
        own = (("engine", str(engine)), ("model_name", "m"))
        compare(f"vLLM's usage of {engine}", ours["vllm:kv_cache_usage_perc", own], usage)
        labels = (
            ("dp_rank", str(engine)),
            ("dynamo_component", DEFAULT_COMPONENT),
            ("model", "m"),
        )
        shown = "gpu_cache_usage_percent", "kv_cache_hit_rate", "total_blocks"
        for name, value in zip(shown, (usage, rate, 100), strict=True):
            key = (f"dynamo_component_{name}", labels)
            compare(f"the plugin's {name} of {engine}", value, ours.get(key))
    count(f"gauges of {len(last)} engines after {REPORTS} reports")


def main(argument: str) -> None:
    """Be a server, or drive servers in a scratch directory."""
    if argument == "serve":
        serve(sys.stdin)
        return
    directory = Path(argument, "files")
    directory.mkdir()
    drive(str(directory))


if __name__ == "__main__":
    main(sys.argv[1])
