"""`mpmetrics events`: the KV events of an engine, passed on, and what they come to at /metrics."""

from __future__ import annotations

import signal
import threading
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from mpmetrics_cli.exit import FOUND, OK, complain, log_to_stderr, write
from mpmetrics_cli.options import (
    Seconds,
    listen_options,
    selection_options,
    web_config,
    with_options,
)
from mpmetrics_cli.sinks import sink_options, sinks_of, write_records

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpmetrics.engines.events import EventBridge
    from mpmetrics_cli.options import Decorator

_SOURCE: Final[tuple[Decorator, ...]] = (
    click.option(
        "--source",
        "endpoint",
        required=True,
        metavar="ENDPOINT",
        help="Where the engine publishes, as it was configured: tcp://HOST:PORT or ipc://PATH; of "
        "rank 0, if there are several.",
    ),
    click.option(
        "--replay",
        default="",
        metavar="ENDPOINT",
        help="Where the engine can be asked for messages that were missed.",
    ),
    click.option(
        "--bind",
        is_flag=True,
        help="Listen on the source's ENDPOINT: the engine connects to it, as vLLM does to one with "
        "the address of a host.",
    ),
    click.option(
        "--ranks",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        metavar="N",
        help="How many data-parallel ranks there are, each on the port behind the one before.",
    ),
    click.option(
        "--first-rank",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        metavar="N",
        help="The first of them; its port is so much higher.",
    ),
    click.option(
        "--topic",
        default="",
        metavar="PREFIX",
        help="Only messages whose topic begins with PREFIX.",
    ),
    click.option(
        "--batch",
        "delay",
        type=Seconds(min=0, max=15),
        default=0.0,
        show_default=True,
        metavar="SECONDS",
        help="Join events that belong together, up to 128 blocks, and keep them so long for that.",
    ),
)


@click.command()
@partial(with_options, _SOURCE)
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
    """Pass on the KV events of an engine, and serve what they come to at /metrics.

    Events that are missing are asked for again, and counted if nobody has them any more. With
    --print the metrics are served only if --listen is given, too. Needs the extra "zmq", "nats"
    for a sink of that kind, and "serve" for the metrics.
    """
    # Not at the top: `--help` need not wait for the library.
    from mpmetrics.pages import Page
    from mpmetrics.web import PageServer

    log_to_stderr()
    config = web_config(web_config_file)
    end = _End()
    with ExitStack() as stack:
        bridge = _bridge(end.show if prints else None, **others)
        stack.callback(bridge.stop)
        if not prints or context.get_parameter_source("listen") != ParameterSource.DEFAULT:
            page = Page([bridge.metrics], include, exclude, dict(labels))
            serving = PageServer(page, listen, web_config=config)
            stack.callback(serving.stop)
            serving.start()
            complain(f"listening on {serving.address}")
        bridge.start()
        return end.wait(bridge)


def _bridge(
    show: Callable[[bytes], None] | None,
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
    """Return the bridge that the options stand for; *show* gets the lines to be printed, if any."""
    from mpmetrics.engines.events import (  # `--help` need not wait
        EventBridge,
        EventSource,
        LinesSink,
        publishers,
    )

    asked = publishers(endpoint, replay, ranks=ranks, first_rank=first_rank, bind=bind)
    sinks = sinks_of(**others)
    if records is not None:
        write_records(records, sinks, range(first_rank, first_rank + ranks))
    if show is not None:
        sinks.append(LinesSink(show, name="stdout", capacity=others["capacity"]))
    return EventBridge(EventSource(asked, topic=topic), sinks, delay=delay)


class _End:
    """What ends the command: a signal, a reader that has gone, a bridge that does not go on."""

    def __init__(self) -> None:
        """Take the signals."""
        self._came = threading.Event()
        self._failure: OSError | None = None
        for number in signal.SIGTERM, signal.SIGINT:
            signal.signal(number, lambda *_: self._came.set())

    def show(self, lines: bytes) -> None:
        """Write *lines* to standard output; if that does not work, nobody wants any more."""
        if self._failure is not None:
            return
        try:
            write(lines, buffered=False)
        except OSError as error:
            self._failure = error
            self._came.set()

    def wait(self, bridge: EventBridge) -> int:
        """Wait for the end; return the exit status. Raises `OSError` when nobody reads."""
        # Not without a limit: on Windows nothing could interrupt that.
        while bridge.is_running and not self._came.wait(1.0):
            pass
        if self._failure is not None:
            raise self._failure
        return OK if self._came.is_set() else FOUND
