"""`setup_metrics_collection` in every situation of a worker, with real processes.

The engine is a process with families of its own; other processes write to files. In every
situation each family and each series is on the page once, with the merged value.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mpmetrics.engines import VLLM, setup_metrics_collection
from mpmetrics.errors import FilterError
from tests.engines.endpoints import FakeEndpoint
from tests.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]

PREPARE = f"""
import logging, os, sys
sys.path.insert(0, {str(ROOT)!r})
from tests.engines.endpoints import FakeEndpoint, series
from mpmetrics.engines import *
logged = []
handler = logging.Handler()
handler.emit = lambda record: logged.append(record.getMessage())
logging.getLogger("mpmetrics").addHandler(handler)
endpoint = FakeEndpoint()
components = CollectorRegistry()
Gauge("dynamo_component_kv", "", ["dp_rank"], registry=components).labels("0").set(5)
"""

OWN = """
req = Counter("vllm:req", "Requests.", ["m"]).labels("a"); req.inc(3)
Gauge("vllm:only_here", "", multiprocess_mode="max").set(1)
Gauge("dynamo_component_own", "", multiprocess_mode="max").set(2)
Histogram("lmcache:time", "", buckets=[1]).observe(0.5)
"""

SETUP = """
setup = setup_metrics_collection(
    endpoint, component_registry=components, namespace_name="n", component_name="c"
)
"""

IDENTITY = "dynamo_component=c,dynamo_endpoint=generate,dynamo_namespace=n,"
WORKER_LABELS = f"{IDENTITY}worker_id=c0ffee"
COMPONENT = {"dynamo_component_kv{dp_rank=0}": 5.0}


def counted(requests: float) -> dict[str, float]:
    """Return the series of a counter with the value *requests*."""
    return {f"vllm:req_total{{{IDENTITY}m=a,worker_id=c0ffee}}": requests}


def timed(count: float) -> dict[str, float]:
    """Return the series of a histogram with *count* observations of half a second."""
    return {
        f"lmcache:time_bucket{{{IDENTITY}le=1.0,worker_id=c0ffee}}": count,
        f"lmcache:time_bucket{{{IDENTITY}le=+Inf,worker_id=c0ffee}}": count,
        f"lmcache:time_count{{{WORKER_LABELS}}}": count,
        f"lmcache:time_sum{{{WORKER_LABELS}}}": count / 2,
    }


def hit(count: float) -> dict[str, float]:
    """Return the series of LMCache, which has a `worker_id` of its own."""
    return {f"lmcache:hits_total{{{IDENTITY}worker_id=0}}": count}


ONLY_HERE = {f"vllm:only_here{{{WORKER_LABELS}}}": 1.0}


@contextmanager
def engine(directory: Path | None) -> Iterator[Worker]:
    """Run the process of an engine."""
    with Worker(directory) as worker:
        worker.do(PREPARE)
        yield worker


def write(directory: Path, requests: int = 4) -> None:
    """Write to files from another process."""
    with Worker(directory) as worker:
        worker.do(f"Counter('vllm:req', 'Requests.', ['m']).labels('a').inc({requests})")
        worker.do("Histogram('lmcache:time', '', buckets=[1]).observe(0.5)")
        worker.do("Counter('lmcache:hits', '', ['worker_id']).labels('0').inc(8)")


def scrape(worker: Worker) -> list[dict[str, float]]:
    """Return the series of each callback; check that the page is all of them."""
    whole: dict[str, float] = worker.ask("endpoint.series()")
    parts: list[dict[str, float]] = worker.ask("endpoint.parts()")
    assert whole == {name: value for part in parts for name, value in part.items()}
    assert sum(map(len, parts)) == len(whole)
    return parts


def situation(worker: Worker) -> tuple[str, str]:
    """Return the mode and the reason of the set-up."""
    mode, reason = worker.ask("[setup.mode, setup.reason]")
    return mode, reason


def test_without_a_variable() -> None:
    """Without the variable there is one callback for the registry, and one for the components."""
    with engine(None) as worker:
        worker.do(OWN + SETUP)
        assert scrape(worker) == [{**counted(3), **timed(1), **ONLY_HERE}, COMPONENT]
        mode, reason = situation(worker)
        assert mode == "in_process"
        assert reason.startswith("PROMETHEUS_MULTIPROC_DIR is not set")


def test_the_registry_accepts_the_merged_view(tmp_path: Path) -> None:
    """If the registry accepts the merged view, one callback returns both.

    A family that both get later is shown once, merged.
    """
    with engine(tmp_path) as worker:
        worker.do(SETUP)
        assert situation(worker)[0] == "shared"
        assert scrape(worker) == [{}, COMPONENT]
        worker.do(OWN)
        assert scrape(worker) == [{**counted(3), **timed(1), **ONLY_HERE}, COMPONENT]
        write(tmp_path)
        merged = {**counted(7), **timed(2), **hit(8), **ONLY_HERE}
        assert scrape(worker) == [merged, COMPONENT]


def test_duplicate_timeseries(tmp_path: Path) -> None:
    """If the registry has the same timeseries, the merged view has a callback of its own.

    The other callback returns what has no file behind it.
    """
    write(tmp_path)
    with engine(tmp_path) as worker:
        worker.do(OWN)
        worker.do("from prometheus_client.core import GaugeMetricFamily")
        worker.do("class Late:\n def collect(self):\n  yield GaugeMetricFamily('vllm:x', '', 1)")
        worker.do("REGISTRY.register(Late())")
        worker.do(SETUP)
        mode, reason = situation(worker)
        assert mode == "isolated"
        assert "already has timeseries" in reason
        assert worker.ask("len(setup.details) > 3 and setup.reason.count(',') == 3") is True
        merged = {**counted(7), **timed(2), **hit(8), **ONLY_HERE}
        own = {f"vllm:x{{{WORKER_LABELS}}}": 1.0, f"dynamo_component_own{{{WORKER_LABELS}}}": 2.0}
        assert scrape(worker) == [merged, own, COMPONENT]
        write(tmp_path, 10)
        worker.do("req.inc()")
        merged = {**counted(18), **timed(3), **hit(16), **ONLY_HERE}
        assert scrape(worker) == [merged, own, COMPONENT]


def test_one_registry_for_both(tmp_path: Path) -> None:
    """Components in the same registry are shown once, by the callback of the components."""
    write(tmp_path)
    with engine(tmp_path) as worker:
        worker.do(OWN)
        worker.do("setup = setup_metrics_collection(endpoint, component_registry=REGISTRY)")
        assert situation(worker)[0] == "isolated"
        merged, rest, component = scrape(worker)
        assert merged["vllm:req_total{m=a}"] == 7
        assert rest == {}
        assert component == {"dynamo_component_own": 2}


def test_components_are_shown_from_their_registry_alone(tmp_path: Path) -> None:
    """Families of the component registry are shown from there alone.

    That holds even if the files have them and the prefix filter includes them.
    """
    with Worker(tmp_path) as other:
        other.do("Gauge('dynamo_component_kv', '', ['dp_rank'], multiprocess_mode='max')")
        other.do("gauge = Gauge('dynamo_component_theirs', '', multiprocess_mode='max').set(3)")
        write(tmp_path)
        with engine(tmp_path) as worker:
            worker.do(OWN)
            worker.do(
                SETUP.replace(
                    "component_registry=components",
                    "component_registry=components, include=[VLLM, DYNAMO_COMPONENT]",
                )
            )
            merged, own, component = scrape(worker)
            assert component == COMPONENT
            assert merged[f"dynamo_component_theirs{{{WORKER_LABELS}}}"] == 3
            assert not any("_kv" in name for name in {**merged, **own})


def test_a_missing_directory_is_recreated(tmp_path: Path) -> None:
    """A missing directory is recreated, so that processes that start later can write."""
    missing = tmp_path / "a" / "b"
    missing.mkdir(parents=True)
    with engine(missing) as worker:
        shutil.rmtree(tmp_path / "a")
        worker.do(SETUP)
        assert f"{missing} was missing and has been recreated" in situation(worker)[1]
        write(missing)
        assert scrape(worker) == [{**counted(4), **timed(1), **hit(8)}, COMPONENT]


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    """If the directory cannot be made, the page has this process's values, and shows it as down."""
    obstacle = tmp_path / "file"
    obstacle.write_text("")
    with engine(None) as worker:
        worker.do(OWN)
        worker.do(f"os.environ['PROMETHEUS_MULTIPROC_DIR'] = {str(obstacle / 'x')!r}")
        worker.do(SETUP)
        mode, reason = situation(worker)
        assert mode == "in_process"
        assert "no such directory" in reason
        assert scrape(worker) == [{**counted(3), **timed(1), **ONLY_HERE}, COMPONENT]
        about = worker.ask("series(endpoint.page(), about=True)")
        assert (
            about[
                f"mpmetrics_source_up{{{IDENTITY}source=PROMETHEUS_MULTIPROC_DIR,{WORKER_LABELS[-16:]}}}"
            ]
            == 0
        )
        assert about[f"mpmetrics_source_up{{{IDENTITY}source=registry,{WORKER_LABELS[-16:]}}}"] == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_variable_that_is_set_too_late(tmp_path: Path, when: str) -> None:
    """If the variable is set too late, the files of other processes are merged.

    A warning names the metrics of this process that are in memory only.
    """
    with engine(None) as worker:
        worker.do(OWN)
        if when == "after":
            worker.do(SETUP)
        worker.do(f"os.environ['PROMETHEUS_MULTIPROC_DIR'] = {str(tmp_path)!r}")
        worker.do("directory = ensure_multiproc_dir('engine-')")
        assert worker.ask("[directory.owned, directory.latched, directory.lost]") == [
            False,
            True,
            ["dynamo_component_own", "lmcache:time", "vllm:only_here", "vllm:req"],
        ]
        (warning,) = [line for line in worker.ask("logged") if "memory, and all" in line]
        assert warning.endswith(": dynamo_component_own, lmcache:time, vllm:only_here, vllm:req")
        if when == "before":
            worker.do(SETUP)
            assert "was not set when prometheus_client was imported" in situation(worker)[1]
        assert scrape(worker) == [{**counted(3), **timed(1), **ONLY_HERE}, COMPONENT]
        write(tmp_path)
        assert scrape(worker) == [{**counted(4), **timed(1), **hit(8), **ONLY_HERE}, COMPONENT]


def test_a_directory_that_is_removed_while_running(tmp_path: Path) -> None:
    """A directory that is removed is recreated at the next scrape; the loss is counted."""
    directory = tmp_path / "metrics"
    directory.mkdir()
    write(directory)
    with engine(directory) as worker:
        worker.do(OWN + SETUP)
        before = scrape(worker)
        assert before[0] == {**counted(7), **timed(2), **hit(8), **ONLY_HERE}
        shutil.rmtree(directory)
        own = {**ONLY_HERE, f"dynamo_component_own{{{WORKER_LABELS}}}": 2.0}
        assert scrape(worker) == [{}, {**counted(3), **timed(1), **own}, COMPONENT]
        assert directory.is_dir()
        assert worker.ask("setup.problems()") == {"directory_lost": 1}
        write(directory, 5)
        merged = {**counted(5), **timed(1), **hit(8)}
        assert scrape(worker) == [merged, own, COMPONENT]


def test_closing(tmp_path: Path) -> None:
    """`close` silences the callbacks, which stay registered, and restores the registry."""
    with engine(tmp_path) as worker:
        worker.do(OWN)
        worker.do("before = list(REGISTRY._collector_to_names)")
        other = tmp_path / "other"
        other.mkdir()
        worker.do(f"setup = setup_metrics_collection(endpoint, path={str(other)!r})")
        assert situation(worker)[0] == "shared"
        assert worker.ask("list(REGISTRY._collector_to_names) == before") is False
        worker.do("setup.close(); setup.close()")
        assert worker.ask("list(REGISTRY._collector_to_names) == before") is True
        assert worker.ask("[endpoint.page(), endpoint.metrics.typed[0]()]") == ["", []]
        worker.do("with setup_metrics_collection(endpoint) as setup: pass")
        assert scrape(worker) == [{}, {}, {}]
        worker.do("setup = setup_metrics_collection(endpoint)")
        assert situation(worker)[0] == "isolated"
        requests = [part.get("vllm:req_total{m=a}") for part in scrape(worker)]
        assert requests == [None, None, None, 3, None]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", {**counted(3), **timed(1), **ONLY_HERE}),
        ("include=LMCACHE", timed(1)),
        ("prefixes=LMCACHE", timed(1)),
        ("exclude=['vllm:req', LMCACHE]", ONLY_HERE),
        ("exclude_prefixes=['vllm:req', LMCACHE]", ONLY_HERE),
        ("include=[VLLM], exclude_prefixes='vllm:only'", counted(3)),
        ("prefixes=[VLLM], exclude='vllm:only'", counted(3)),
    ],
)
def test_the_prefix_filter(arguments: str, expected: dict[str, float]) -> None:
    """The prefix filter is `include` and `exclude`; the former names mean the same."""
    with engine(None) as worker:
        worker.do(OWN)
        worker.do(SETUP.replace("component_registry=components", arguments or "registry=None"))
        assert scrape(worker) == [expected]


@pytest.mark.parametrize("name", ["include", "prefixes"])
def test_a_prefix_filter_of_none_includes_all(name: str) -> None:
    """None includes every family, under the former name as well."""
    with engine(None) as worker:
        worker.do(OWN)
        worker.do(f"setup = setup_metrics_collection(endpoint, {name}=None)")
        assert worker.ask("endpoint.series()")["dynamo_component_own"] == 2


@pytest.mark.parametrize("name", ["include", "exclude"])
def test_an_argument_under_both_names(name: str) -> None:
    """The error for an argument that is given under both of its names says which name to use."""
    former = {"include": "prefixes", "exclude": "exclude_prefixes"}[name]
    both: dict[str, Any] = {name: VLLM, former: VLLM}
    endpoint = FakeEndpoint()
    with pytest.raises(FilterError, match=f"^{former} is the former name of {name}: give {name}"):
        setup_metrics_collection(endpoint, **both)
    assert endpoint.metrics.text == []


def test_invalid_arguments_change_nothing(tmp_path: Path) -> None:
    """Invalid arguments change neither the registry nor the endpoint."""
    mistakes = [
        "include=['']",
        "exclude=[1]",
        "prefixes=['']",
        "include='a', prefixes='b'",
        "exclude='a', exclude_prefixes='b'",
        "inject_custom_labels={'le': 'x'}",
    ]
    with engine(tmp_path) as worker:
        worker.do("before = list(REGISTRY._collector_to_names)")
        for mistake in mistakes:
            code = f"setup_metrics_collection(endpoint, {mistake})"
            worker.do(f"try:\n {code}\n failed = None\nexcept ValueError as e:\n failed = str(e)")
            assert worker.ask("failed")
        assert worker.ask("list(REGISTRY._collector_to_names) == before") is True
        assert worker.ask("len(endpoint.metrics.text)") == 0


def test_a_forked_child(tmp_path: Path) -> None:
    """A forked child can scrape its own page."""
    write(tmp_path)
    program: Any = """
read, out = os.pipe()
child = os.fork()
if child == 0:
    os.write(out, endpoint.page().encode())
    os._exit(0)
os.close(out)
with open(read) as pipe: text = pipe.read()
os.waitpid(child, 0)
"""
    with engine(tmp_path) as worker:
        worker.do(SETUP + "endpoint.page()")
        worker.do(program)
        # The components are of another process now, and begin again.
        zero = dict.fromkeys(COMPONENT, 0.0)
        expected = {**counted(4), **timed(1), **hit(8), **zero}
        assert worker.ask("series(text)") == expected
