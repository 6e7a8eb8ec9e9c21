"""`mpmetrics compact`: fold the files of dead workers into archives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mpmetrics_cli.exit import FAILED, OK
from mpmetrics_cli.help import example
from mpmetrics_cli.options import dead_gauges_options, directory_argument, report_format_option
from mpmetrics_cli.streams import write_message, write_output, write_problems

if TYPE_CHECKING:
    from mpmetrics.compaction import Fate


@click.command(epilog=example("mpmetrics compact /run/shop/metrics --dry-run"))
@directory_argument
@dead_gauges_options
@click.option("--dry-run", is_flag=True, help="Change nothing, only report what would be done.")
@report_format_option
def compact(
    directory: str | None,
    dead_gauges: dict[str, Fate],
    form: str,
    *,
    keep_dead_gauges: bool,
    dry_run: bool,
) -> int:
    """Fold the files of DIR's dead workers into archives.

    Each value counts exactly once. You can run this at any time, also from cron, from several
    processes at once, and while DIR is read. Exits with status 1 if it could not be done; then
    everything counts as before.
    """
    # Not at the top: `--help` does not wait for the library.
    from mpmetrics.compaction import compact
    from mpmetrics.errors import CompactionError
    from mpmetrics_cli.renderers import COMPACTION_RENDERERS

    try:
        compaction = compact(directory, keep_dead_gauges, dead_gauges=dead_gauges, dry_run=dry_run)
    except CompactionError as error:
        write_message(str(error))
        return FAILED
    write_output(COMPACTION_RENDERERS[form](compaction))
    write_problems(compaction.quarantined, "set aside: ")
    return OK
