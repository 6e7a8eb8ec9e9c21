"""`mpmetrics dump`: the merged metrics of a directory on standard output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from mpmetrics_cli.documents import snapshot_document
from mpmetrics_cli.options import directory_argument, selection_options
from mpmetrics_cli.program import FOUND, OK, complain, write

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mpmetrics.snapshot import Snapshot


def _text(snapshot: Snapshot) -> str:
    from mpmetrics.exposition import Format  # noqa: PLC0415 - see below

    return snapshot.write(Format())


def _openmetrics(snapshot: Snapshot) -> str:
    from mpmetrics.exposition import Format  # noqa: PLC0415 - see below

    return snapshot.write(Format(openmetrics=True))


def _table(snapshot: Snapshot) -> str:
    from mpmetrics.tables import format_table  # noqa: PLC0415 - see below

    return format_table(snapshot)


# The library is imported when a command runs: `mpmetrics --help` need not wait for it.
_FORMATS: Final[Mapping[str, Callable[[Snapshot], str]]] = {
    "text": _text,
    "openmetrics": _openmetrics,
    "json": snapshot_document,
    "table": _table,
}


@click.command()
@directory_argument()
@selection_options()
@click.option(
    "--format",
    "form",
    type=click.Choice(list(_FORMATS)),
    default="text",
    show_default=True,
    help="text and openmetrics for Prometheus, json for programs, table for people.",
)
@click.option("--by-process", is_flag=True, help="Show each process's own values, too.")
@click.option("--strict", is_flag=True, help="Exit with status 1 if there is any problem.")
def dump(  # noqa: PLR0913 - one for each option
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

    Problems go to standard error, one line each.
    """
    from mpmetrics.snapshot import take_snapshot  # noqa: PLC0415 - see above

    snapshot = take_snapshot(directory, include, exclude, dict(labels), by_process=by_process)
    write(_FORMATS[form](snapshot))
    for problem in snapshot.problems:
        complain(str(problem))
    return FOUND if strict and snapshot.problems else OK
