"""`mpmetrics doctor`: what is wrong with a set-up and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mpmetrics_cli.exit import FINDINGS, OK
from mpmetrics_cli.help import example
from mpmetrics_cli.options import directory_argument, report_format_option
from mpmetrics_cli.streams import write_output

if TYPE_CHECKING:
    from mpmetrics.doctor import Probes


@click.command(epilog=example("mpmetrics doctor /run/shop/metrics"))
@directory_argument
@report_format_option
@click.pass_obj
def doctor(probes: Probes | None, directory: str | None, form: str) -> int:
    """Report what is wrong with DIR and what to do.

    Without DIR, the environment variable is examined, too. Exits with status 1 if there is an
    error or a warning.
    """
    # Not at the top: `--help` does not wait for the library.
    from mpmetrics.doctor import Probes, diagnose
    from mpmetrics_cli.renderers import FINDINGS_RENDERERS

    # A caller of the command may answer for the machine, as tests do.
    findings = diagnose(directory, probes or Probes())
    write_output(FINDINGS_RENDERERS[form](findings))
    return FINDINGS if any(finding.level in {"error", "warning"} for finding in findings) else OK
