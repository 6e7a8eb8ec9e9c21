"""`mpmetrics serve`: the page of directories over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mpmetrics_cli.directories import directories_options, from_environment, make_sources
from mpmetrics_cli.exit import FAILED, OK
from mpmetrics_cli.help import example
from mpmetrics_cli.options import (
    load_web_config,
    make_page,
    selection_options,
    serving_options,
)
from mpmetrics_cli.streams import write_message

if TYPE_CHECKING:
    from mpmetrics_cli.directories import DirectoryArgument
    from mpmetrics_cli.source_options import NamedText


@click.command(epilog=example("mpmetrics serve /run/shop/metrics --listen :9464"))
@directories_options
@serving_options
@selection_options
def serve(
    directories: tuple[DirectoryArgument, ...],
    *,
    parents: tuple[DirectoryArgument, ...],
    directory_label: str | None,
    listen: str,
    urls: tuple[NamedText, ...],
    source_configs: tuple[NamedText, ...],
    timeout: float,
    web_config_file: str | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    labels: tuple[tuple[str, str], ...],
) -> int:
    """Serve the merged metrics of one or several DIR at /metrics.

    The server that writes the metrics may already be running, or make DIR later. The command ends
    at SIGTERM or SIGINT. Needs the extra "serve".
    """
    # Not at the top: `--help` does not wait for the library.
    from mpmetrics.web import PageServer

    config = load_web_config(web_config_file)
    if not directories and not parents:
        directories = tuple(from_environment())
    sources = make_sources(directories, parents)
    page = make_page(
        sources,
        directory_label=directory_label,
        urls=urls,
        source_configs=source_configs,
        timeout=timeout,
        include=include,
        exclude=exclude,
        labels=labels,
    )
    server = PageServer(page, listen, web_config=config)
    write_message(f"listening on {server.page_address}")
    return OK if server.run() else FAILED
