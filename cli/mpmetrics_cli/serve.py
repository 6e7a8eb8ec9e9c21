"""`mpmetrics serve`: the page of a directory over HTTP."""

from __future__ import annotations

import click

from mpmetrics_cli.exit import OK, complain, log_to_stderr
from mpmetrics_cli.options import (
    directory_argument,
    make_page,
    selection_options,
    serving_options,
    web_config,
)


@click.command()
@directory_argument
@serving_options
@selection_options
def serve(
    directory: str | None,
    *,
    listen: str,
    urls: tuple[str, ...],
    timeout: float,
    web_config_file: str | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    labels: tuple[tuple[str, str], ...],
) -> int:
    """Serve the merged metrics of DIR at /metrics until SIGTERM or SIGINT.

    The server that writes them may already be running. Needs the extra "serve".
    """
    # Not at the top: `--help` need not wait for the library.
    from mpmetrics.directory import require_directory
    from mpmetrics.pages import DirectorySource
    from mpmetrics.web import PageServer

    log_to_stderr()
    config = web_config(web_config_file)
    source = DirectorySource(require_directory(directory), liveness=True)
    page = make_page(
        [source], urls=urls, timeout=timeout, include=include, exclude=exclude, labels=labels
    )
    serving = PageServer(page, listen, web_config=config)
    complain(f"listening on {serving.address}")
    serving.run()
    return OK
