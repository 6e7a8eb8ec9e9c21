"""The page of a real Dynamo runtime, scraped from its own HTTP server.

The process of the runtime has families in memory or in files, and other processes write families
of the same names: on the page each family is once, merged, and labelled.
"""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest

from tests.conftest import require_package
from tests.engines.endpoints import series
from tests.workers import PATIENCE, Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

require_package("dynamo", extra="dynamo")

RUNTIME = """
import asyncio, logging, os, re, threading
from dynamo.runtime import DistributedRuntime
from mpmetrics.engines import *

logged = []
handler = logging.Handler()
handler.emit = lambda record: logged.append(record.getMessage())
logging.getLogger("mpmetrics").addHandler(handler)

loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()

async def start():
    return DistributedRuntime(asyncio.get_running_loop(), "mem", "tcp")

def listening():
    links = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
    inodes = {os.readlink(link) for link in links if os.path.lexists(link)}
    with open("/proc/self/net/tcp") as table:
        rows = [row.split() for row in table.readlines()[1:]]
    return [
        int(row[1].split(":")[1], 16)
        for row in rows
        if row[3] == "0A" and row[1].startswith("0100007F") and f"socket:[{row[9]}]" in inodes
    ]

runtime = asyncio.run_coroutine_threadsafe(start(), loop).result()
endpoint = runtime.endpoint("my-ns.backend.generate")
components = CollectorRegistry()
Gauge("dynamo_component_total_blocks", "", ["dp_rank"], registry=components).labels("0").set(64)
"""

OWN = """
requests = Counter("vllm:requests", "Requests.", ["model_name"]).labels("m")
requests.inc(3)
Gauge("vllm:running", "", multiprocess_mode="mostrecent").set(1)
Histogram("vllm:latency_seconds", "", buckets=[1, 2]).observe(1.5)
Counter("lmcache:hits", "", ["worker_id"]).labels("0").inc(5)
Gauge("vllm:only_here", "", multiprocess_mode="max").set(2)
"""

SETUP = """
setup = setup_metrics_collection(
    endpoint,
    component_registry=components,
    namespace_name="my-ns",
    component_name="backend",
    model_name="Qwen/Qwen3-0.6B",
)
"""

VARIABLES = {"DYN_SYSTEM_PORT": "0", "DYN_SYSTEM_HOST": "127.0.0.1", "DYN_LOG": "off"}

MODEL = "model=Qwen/Qwen3-0.6B"
IDENTITY = "dynamo_component=backend,dynamo_endpoint=generate,dynamo_namespace=my-ns"
COMPONENT = {"dynamo_component_total_blocks{dp_rank=0}": 64.0}


class Runtime:
    """A process with a Dynamo runtime, and the URL of its page."""

    def __init__(self, worker: Worker) -> None:
        """Ask the *worker*, which runs the runtime, for the port."""
        self.worker = worker
        self.do, self.ask = worker.do, worker.ask
        (port,) = worker.ask("listening()")
        self.url = f"http://127.0.0.1:{port}/metrics"
        self.number = worker.ask("format(endpoint.connection_id(), 'x')")

    def page(self) -> str:
        """Return the page as Dynamo serves it."""
        with urlopen(self.url, timeout=PATIENCE) as response:
            assert response.status == 200
            return str(response.read().decode())

    def series(self, *, about: bool = False) -> dict[str, float]:
        """Return the series of the page, without those of Dynamo itself."""
        found = series(self.page(), about=about)
        return {name: value for name, value in found.items() if "_uptime_" not in name}

    def counted(self, requests: float, hits: float) -> dict[str, float]:
        """Return the series of the two counters."""
        common = f"{IDENTITY},{MODEL}"
        own = f"model_name=m,worker_id={self.number}"
        lmcache = "model_name=Qwen/Qwen3-0.6B,worker_id=0"
        return {
            f"vllm:requests_total{{{common},{own}}}": requests,
            f"lmcache:hits_total{{{common},{lmcache}}}": hits,
        }

    def timed(self, second: float, all_: float, sum_: float) -> dict[str, float]:
        """Return the series of the histogram."""
        labels = f"{IDENTITY},{{}}{MODEL},model_name=Qwen/Qwen3-0.6B,worker_id={self.number}"
        plain, name = labels.format(""), "vllm:latency_seconds"
        return {
            f"{name}_bucket{{{labels.format('le=1.0,')}}}": 0,
            f"{name}_bucket{{{labels.format('le=2.0,')}}}": second,
            f"{name}_bucket{{{labels.format('le=+Inf,')}}}": all_,
            f"{name}_count{{{plain}}}": all_,
            f"{name}_sum{{{plain}}}": sum_,
        }

    def gauge(self, name: str, value: float) -> dict[str, float]:
        """Return the one series of a gauge."""
        labels = f"{IDENTITY},{MODEL},model_name=Qwen/Qwen3-0.6B,worker_id={self.number}"
        return {f"vllm:{name}{{{labels}}}": value}


@contextmanager
def runtime(directory: Path | None, *, first: str = "", tmp: Path) -> Iterator[Runtime]:
    """Run a Dynamo runtime; the statements *first* come before prometheus_client is imported."""
    variables = {**VARIABLES, "TMPDIR": str(tmp)}
    with Worker(directory, first=first, variables=variables) as worker:
        worker.do(RUNTIME)
        yield Runtime(worker)
        worker.do("runtime.shutdown()")


def write(directory: Path | str, requests: int = 4) -> None:
    """Write to files from another process of the engine."""
    with Worker(Path(directory)) as worker:
        worker.do(f"Counter('vllm:requests', '', ['model_name']).labels('m').inc({requests})")
        worker.do("Gauge('vllm:running', '', multiprocess_mode='mostrecent').set(7)")
        worker.do("Histogram('vllm:latency_seconds', '', buckets=[1, 2]).observe(4)")
        worker.do("Counter('lmcache:hits', '', ['worker_id']).labels('0').inc(6)")


def in_process(runtime: Runtime) -> dict[str, float]:
    """Return the series of the page while there is this process only."""
    return {
        **runtime.counted(3, 5),
        **runtime.gauge("running", 1),
        **runtime.gauge("only_here", 2),
        **runtime.timed(1, 1, 1.5),
        **COMPONENT,
    }


def merged(runtime: Runtime) -> dict[str, float]:
    """Return the series of the page after another process has written."""
    return {
        **runtime.counted(7, 11),
        **runtime.gauge("running", 7),
        **runtime.gauge("only_here", 2),
        **runtime.timed(1, 2, 5.5),
        **COMPONENT,
    }


@pytest.mark.parametrize("written", ["before", "after"])
def test_variable_preset(tmp_path: Path, written: str) -> None:
    """With the variable set, the page has merged values, once.

    That holds if the registry accepts the merged view and if it has the same timeseries.
    """
    directory = tmp_path / "metrics"
    directory.mkdir()
    with runtime(directory, tmp=tmp_path) as dynamo:
        if written == "before":
            dynamo.do(OWN)
            write(directory)
            dynamo.do(SETUP)
            assert dynamo.ask("setup.mode") == "isolated"
        else:
            dynamo.do(SETUP + OWN)
            assert dynamo.ask("setup.mode") == "shared"
            assert dynamo.series() == in_process(dynamo)
            write(directory)
        assert dynamo.series() == merged(dynamo)
        dynamo.do("requests.inc(100)")
        write(directory, 1)
        page = dynamo.series()
        assert {**page, **dynamo.counted(108, 17)} == page


def test_variable_unset(tmp_path: Path) -> None:
    """Without the variable, the page is of this process; with `ensure_multiproc_dir` of all."""
    with runtime(None, tmp=tmp_path) as dynamo:
        dynamo.do(OWN + SETUP)
        assert dynamo.ask("setup.mode") == "in_process"
        assert dynamo.series() == in_process(dynamo)
    first = """
from mpmetrics.engines import ensure_multiproc_dir
directory = ensure_multiproc_dir("engine-")
"""
    with runtime(None, first=first, tmp=tmp_path) as dynamo:
        dynamo.do(OWN + SETUP)
        write(dynamo.ask("directory.path"))
        assert dynamo.series() == merged(dynamo)
        dynamo.do("directory.close()")


def test_variable_that_names_a_missing_directory(tmp_path: Path) -> None:
    """A missing directory is recreated before anything fails."""
    directory = tmp_path / "restored"
    first = """
from mpmetrics.engines import ensure_multiproc_dir
directory = ensure_multiproc_dir("engine-")
"""
    with runtime(directory, first=first, tmp=tmp_path) as dynamo:
        assert dynamo.ask("[directory.recreated, directory.owned]") == [True, False]
        dynamo.do(OWN + SETUP)
        write(directory)
        assert dynamo.series() == merged(dynamo)


def test_variable_that_is_set_too_late(tmp_path: Path) -> None:
    """If the variable is set too late, the page has the files of other processes.

    A warning names the metrics of this process that are in memory only.
    """
    with runtime(None, tmp=tmp_path) as dynamo:
        dynamo.do(OWN)
        dynamo.do("directory = ensure_multiproc_dir('engine-')")
        dynamo.do(SETUP)
        assert any("vllm:only_here" in line for line in dynamo.ask("logged"))
        assert dynamo.series() == in_process(dynamo)
        write(dynamo.ask("directory.path"))
        assert dynamo.series() == {
            **dynamo.counted(4, 6),
            **dynamo.gauge("running", 7),
            **dynamo.gauge("only_here", 2),
            **dynamo.timed(0, 1, 4),
            **COMPONENT,
        }
        dynamo.do("directory.close()")


def test_directory_that_is_removed_while_running(tmp_path: Path) -> None:
    """While the directory is missing no series is there twice.

    Processes that start later are merged again.
    """
    directory = tmp_path / "metrics"
    directory.mkdir()
    with runtime(directory, tmp=tmp_path) as dynamo:
        dynamo.do(OWN)
        write(directory)
        dynamo.do(SETUP)
        assert dynamo.series() == merged(dynamo)
        shutil.rmtree(directory)
        assert dynamo.series() == in_process(dynamo)
        about = dynamo.series(about=True)
        lost = [value for name, value in about.items() if "reason=directory_lost" in name]
        assert lost == [1]
        write(directory, 9)
        page = dynamo.series()
        assert page == {**page, **dynamo.counted(9, 6), **dynamo.gauge("only_here", 2)}


def test_the_signature_of_dynamo(tmp_path: Path) -> None:
    """`register_engine_metrics_callback` works as Dynamo calls it, also twice for one family."""
    write(tmp_path)
    with runtime(tmp_path, tmp=tmp_path) as dynamo:
        dynamo.do(OWN)
        dynamo.do("""
from prometheus_client import multiprocess
fresh = CollectorRegistry()
multiprocess.MultiProcessCollector(fresh)
register_engine_metrics_callback(
    endpoint=endpoint, registry=REGISTRY, metric_prefix_filters=["vllm:"],
    exclude_prefixes=["vllm:only"], namespace_name="my-ns", component_name="backend",
    endpoint_name="generate", model_name="Qwen/Qwen3-0.6B",
    inject_custom_labels={"zone": "z", "model": "lost"},
)
register_engine_metrics_callback(endpoint, fresh, ["vllm:requests", "lmcache:"])
""")
        page = dynamo.series()
        assert page["vllm:requests_total{model_name=m}"] == 7
        assert page["lmcache:hits_total{worker_id=0}"] == 11
        labels = f"{IDENTITY},{MODEL},model_name=Qwen/Qwen3-0.6B,worker_id={dynamo.number},zone=z"
        assert page[f"vllm:running{{{labels}}}"] == 1
        assert not any("only_here" in name for name in page)


def test_several_endpoints(tmp_path: Path) -> None:
    """Several endpoints of a runtime are on one page, and one that is asked for twice is one."""
    with runtime(tmp_path, tmp=tmp_path) as dynamo:
        dynamo.do(OWN + SETUP)
        write(tmp_path)
        expected = merged(dynamo)
        assert dynamo.series() == expected
        dynamo.do("endpoint = runtime.endpoint('my-ns.backend.generate')" + SETUP)
        assert dynamo.series() == expected
        dynamo.do("endpoint = runtime.endpoint('my-ns.backend.clear')")
        dynamo.do(SETUP.replace("model_name=", "endpoint_name='clear', model_name="))
        other = {
            name.replace("dynamo_endpoint=generate", "dynamo_endpoint=clear"): value
            for name, value in expected.items()
        }
        assert dynamo.series() == {**expected, **other}


def test_sources_that_raise_and_hang(tmp_path: Path) -> None:
    """The runtime answers concurrent scrapes while sources raise and hang."""
    with runtime(tmp_path, tmp=tmp_path) as dynamo:
        dynamo.do("""
class Raising:
    def collect(self):
        raise RuntimeError("broken")
class Hanging:
    release = threading.Event()
    def collect(self):
        self.release.wait()
        return []
""")
        dynamo.do(OWN)
        for source in ("Raising()", "Hanging()", "lambda: b'\\xff'", "lambda: 7"):
            dynamo.do(f"register_engine_metrics_callback(endpoint, {source}, 'x', timeout=0.05)")
        dynamo.do(SETUP)
        with ThreadPoolExecutor(8) as clients:
            pages = list(clients.map(lambda _: dynamo.series(), range(24)))
        assert pages == [in_process(dynamo)] * 24
        dynamo.do("Hanging.release.set()")


def test_dynamos_own_publisher(tmp_path: Path) -> None:
    """Dynamo's own publisher is made for each rank, gets its endpoint, and takes loads."""
    with runtime(None, tmp=tmp_path) as dynamo:
        dynamo.do("""
from types import SimpleNamespace
from dynamo.llm import WorkerMetricsPublisher
loggers = StatLoggerFactory(endpoint, None, WorkerMetricsPublisher)
async def log():
    for rank in range(2):
        loggers(None, rank)
    await asyncio.gather(*loggers._connecting)
asyncio.run_coroutine_threadsafe(log(), loop).result()
loggers.set_num_gpu_blocks_all(100)
loggers.init_publish()
for logger in loggers.created_loggers.values():
    logger.record(SimpleNamespace(kv_cache_usage=0.5, prefix_cache_stats=None))
""")
        kinds = "[type(each.publisher).__name__ for each in loggers.created_loggers.values()]"
        assert dynamo.ask(kinds) == ["WorkerMetricsPublisher"] * 2
        assert dynamo.ask("len(loggers.errors())") == 0
