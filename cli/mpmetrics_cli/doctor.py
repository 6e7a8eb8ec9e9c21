"""`mpmetrics doctor`: what is wrong with a set-up and what to do."""

from __future__ import annotations

import click

from mpmetrics_cli.exit import FOUND, OK, write
from mpmetrics_cli.options import directory_argument


@click.command()
@directory_argument
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="text for people, json for programs.",
)
def doctor(directory: str | None, form: str) -> int:
    """Say what is wrong with DIR and its environment, and what to do.

    Exits with status 1 if there is an error or a warning.
    """
    # Not at the top: `--help` need not wait for the library.
    from mpmetrics.doctor import diagnose
    from mpmetrics_cli.output import FINDINGS_FORMATS

    findings = diagnose(directory)
    write(FINDINGS_FORMATS[form](findings))
    return FOUND if any(finding.level in {"error", "warning"} for finding in findings) else OK
