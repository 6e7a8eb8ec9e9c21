"""The group of all commands, which turns every end of a command into an exit status.

Mistakes, signals and a reader that has closed the output cost at most one line on standard error,
and never a traceback.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from click.exceptions import Exit

from mpmetrics.errors import ListenError, MpmetricsError
from mpmetrics_cli.exit import INTERRUPTED, OK, READER_GONE, UNWRITABLE
from mpmetrics_cli.streams import discard_buffer, messages_on_stderr, write_message

if TYPE_CHECKING:
    from collections.abc import Iterator


class Program(click.Group):
    """A group of commands that exits with the status that a command returns."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command and exit."""
        extra["standalone_mode"] = False
        try:
            with messages_on_stderr():
                status = super().main(*args, **extra)
        except click.ClickException as error:
            write_message(error.format_message())
            status = error.exit_code
        except (click.Abort, KeyboardInterrupt):
            status = INTERRUPTED
        sys.exit(status or OK)

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: object,
    ) -> click.Context:
        """Parse the arguments, and write the help if they ask for it."""
        with _exit_statuses():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _exit_statuses():
            return super().invoke(ctx)


@contextmanager
def _exit_statuses() -> Iterator[None]:
    """Turn exceptions of any command into exit statuses, before click handles them itself."""
    try:
        yield
    except ListenError as error:
        # The library does not know the option by which its caller chose the address.
        message = f"{error}; choose another address by --listen"
        raise click.UsageError(message) from error
    except MpmetricsError as error:
        raise click.UsageError(str(error)) from error
    except KeyboardInterrupt as error:
        discard_buffer(sys.stdout)
        raise Exit(INTERRUPTED) from error
    except BrokenPipeError as error:
        discard_buffer(sys.stdout)
        raise Exit(READER_GONE) from error
    except OSError as error:
        discard_buffer(sys.stdout)
        write_message(f"{error.filename or 'cannot write'}: {error.strerror or error}")
        raise Exit(UNWRITABLE) from error
