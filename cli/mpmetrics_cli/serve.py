"""`mpmetrics serve`: the page of a directory over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mpmetrics_cli.exit import OK
from mpmetrics_cli.help import example
from mpmetrics_cli.options import (
    directory_argument,
    load_web_config,
    make_page,
    selection_options,
    serving_options,
)
from mpmetrics_cli.streams import write_message

if TYPE_CHECKING:
    from mpmetrics_cli.source_options import NamedText


@click.command(epilog=example("mpmetrics serve /run/shop/metrics --listen :9464"))
@directory_argument
@serving_options
@selection_options
def serve(
    directory: str | None,
    *,
    listen: str,
    urls: tuple[NamedText, ...],
    source_configs: tuple[NamedText, ...],
    timeout: float,
    web_config_file: str | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    labels: tuple[tuple[str, str], ...],
) -> int:
    """Serve the merged metrics of DIR at /metrics.

    The server that writes the metrics may already be running, or make DIR later. The command ends
    at SIGTERM or SIGINT. Needs the extra "serve".
    """
    # Not at the top: `--help` does not wait for the library.
    from mpmetrics.directory import expect_directory
    from mpmetrics.pages import DirectorySource
    from mpmetrics.web import PageServer

    config = load_web_config(web_config_file)
    path, why = expect_directory(directory)
    if why:
        write_message(f"waiting for {path} ({why}): its metrics come as soon as it is there")
    source = DirectorySource(path, liveness=True)
    page = make_page(
        [source],
        urls=urls,
        source_configs=source_configs,
        timeout=timeout,
        include=include,
        exclude=exclude,
        labels=labels,
    )
    server = PageServer(page, listen, web_config=config)
    write_message(f"listening on {server.page_address}")
    server.run()
    return OK
