"""A simulation of the metrics of a vLLM server with LMCache, without GPU, model and vLLM.

    mpmetrics run -- python examples/vllm_simulation.py

As in vLLM, several API servers, an engine core and a worker for each rank of tensor parallelism are
separate processes, which write to the directory that PROMETHEUS_MULTIPROC_DIR names. They replay a
trace of requests that the seed determines, so that the right value of each metric is known. All
times are those of the trace; no process reads a clock.

After the replay the program prints a line, and runs until a signal ends it, or with --once ends.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import chain
from multiprocessing import connection, resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any

if not __package__:
    # Python puts the folder of a program on the path, but not the one above.
    sys.path.insert(0, str(Path(__file__).parents[1]))

from examples.simulated_lmcache import Lmcache, Worker, is_of_scheduler
from examples.simulated_requests import make_trace
from examples.simulated_scheduler import make_server_messages, make_worker_message
from examples.simulated_vllm import ApiServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection

    from examples.simulated_requests import Trace
    from examples.simulated_scheduler import Step

    Pipe = Connection[Any, Any]

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

ENDING = {signal.SIGINT, signal.SIGTERM}


def run_engine_core(
    trace: Trace, control: Pipe, api_servers: Sequence[Pipe], workers: Sequence[Pipe]
) -> None:
    """Replay the trace step by step; then report the end, and wait until a process ends."""
    Lmcache("scheduler", 0, is_of_scheduler)
    with suppress(EOFError, ConnectionError):
        # The clock has one step more than the requests: in the last one the gauges become 0. No
        # step begins before all processes have recorded the one before, so the 0 is written last.
        for number in range(1, len(trace.clock)):
            messages = dict(
                zip(workers, [make_worker_message(trace, number)] * len(workers), strict=True)
            )
            for server, step in make_server_messages(trace, number).items():
                messages[api_servers[server]] = step
            for pipe, step in messages.items():
                pipe.send(step)
            for pipe in messages:
                pipe.recv()
        control.send(None)
        connection.wait([control, *api_servers, *workers])


def serve(make: Callable[[], Callable[[Step], None]], pipe: Pipe) -> None:
    """Record and acknowledge each message of the engine core, until the core has ended."""
    record = make()
    with suppress(EOFError, ConnectionError):
        while True:
            record(pipe.recv())
            pipe.send(None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the simulation; return its exit status."""
    options = parse(arguments)
    if not os.environ.get(VARIABLE):
        print(f"vllm_simulation: {VARIABLE} is not set", file=sys.stderr)
        return 2
    for number in ENDING:
        signal.signal(number, signal.default_int_handler)
    try:
        with simulation(options) as engine_core:
            engine_core.recv()
            print(f"vllm_simulation: {options.requests} requests are replayed, ready", flush=True)
            if not options.once:
                engine_core.recv()
    except KeyboardInterrupt:
        pass
    except EOFError:
        print("vllm_simulation: one of the processes has ended", file=sys.stderr)
        return 1
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Simulate the metrics of a vLLM server.")
    parser.add_argument("--once", action="store_true", help="end when all is replayed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--requests", type=positive, default=64)
    parser.add_argument("--api-servers", type=positive, default=2)
    parser.add_argument("--tensor-parallel", type=positive, default=2)
    return parser.parse_args(arguments)


def positive(text: str) -> int:
    """Return a number that is at least 1. Raises `ValueError`."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


@contextmanager
def simulation(options: argparse.Namespace) -> Iterator[Pipe]:
    """Run all processes until the end of the block; yield the pipe to the engine core.

    The processes are held by nothing but pipes: when this process ends for any reason, the engine
    core sees the end of its pipe, and then the others see the end of theirs.
    """
    spawn = multiprocessing.get_context("spawn")
    trace = make_trace(options.seed, options.requests, options.api_servers)
    ranks = range(options.tensor_parallel)
    servers = [partial(ApiServer, trace)] * options.api_servers
    workers = [partial(Worker, trace, rank, len(ranks)) for rank in ranks]
    processes = []
    control, controlled = spawn.Pipe()
    try:
        with ExitStack() as stack, held_signals():
            pipes = [spawn.Pipe() for _ in (*servers, *workers)]
            for end in (controlled, *chain.from_iterable(pipes)):
                stack.enter_context(end)  # after the start, only the other processes need them
            near = [pipe for pipe, _ in pipes]
            core = (trace, controlled, near[: len(servers)], near[len(servers) :])
            processes = [spawn.Process(target=run_engine_core, args=core)]
            for make, (_, far) in zip([*servers, *workers], pipes, strict=True):
                processes.append(spawn.Process(target=serve, args=(make, far)))
            for process in processes:
                process.start()
        yield control
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        control.close()
        for process in processes:
            process.join()


@contextmanager
def held_signals() -> Iterator[None]:
    """Hold signals until the end of the block; processes that start in it keep them blocked.

    Ctrl-C reaches all of them, but this process alone ends the others.
    """
    resource_tracker.ensure_running()  # its start would unblock the signals
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


if __name__ == "__main__":
    sys.exit(main())
