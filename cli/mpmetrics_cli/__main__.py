"""The command `mpmetrics` and its sub-commands; also ``python -m mpmetrics``."""

from __future__ import annotations

import click

from mpmetrics_cli.compact import compact
from mpmetrics_cli.completion import completion
from mpmetrics_cli.doctor import doctor
from mpmetrics_cli.dump import dump
from mpmetrics_cli.events import events
from mpmetrics_cli.exit import USAGE
from mpmetrics_cli.help import example
from mpmetrics_cli.program import Program
from mpmetrics_cli.run import run
from mpmetrics_cli.serve import serve


def _show_version(context: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's signature
    """Show the version, which is unknown where the distribution is not installed: from a zip."""
    if value and not context.resilient_parsing:
        from importlib.metadata import (
            PackageNotFoundError,
            version,
        )

        try:
            text = version("mpmetrics-toolkit")
        except PackageNotFoundError:
            text = "unknown, as it is not installed"
        click.echo(f"mpmetrics, version {text}")
        context.exit()


@click.group(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
    epilog=example(
        "mpmetrics run -- gunicorn --workers 4 shop", "curl http://127.0.0.1:9464/metrics"
    ),
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
@click.pass_context
def main(context: click.Context) -> None:
    """One correct /metrics page for a Python server of many processes.

    DIR is the multiprocess directory of prometheus_client; without it, the environment variable
    PROMETHEUS_MULTIPROC_DIR is used. Data goes to standard output, messages to standard error.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(USAGE)


main.add_command(dump)
main.add_command(doctor)
main.add_command(compact)
main.add_command(run)
main.add_command(serve)
main.add_command(events)
main.add_command(completion)

if __name__ == "__main__":
    main(prog_name="mpmetrics")
