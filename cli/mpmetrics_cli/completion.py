"""`mpmetrics completion`: what a shell needs to complete the command line."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from mpmetrics_cli.exit import OK
from mpmetrics_cli.help import example
from mpmetrics_cli.streams import write_output

_SHELLS = ("bash", "zsh", "fish")

_VARIABLE = "_MPMETRICS_COMPLETE"
"""The variable by which the shell asks the command itself for completions: click names it."""


@click.command(epilog=example("source <(mpmetrics completion bash)"))
@click.argument("shell", type=click.Choice(_SHELLS), metavar="SHELL")
@click.pass_context
def completion(context: click.Context, shell: str) -> int:
    """Write the completion script of a SHELL.

    SHELL is bash, zsh or fish, which then completes commands, options and directories. Put the
    line of the example into the file that the shell reads when it starts, ~/.bashrc or ~/.zshrc.
    For fish, write the script to ~/.config/fish/completions/mpmetrics.fish.
    """
    kind = get_completion_class(shell)
    if kind is None:
        message = f"this release of click does not know {shell}"
        raise click.UsageError(message)
    program = kind(context.find_root().command, {}, "mpmetrics", _VARIABLE)
    write_output(f"{program.source_template % program.source_vars()}\n".encode())
    return OK
