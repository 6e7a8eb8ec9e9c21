"""The options of `mpmetrics events` for its sinks, and the sinks that they describe."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any, Final

import click

from mpmetrics._opening import write_named_file
from mpmetrics_cli.options import with_options
from mpmetrics_cli.renamed_option import RenamedOption
from mpmetrics_cli.streams import write_message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mpmetrics.engines.events import NatsOptions, Sink, Worker
    from mpmetrics_cli.options import Decorator

_SEGMENTS: Final = 3

_RANDOM_BITS: Final = 53
"""Bits of a random worker id: every reader of JSON keeps an integer of this size exactly."""


def parse_worker_id(
    _context: click.Context, _parameter: click.Parameter, text: str | None
) -> int | None:
    """Return a worker's id from decimal, or from hexadecimal with 0x, as labels have it."""
    if text is None:
        return None
    digits = text.lower().removeprefix("0x")
    try:
        number = int(digits, 10 if digits == text else 16)
    except ValueError:
        number = -1
    if not 0 <= number < 1 << 64:
        message = f"{text!r} is not a number of 64 bits, decimal or with 0x"
        raise click.BadParameter(message)
    return number


def parse_dynamo_endpoint(
    _context: click.Context, _parameter: click.Parameter, text: str
) -> tuple[str, ...]:
    """Split NAMESPACE.COMPONENT.ENDPOINT, as Dynamo spells it, at its last two dots."""
    parts = tuple(text.removeprefix("dyn://").rsplit(".", _SEGMENTS - 1))
    # Bytes of the command line that are no text cannot be printed.
    if len(parts) != _SEGMENTS or not all(parts) or not text.isprintable():
        message = f"{text!r} is not of the form NAMESPACE.COMPONENT.ENDPOINT"
        raise click.BadParameter(message)
    return parts


def _make_secret_option(name: str, variable: str, meaning: str, metavar: str) -> Decorator:
    """Return an option that the environment *variable* can set, unseen by other processes."""
    return click.option(
        f"--nats-{name}",
        default="",
        envvar=variable,
        show_envvar=True,
        metavar=metavar,
        help=meaning,
    )


def _make_file_option(name: str, meaning: str) -> Decorator:
    return click.option(f"--nats-{name}", default="", metavar="FILE", help=meaning)


_SINKS: Final[tuple[Decorator, ...]] = (
    click.option(
        "--sink",
        "urls",
        multiple=True,
        metavar="URL",
        help="Publish events for Dynamo's routers (repeatable): by NATS at nats://HOST:PORT, or at "
        "several servers of a cluster, separated by commas; by ZeroMQ, listening at "
        "tcp://HOST:PORT or ipc://PATH, or connecting to a broker with a + before that.",
    ),
    click.option(
        "--worker-id",
        callback=parse_worker_id,
        metavar="ID",
        help="The worker's id in Dynamo, decimal or with 0x; routers send requests to it. Without "
        "it the events have a random id, which no worker has.",
    ),
    click.option(
        "--dynamo-endpoint",
        "address",
        cls=RenamedOption,
        former_names=["--endpoint"],
        default="dynamo.backend.generate",
        show_default=True,
        callback=parse_dynamo_endpoint,
        metavar="NAMESPACE.COMPONENT.ENDPOINT",
        help="The endpoint in Dynamo at which the worker serves.",
    ),
    click.option(
        "--block-size",
        type=click.IntRange(min=1),
        metavar="TOKENS",
        help="Do not publish blocks of another size.",
    ),
    click.option(
        "--buffer",
        "capacity",
        type=click.IntRange(min=1),
        default=100_000,
        show_default=True,
        metavar="EVENTS",
        help="How many events wait for a sink that is not reachable; then the oldest are dropped.",
    ),
    click.option(
        "--records",
        metavar="FILE",
        help="Write to FILE, at the start, the records that Dynamo's discovery needs so that "
        "routers listen to the sinks: one JSON object with a key and a value a line.",
    ),
    click.option(
        "--jetstream",
        is_flag=True,
        help="Have NATS confirm that a stream, which must exist, keeps each event.",
    ),
    _make_secret_option("user", "NATS_AUTH_USERNAME", "The user, for NATS.", "NAME"),
    _make_secret_option("password", "NATS_AUTH_PASSWORD", "The user's password.", "TEXT"),
    _make_secret_option("token", "NATS_AUTH_TOKEN", "The token, for NATS.", "TEXT"),
    _make_secret_option(
        "credentials", "NATS_AUTH_CREDENTIALS_FILE", "A file with a JWT and its key.", "FILE"
    ),
    _make_file_option("tls-ca", "The certificates of the authorities of NATS servers."),
    _make_file_option("tls-cert", "The certificate to show to NATS servers."),
    _make_file_option("tls-key", "The key of that certificate, if it is in a file of its own."),
)


def sink_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for sinks to *command*."""
    return with_options(_SINKS, command)


def make_sinks(
    urls: Sequence[str],
    *,
    worker_id: int | None,
    address: tuple[str, str, str],
    block_size: int | None,
    capacity: int,
    jetstream: bool,
    **nats: str,
) -> list[Sink]:
    """Return a sink for each of the *urls*. Raises what the sinks raise."""
    from mpmetrics.engines.events import Address, NatsOptions, Worker

    identifier = secrets.randbits(_RANDOM_BITS) if worker_id is None else worker_id
    worker = Worker(identifier, Address(*address), block_size)
    given: dict[str, Any] = {name.removeprefix("nats_"): value for name, value in nats.items()}
    options = NatsOptions(**given, jetstream=jetstream)
    names = _name_sinks(urls)
    if len(set(names)) < len(names):
        message = f"--sink {max(names, key=names.count)} is given twice"
        raise click.UsageError(message)
    sinks = [
        _make_sink(url, worker, options, name=name, capacity=capacity)
        for url, name in zip(urls, names, strict=True)
    ]
    if sinks and worker_id is None:
        write_message(
            f"no --worker-id: the events are of worker {identifier:#x}, which no router has"
        )
    return sinks


def write_records(path: str, sinks: Sequence[Any], ranks: Iterable[int]) -> None:
    """Write the records of *sinks* for Dynamo's discovery. Raises `OSError`."""
    records = [sink.records(rank) for sink in sinks for rank in ranks]
    lines = [
        json.dumps({"key": key, "value": value})
        for found in records
        for key, value in found.items()
    ]
    write_named_file(path, "".join(f"{line}\n" for line in lines).encode())


def _make_sink(url: str, worker: Worker, options: NatsOptions, *, name: str, capacity: int) -> Sink:
    """Return the sink for *url*."""
    from mpmetrics.engines.events import NatsSink, ZmqSink

    endpoint = url.removeprefix("+")
    if endpoint.startswith(("tcp://", "ipc://")):
        return ZmqSink(endpoint, worker, bind=endpoint == url, name=name, capacity=capacity)
    return NatsSink(url, worker, options, name=name, capacity=capacity)


def _name_sinks(urls: Sequence[str]) -> list[str]:
    """Return a name for each sink: its URL without the credentials, which end at an @."""
    return [
        ",".join(
            "://".join((scheme, rest.rpartition("@")[2]))
            for scheme, _, rest in (each.strip().partition("://") for each in url.split(","))
        )
        for url in urls
    ]
