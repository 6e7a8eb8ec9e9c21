"""The simulated vLLM: each value on the page follows from the trace of requests."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families

from examples.simulated_requests import BLOCK, CHUNK, make_trace
from examples.simulated_scheduler import make_server_messages, take_snapshot
from mpmetrics.engines.families import KV_CONSUMER, LMCACHE_FAMILIES, VLLM_FAMILIES
from mpmetrics.supervisor import launch
from mpmetrics.system.processes import list_descendants
from tests.cli.processes import Ending, invoke, run
from tests.examples.programs import EXAMPLES
from tests.examples.vllm_answers import (
    NEVER_OBSERVED,
    lmcache_samples,
    sample,
    vllm_samples,
)
from tests.servers import fetch
from tests.workers import PATIENCE, VARIABLE, environment, spawn
from tests.wrapped import Wrapped

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from prometheus_client import Metric

    from mpmetrics.engines.families import Family
    from tests.examples.vllm_answers import Samples

SIMULATION: Final = (sys.executable, os.fspath(EXAMPLES / "vllm_simulation.py"))
PREFIXES: Final = ("vllm:", "lmcache:")

needs_linux = pytest.mark.skipif(not launch.IS_SUPPORTED, reason="looks at processes")


class Size(NamedTuple):
    """The parameters of a simulation."""

    seed: int
    requests: int
    api_servers: int
    ranks: int

    @property
    def options(self) -> list[str]:
        """Return the options of the command line."""
        names = ("--seed", "--requests", "--api-servers", "--tensor-parallel")
        return [word for pair in zip(names, map(str, self), strict=True) for word in pair]

    def right_answers(self) -> Samples:
        """Return every sample of both engines that the page must have."""
        trace = make_trace(self.seed, self.requests, self.api_servers)
        return vllm_samples(trace) | lmcache_samples(trace, self.ranks)


USUAL: Final = Size(0, 64, 2, 2)

every_size = pytest.mark.parametrize(
    "size",
    [
        pytest.param(USUAL, id="usual"),
        pytest.param(Size(1, 100, 3, 1), id="more-servers"),
        pytest.param(Size(2, 40, 1, 4), id="more-ranks"),
        pytest.param(Size(3, 1, 1, 1), id="one-of-each"),
    ],
)


def replay(size: Size, directory: Path) -> Path:
    """Run a simulation that writes to the directory; return the directory after its end."""
    done = run([*SIMULATION, "--once", *size.options], env={VARIABLE: os.fspath(directory)})
    message = f"vllm_simulation: {size.requests} requests are replayed, ready\n"
    assert done == Ending(0, message)
    return directory


def read(families: Iterable[Metric]) -> Samples:
    """Return all samples of both engines, each of which must be there once."""
    samples: Samples = {}
    for family in families:
        for name, labels, value, *_ in family.samples if family.name.startswith(PREFIXES) else ():
            # The bound 1 may be written as "1" or "1.0".
            bound = {"le": str(float(labels["le"]))} if "le" in labels else {}
            key = sample(name, **{**labels, **bound})
            assert key not in samples
            samples[key] = value
    return samples


def read_page(page: str) -> Samples:
    """Return all samples of a page, each family of which must be there once."""
    names = re.findall(r"^# TYPE (\S+)", page, re.MULTILINE)
    assert sorted(set(names)) == sorted(names)
    return read(text_string_to_metric_families(page))


def dump(directory: Path) -> str:
    """Return the output of `mpmetrics dump` for the directory."""
    options = [word for prefix in PREFIXES for word in ("--include", prefix)]
    done = invoke("dump", *options, directory)
    assert (done.status, done.stderr) == (0, "")
    return done.stdout


@every_size
def test_every_value_of_a_dump_is_right(size: Size, directory: Path) -> None:
    """A dump of the finished simulation has exactly the samples that follow from the trace."""
    assert read_page(dump(replay(size, directory))) == size.right_answers()


@needs_linux
@every_size
def test_every_value_of_the_page_is_right(size: Size) -> None:
    """The page of the wrapped server has the same samples while all processes live."""
    line = [*SIMULATION, *size.options]
    with Wrapped(*line, stdout=subprocess.PIPE) as wrapped:
        assert wrapped.process.stdout is not None
        assert wrapped.process.stdout.readline().endswith(b", ready\n")
        page = fetch(wrapped.url).body.decode()
        writers = {int(pid) for pid in writer_ids(wrapped.directory)}
        living = set(wrapped.children())
        assert wrapped.end(signal.SIGTERM) == 0, wrapped.said.decode()
    assert read_page(page) == size.right_answers()
    assert len(writers) == size.api_servers + 1 + size.ranks
    assert writers < living


def test_the_clients_collector_agrees(directory: Path) -> None:
    """prometheus_client's own collector finds the same samples in the files."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, os.fspath(replay(USUAL, directory)))
    assert read(registry.collect()) == USUAL.right_answers()


def test_several_processes_have_written(directory: Path) -> None:
    """Each API server and each worker writes its own counters, and the engine core writes none."""
    replay(USUAL, directory)
    assert len(writer_ids(directory, "counter_*.db")) == USUAL.api_servers + USUAL.ranks
    assert len(writer_ids(directory, "gauge_mostrecent_*.db")) == USUAL.api_servers
    assert len(writer_ids(directory, "gauge_sum_*.db")) == USUAL.ranks
    assert len(writer_ids(directory)) == USUAL.api_servers + 1 + USUAL.ranks


def writer_ids(directory: Path, pattern: str = "*.db") -> set[str]:
    """Return the ids of the processes that have written the files in a directory."""
    return {file.stem.rpartition("_")[2] for file in directory.glob(pattern)}


def test_families_are_those_of_the_tables(directory: Path) -> None:
    """Every simulated family has the type, help, labels and buckets of the tables."""
    found = {
        family.name: family
        for family in text_string_to_metric_families(dump(replay(USUAL, directory)))
    }
    expected = {
        family.name.removesuffix("_total") if family.type == "counter" else family.name: family
        for family in (*VLLM_FAMILIES, *LMCACHE_FAMILIES)
        if is_simulated(family)
    }
    assert found.keys() == expected.keys()
    for name, family in expected.items():
        assert (found[name].type, found[name].documentation) == (family.type, family.help)
        labels = {*family.labels, *more_labels(name)}
        for one in found[name].samples:
            assert one.labels.keys() - {"le"} == labels
        edges = {float(one.labels["le"]) for one in found[name].samples if "le" in one.labels}
        assert sorted(edges - {float("inf")}) == list(family.buckets)


def is_simulated(family: Family) -> bool:
    """Return whether a family gets onto the page.

    A family of callbacks does so only if its mode is `sum`: prometheus_client writes a 0 for it.
    """
    has_samples = family.in_files or family.mode == "sum"
    return (
        family.condition in {"", KV_CONSUMER} and has_samples and family.name not in NEVER_OBSERVED
    )


def more_labels(name: str) -> set[str]:
    """Return the labels that a family has beside those of the tables."""
    return {"block_size", "num_gpu_blocks"} if name == "vllm:cache_config_info" else set()


def test_there_is_something_to_count(directory: Path) -> None:
    """In the usual trace, only the counters that no request can change stay at 0."""
    samples = read_page(dump(replay(USUAL, directory)))
    unmoved = {name for (name, _), value in samples.items() if not value and "_bucket" not in name}
    assert {name for name in unmoved if name.endswith("_total")} == {
        "lmcache:forced_unpin_count_total",
        "lmcache:local_cpu_evict_failed_count_total",
        "lmcache:remote_ping_errors_total",
        "vllm:admission_rejections_total",
        "vllm:estimated_flops_per_gpu_total",
        "vllm:estimated_read_bytes_per_gpu_total",
        "vllm:estimated_write_bytes_per_gpu_total",
        "vllm:mm_cache_hits_total",
        "vllm:mm_cache_queries_total",
        "vllm:prompt_tokens_cached_by_source_total",
    }
    assert {name for name in unmoved if name.endswith(("_sum", "_count"))} == {
        "lmcache:pinned_memory_objs_count",
        "lmcache:storage_events_done_count",
        "lmcache:storage_events_not_found_count",
        "lmcache:storage_events_ongoing_count",
    }


@pytest.mark.parametrize("seed", range(20))
def test_a_trace_is_possible(seed: int) -> None:
    """A trace has whole blocks and chunks in caches, and events in a possible order."""
    trace = make_trace(seed, 50, 3)
    held = 0
    for prompt, cached, fetching, admitted, steps, reason in trace.requests:
        assert prompt.api_server in range(3)
        assert cached.local % BLOCK == cached.found % CHUNK == cached.stored % CHUNK == 0
        assert max(cached.local, cached.found) < prompt.tokens
        assert 0 <= cached.stored <= prompt.tokens - cached.found
        assert prompt.arrived < fetching <= admitted <= steps[0]
        assert (fetching < admitted) == (cached.found > cached.local)
        assert list(steps) == sorted(set(steps))
        assert steps[-1] < len(trace.clock) - 1
        assert (reason == "length") == (len(steps) == prompt.max_tokens)
        held += cached.stored // CHUNK - cached.evicted
        assert held >= 0


@pytest.mark.parametrize("seed", range(5))
def test_the_scheduler_counts_every_request(seed: int) -> None:
    """After each step the scheduler counts every arrived and unfinished request once."""
    trace = make_trace(seed, 50)
    for number in range(1, len(trace.clock)):
        snapshot = take_snapshot(trace, number)
        there = [each for each in trace.requests if each.prompt.arrived <= number < each.steps[-1]]
        working = sum(each.admitted <= number for each in there)
        loading = sum(each.fetching <= number < each.admitted for each in there)
        assert (snapshot.running, snapshot.deferred) == (working, loading)
        assert snapshot.capacity == len(there) - working - loading
        assert (snapshot.kv_cache_usage > 0) == (working > 0)


@pytest.mark.parametrize("seed", range(5))
def test_each_step_reaches_its_api_servers(seed: int) -> None:
    """Each token goes to the API server of its request, and the snapshot to one of those."""
    trace = make_trace(seed, 50, 3)
    tokens: list[list[int]] = [[] for _ in trace.requests]
    for number in range(1, len(trace.clock)):
        steps = make_server_messages(trace, number)
        first, *_ = [server for server, step in steps.items() if step.requests] or [0]
        assert [server for server, step in steps.items() if step.snapshot] == [first]
        for server, step in steps.items():
            for request in step.requests:
                assert trace.requests[request].prompt.api_server == server
                tokens[request].append(number)
    assert tokens == [list(each.steps) for each in trace.requests]


def test_a_seed_gives_one_trace() -> None:
    """The same arguments give the same trace, and other arguments give another."""
    assert make_trace(5, 20) == make_trace(5, 20, 2)
    assert len({str(make_trace(seed, 20)) for seed in range(10)}) == 10
    assert make_trace(5, 20).requests != make_trace(5, 20, 3).requests


@pytest.mark.parametrize("env", [{}, {VARIABLE: ""}], ids=["unset", "empty"])
def test_it_needs_a_directory(env: dict[str, str]) -> None:
    """Without the variable the simulation prints one line and ends with status 2."""
    message = f"vllm_simulation: {VARIABLE} is not set\n"
    assert run(SIMULATION, env=env) == Ending(2, "", message)


def test_it_needs_a_request(directory: Path) -> None:
    """A number of 0 on the command line is a usage error."""
    done = run([*SIMULATION, "--requests", "0"], env={VARIABLE: os.fspath(directory)})
    assert done.status == 2
    assert "argument --requests: invalid positive value: '0'" in done.stderr


class Simulation:
    """A simulation that has replayed its trace, and runs until the end of the `with` block."""

    def __init__(self, directory: Path) -> None:
        """Start it in its own process group."""
        self.process = spawn(
            [*SIMULATION, "--requests", "4"],
            env=environment(directory),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )

    def __enter__(self) -> Simulation:  # noqa: PYI034 - no class derives from it
        """Wait until the trace is replayed."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline().endswith(", ready\n")
        return self

    def __exit__(self, *exception: object) -> None:
        """Kill the first process, if it is still running."""
        with self.process:
            self.process.kill()

    def wait_for_end(self) -> Ending:
        """Wait until no process has the pipes open; return status and output."""
        stdout, stderr = self.process.communicate(timeout=PATIENCE)
        return Ending(self.process.returncode, stdout, stderr)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["first", "group"])
def test_a_signal_ends_it(number: signal.Signals, send: Any, directory: Path) -> None:
    """A signal to the first process, or to all, ends all processes with status 0."""
    with Simulation(directory) as simulation:
        send(simulation.process.pid, number)
        assert simulation.wait_for_end() == Ending(0)


def test_killing_it_leaves_no_process(directory: Path) -> None:
    """If the first process is killed, the others end without output."""
    with Simulation(directory) as simulation:
        simulation.process.kill()
        assert simulation.wait_for_end() == Ending(-signal.SIGKILL)


@needs_linux
def test_it_ends_with_any_of_its_processes(directory: Path) -> None:
    """As in vLLM, the death of one process ends the server, which reports it."""
    with Simulation(directory) as simulation:
        writers = writer_ids(directory)
        victim, *_ = [
            each.pid
            for each in list_descendants(simulation.process.pid)
            if str(each.pid) in writers
        ]
        os.kill(victim, signal.SIGKILL)
        message = "vllm_simulation: one of the processes has ended\n"
        assert simulation.wait_for_end() == Ending(1, "", message)
