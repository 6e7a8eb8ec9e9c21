"""`mpmetrics events`: the KV events of an engine, passed on, and counted at /metrics."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from mpmetrics_cli.exit import FAILED, OK
from mpmetrics_cli.help import example
from mpmetrics_cli.options import (
    Seconds,
    listen_options,
    load_web_config,
    selection_options,
    with_options,
)
from mpmetrics_cli.renamed_option import RenamedOption
from mpmetrics_cli.sinks import make_sinks, sink_options, write_records
from mpmetrics_cli.streams import write_message, write_output

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpmetrics.engines.events import EventBridge
    from mpmetrics_cli.options import Decorator

_PUBLISHER: Final[tuple[Decorator, ...]] = (
    click.option(
        "--publisher",
        "endpoint",
        cls=RenamedOption,
        former_names=["--source"],
        required=True,
        metavar="ENDPOINT",
        help="The ZeroMQ endpoint at which the engine publishes, as configured there: "
        "tcp://HOST:PORT or ipc://PATH; with several ranks that of rank 0.",
    ),
    click.option(
        "--replay",
        default="",
        metavar="ENDPOINT",
        help="The ZeroMQ endpoint at which the engine replays missed messages.",
    ),
    click.option(
        "--bind",
        is_flag=True,
        help="Bind the publisher's ENDPOINT: the engine connects to it, as vLLM does to one with "
        "the address of a host.",
    ),
    click.option(
        "--ranks",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        metavar="N",
        help="The number of data-parallel ranks, each on the port behind the one before.",
    ),
    click.option(
        "--first-rank",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        metavar="N",
        help="The first of these ranks; the port of its publisher is that of rank 0 plus N.",
    ),
    click.option(
        "--topic",
        default="",
        metavar="TOPIC",
        help="Only messages whose topic begins with TOPIC.",
    ),
    click.option(
        "--batch",
        "delay",
        type=Seconds(min=0, max=15),
        default=0.0,
        show_default=True,
        metavar="SECONDS",
        help="Join events that belong together, up to 128 blocks; an event waits at most SECONDS.",
    ),
)


_THREADS: Final = 4
"""Threads of libzmq, of the bridge and of the server."""

_PIPES: Final = 12
"""Pipes that have as many descriptors as the bridge, the server and their connections."""


@click.command(epilog=example("mpmetrics events --publisher tcp://127.0.0.1:5557 --print"))
@partial(with_options, _PUBLISHER)
@click.option("--print", "prints", is_flag=True, help="Write each event as a line of JSON.")
@sink_options
@listen_options
@selection_options
@click.pass_context
def events(
    context: click.Context,
    /,
    *,
    prints: bool,
    listen: str,
    web_config_file: str | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    labels: tuple[tuple[str, str], ...],
    **others: Any,
) -> int:
    """Pass on the KV events of an engine, and count them at /metrics.

    Missing events are requested again, and counted if the engine no longer has them. With
    --print the metrics are served only if --listen is given, too. Needs the extra "zmq", "nats"
    for a sink of that kind, and "serve" for the metrics.
    """
    # Not at the top: `--help` does not wait for the library.
    from mpmetrics.pages import Page
    from mpmetrics.web import PageServer

    _require_threads()
    _require_descriptors()
    config = load_web_config(web_config_file)
    ending = _Ending()
    with ExitStack() as stack:
        bridge = _make_bridge(ending.print_lines if prints else None, **others)
        stack.callback(bridge.stop)
        if not prints or context.get_parameter_source("listen") != ParameterSource.DEFAULT:
            page = Page([bridge.metrics], include, exclude, dict(labels))
            server = PageServer(page, listen, web_config=config)
            stack.callback(server.stop)
            server.start()
            write_message(f"listening on {server.page_address}")
        bridge.start()
        return ending.wait(bridge)


def _require_threads() -> None:
    """Start as many threads as the command needs, and end them. Raises `RuntimeError`.

    libzmq aborts the process when it cannot start its own.
    """
    done = threading.Event()
    threads = [threading.Thread(target=done.wait, daemon=True) for _ in range(_THREADS)]
    try:
        for thread in threads:
            thread.start()
    finally:
        done.set()
        for thread in threads:
            if thread.ident is not None:
                thread.join()


def _require_descriptors() -> None:
    """Open as many descriptors as the command needs, and close them. Raises `OSError`.

    Without one libzmq aborts the process, too.
    """
    with ExitStack() as stack:
        for _ in range(_PIPES):
            for descriptor in os.pipe():
                stack.callback(os.close, descriptor)


def _make_bridge(
    print_lines: Callable[[bytes], None] | None,
    *,
    endpoint: str,
    replay: str,
    bind: bool,
    ranks: int,
    first_rank: int,
    topic: str,
    delay: float,
    records: str | None,
    **others: Any,
) -> EventBridge:
    """Return the bridge that the options describe; with *print_lines*, it passes lines of JSON."""
    from mpmetrics.engines.events import (  # `--help` does not wait
        EventBridge,
        EventSource,
        LinesSink,
        publishers,
    )

    chosen = publishers(endpoint, replay, ranks=ranks, first_rank=first_rank, bind=bind)
    sinks = make_sinks(**others)
    if records is not None:
        write_records(records, sinks, range(first_rank, first_rank + ranks))
    if print_lines is not None:
        sinks.append(LinesSink(print_lines, name="stdout", capacity=others["capacity"]))
    return EventBridge(EventSource(chosen, topic=topic), sinks, delay=delay)


class _Ending:
    """The end of the command: by a signal, a closed output, or a bridge that has failed."""

    def __init__(self) -> None:
        """Handle the signals."""
        self._ended = threading.Event()
        self._failure: OSError | None = None
        for number in signal.SIGTERM, signal.SIGINT:
            signal.signal(number, lambda *_: self._ended.set())

    def print_lines(self, lines: bytes) -> None:
        """Write *lines* to standard output; a failure ends the command."""
        if self._failure is not None:
            return
        try:
            write_output(lines, buffered=False)
        except OSError as error:
            self._failure = error
            self._ended.set()

    def wait(self, bridge: EventBridge) -> int:
        """Wait for the end; return the exit status. Raises `OSError` of the output."""
        # With a limit: on Windows no signal interrupts a wait without one.
        while bridge.is_running and not self._ended.wait(1.0):
            pass
        if self._failure is not None:
            raise self._failure
        return OK if self._ended.is_set() else FAILED
