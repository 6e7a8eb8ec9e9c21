"""`mpmetrics run`: a server with a page beside it, whose dead workers leave no files."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from mpmetrics_cli.directories import also_option, make_sources, several_options
from mpmetrics_cli.help import example
from mpmetrics_cli.options import (
    Seconds,
    complete_directory,
    dead_gauges_options,
    load_web_config,
    make_page,
    selection_options,
    serving_options,
)
from mpmetrics_cli.streams import write_message

if TYPE_CHECKING:
    from mpmetrics.compaction import Fate
    from mpmetrics_cli.directories import DirectoryArgument


@click.command(
    context_settings={"allow_interspersed_args": False},
    epilog=example(
        "mpmetrics run -- gunicorn --workers 4 shop", "curl http://127.0.0.1:9464/metrics"
    ),
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option(
    "--dir",
    "directory",
    metavar="DIR",
    shell_complete=complete_directory,
    help="Have the server write to DIR, and keep DIR at the end. The default is the directory in "
    "PROMETHEUS_MULTIPROC_DIR, or a new one if that is not set.",
)
@click.option("--fresh", is_flag=True, help="Empty DIR first, if no process uses what is in it.")
@click.option("--keep", is_flag=True, help="Do not remove the directory at the end.")
@also_option
@several_options
@serving_options
@click.option(
    "--compact-interval",
    type=Seconds(min=0),
    default=15.0,
    show_default=True,
    metavar="SECONDS",
    help="How often to fold the files of dead workers, beside once after each death; 0 for never.",
)
@dead_gauges_options
@click.option(
    "--grace",
    type=Seconds(min=0),
    metavar="SECONDS",
    help="Kill the server SECONDS after it was asked to end; by default it is never killed.",
)
@click.option(
    "--user",
    metavar="USER",
    help="Run COMMAND as USER, a name or a number, who then owns the directory. Needs root.",
)
@click.option("--group", metavar="GROUP", help="Run COMMAND with GROUP as its main group.")
@click.option(
    "--per-worker", is_flag=True, help="Show process_* of each process instead of their sum."
)
@click.option(
    "--adopt",
    is_flag=True,
    help="Take over other directories that the server writes to, as a library makes one: they are "
    "on the page, and their dead workers' files are folded.",
)
@selection_options
def run(
    command: tuple[str, ...],
    *,
    directory: str | None,
    fresh: bool,
    keep: bool,
    directories: tuple[DirectoryArgument, ...],
    parents: tuple[DirectoryArgument, ...],
    listen: str,
    web_config_file: str | None,
    compact_interval: float,
    keep_dead_gauges: bool,
    dead_gauges: dict[str, Fate],
    grace: float | None,
    per_worker: bool,
    adopt: bool,
    user: str | None,
    group: str | None,
    **page: Any,
) -> int:
    """Run a server with its merged metrics at /metrics.

    COMMAND is that of any server of several processes. The processes write their metrics to a
    directory, and the files of dead ones are folded. Signals go to the server, and its exit status
    is that of this command. Needs the extra "serve", and Linux.
    """
    # Not at the top: `--help` does not wait for the library.
    from mpmetrics.directory import VARIABLE, directory_from_environment
    from mpmetrics.errors import CommandError
    from mpmetrics.supervisor import RunOptions, reproduce_exit, run_command

    options = RunOptions(
        directory=directory or (os.environ.get(VARIABLE) and directory_from_environment()) or "",
        fresh=fresh,
        keep=keep,
        listen=listen,
        web_config=load_web_config(web_config_file),
        compact_interval=compact_interval,
        keep_dead_gauges=keep_dead_gauges,
        dead_gauges=dead_gauges,
        grace=grace,
        per_worker=per_worker,
        adopt=adopt,
        user=user or "",
        group=group or "",
    )
    if fresh and not options.directory:
        message = f"--fresh needs --dir, or {VARIABLE} to be set"
        raise click.UsageError(message)
    try:
        return reproduce_exit(
            run_command(
                command,
                partial(make_page, also=make_sources(directories, parents), **page),
                options,
                write_message,
            )
        )
    except CommandError as error:
        write_message(str(error))
        return error.status
