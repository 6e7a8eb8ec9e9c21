"""`mpmetrics doctor`: what is wrong with a set-up and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mpmetrics_cli.documents import findings_document
from mpmetrics_cli.program import FOUND, OK, write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpmetrics.diagnosis import Finding


@click.command()
@click.argument("directory", metavar="[DIR]", required=False)
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
    from mpmetrics.diagnosis import diagnose  # noqa: PLC0415 - `--help` need not wait for it

    findings = diagnose(directory)
    write(findings_document(findings) if form == "json" else _text(findings))
    return FOUND if any(finding.level in {"error", "warning"} for finding in findings) else OK


def _text(findings: Sequence[Finding]) -> str:
    """Return the findings for a person: what it is, and below it what to do."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.level}: {finding.what}")
        if finding.advice:
            lines.append(f"    {finding.advice}")
    return "\n".join(lines) + "\n"
