"""`mpmetrics dump`: the merged metrics of a directory on standard output."""

from __future__ import annotations

import click

from mpmetrics_cli.exit import FINDINGS, OK
from mpmetrics_cli.help import example
from mpmetrics_cli.options import directory_argument, selection_options
from mpmetrics_cli.streams import write_output, write_problems


@click.command(epilog=example("mpmetrics dump /run/shop/metrics --format table"))
@directory_argument
@selection_options
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "openmetrics", "json", "table"]),
    default="text",
    show_default=True,
    help="text and openmetrics for Prometheus, json for programs, table for people.",
)
@click.option("--by-process", is_flag=True, help="Show each process's own values, too.")
@click.option("--strict", is_flag=True, help="Exit with status 1 if there is any problem.")
def dump(
    directory: str | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    labels: tuple[tuple[str, str], ...],
    form: str,
    *,
    by_process: bool,
    strict: bool,
) -> int:
    """Write the merged metrics of DIR to standard output.

    Problems go to standard error, one line each; of more than 100, only their number.
    """
    # Not at the top: `--help` does not wait for the library.
    from mpmetrics.scrape import take_snapshot
    from mpmetrics_cli.renderers import SNAPSHOT_RENDERERS

    snapshot = take_snapshot(directory, include, exclude, dict(labels), by_process=by_process)
    write_output(SNAPSHOT_RENDERERS[form](snapshot))
    write_problems(snapshot.problems)
    return FINDINGS if strict and snapshot.problems else OK
