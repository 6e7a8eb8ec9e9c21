"""A vLLM server with LMCache, as far as its metrics go: no GPU, no model, and no vLLM.

    mpmetrics run -- python examples/vllm_simulation.py

As in vLLM, several API servers, an engine core and a worker for each rank of tensor parallelism are
processes of their own, and write to the directory that PROMETHEUS_MULTIPROC_DIR names. They replay
a trace of requests that is the same for the same seed, so that the right value of each metric is
known. Times are those of the trace; the clock is not looked at.

When all is replayed it says so and stays until it is told to end; with --once it ends by itself.
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
    # A program is given the folder that it is in, but not the one above.
    sys.path.insert(0, str(Path(__file__).parents[1]))

from examples.simulated_lmcache import Lmcache, Worker, is_of_scheduler
from examples.simulated_requests import make_trace
from examples.simulated_scheduler import loading, outputs
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
    """Replay the trace step by step; then say so, and stay until another process is gone."""
    Lmcache("scheduler", 0, is_of_scheduler)
    with suppress(EOFError, ConnectionError):
        # One more than there are: in the last nothing is left to do, and gauges go to zero. Who
        # sets them sees to it last, since no step begins before all have recorded the one before.
        for number in range(1, len(trace.clock)):
            messages = dict(zip(workers, [loading(trace, number)] * len(workers), strict=True))
            for server, step in outputs(trace, number).items():
                messages[api_servers[server]] = step
            for pipe, step in messages.items():
                pipe.send(step)
            for pipe in messages:
                pipe.recv()
        control.send(None)
        connection.wait([control, *api_servers, *workers])


def serve(make: Callable[[], Callable[[Step], None]], pipe: Pipe) -> None:
    """Record what the engine core sends, and say so each time, until the core is gone."""
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
    """Return what is asked for on the command line."""
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
    """Run all processes until the end of the block; give the pipe to the engine core.

    Pipes are the only hold on them: when this process ends, however it does, the engine core sees
    the end of its pipe, and the others the end of theirs.
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
                stack.enter_context(end)  # once started, only the other processes have them
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
    """Keep signals until the end of the block; processes that are started in it get none at all.

    Ctrl-C reaches all of them, but it is the first that ends the others.
    """
    resource_tracker.ensure_running()  # it lets signals through when it is started
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


if __name__ == "__main__":
    sys.exit(main())
