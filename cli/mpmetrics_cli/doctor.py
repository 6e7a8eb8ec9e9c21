"""`mpmetrics doctor`: what is wrong with a set-up and what to do."""

from __future__ import annotations

import click

from mpmetrics_cli.exit import FINDINGS, OK
from mpmetrics_cli.options import directory_argument, report_format_option
from mpmetrics_cli.streams import write_output


@click.command()
@directory_argument
@report_format_option
def doctor(directory: str | None, form: str) -> int:
    """Report what is wrong with DIR and its environment, and what to do.

    Exits with status 1 if there is an error or a warning.
    """
    # Not at the top: `--help` does not wait for the library.
    from mpmetrics.doctor import diagnose
    from mpmetrics_cli.renderers import FINDINGS_RENDERERS

    findings = diagnose(directory)
    write_output(FINDINGS_RENDERERS[form](findings))
    return FINDINGS if any(finding.level in {"error", "warning"} for finding in findings) else OK
