"""`mpmetrics dump`: the merged metrics of directories on standard output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mpmetrics_cli.directories import directories_options, list_directories
from mpmetrics_cli.exit import FINDINGS, OK
from mpmetrics_cli.help import example
from mpmetrics_cli.options import selection_options
from mpmetrics_cli.streams import write_output, write_problems

if TYPE_CHECKING:
    from mpmetrics_cli.directories import DirectoryArgument


@click.command(epilog=example("mpmetrics dump /run/shop/metrics --format table"))
@directories_options
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
    directories: tuple[DirectoryArgument, ...],
    *,
    parents: tuple[DirectoryArgument, ...],
    directory_label: str | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    labels: tuple[tuple[str, str], ...],
    form: str,
    by_process: bool,
    strict: bool,
) -> int:
    """Write the merged metrics of one or several DIR to standard output.

    Problems go to standard error, one line each; of more than 100, only their number.
    """
    # Not at the top: `--help` does not wait for the library.
    from mpmetrics.scrape import DIRECTORY_LABEL, take_snapshot
    from mpmetrics_cli.renderers import SNAPSHOT_RENDERERS

    if parents and directory_label is None:
        directory_label = DIRECTORY_LABEL
    several = list_directories(directories, parents) if directories or parents else None
    snapshot = take_snapshot(
        several,
        include,
        exclude,
        dict(labels),
        by_process=by_process,
        directory_label=directory_label,
    )
    write_output(SNAPSHOT_RENDERERS[form](snapshot))
    write_problems(snapshot.problems)
    return FINDINGS if strict and snapshot.problems else OK
