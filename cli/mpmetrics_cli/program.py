"""The group of all commands, which turns every end of a command into an exit status.

Mistakes, signals and a reader that has closed the output cost at most one line on standard error,
and never a traceback.
"""

from __future__ import annotations

import errno
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click
from click.exceptions import Exit

from mpmetrics._log_limit import describe_exception
from mpmetrics.errors import ListenError, MpmetricsError
from mpmetrics_cli.exit import FAILED, INTERRUPTED, OK, READER_GONE, UNWRITABLE
from mpmetrics_cli.streams import discard_buffer, messages_on_stderr, write_message

if TYPE_CHECKING:
    from collections.abc import Iterator

_NO_MORE: Final = "this user or container may start no more threads or processes"

_BY_NUMBER: Final = {
    errno.EAGAIN: _NO_MORE,
    errno.ENOMEM: "out of memory",
    errno.EMFILE: "a limit of this process",
    errno.ENFILE: "a limit of this machine",
}
"""What an error of the system is about that names no file; others are those of the output."""


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
        what = error.filename or _BY_NUMBER.get(error.errno or 0, "cannot write")
        write_message(f"{what}: {error.strerror or error}")
        raise Exit(UNWRITABLE) from error
    except (click.ClickException, click.Abort, Exit):
        raise
    except Exception as error:
        discard_buffer(sys.stdout)
        write_message(_explain(error))
        raise Exit(FAILED) from error


def _explain(error: Exception) -> str:
    """Return a line about an *error* that no code expects: a limit of the system, or a defect."""
    what = describe_exception(error)
    if isinstance(error, MemoryError):
        return f"out of memory: {what}"
    if "start new thread" in str(error):
        return f"{_NO_MORE}: {what}"
    return f"it has failed, by a defect or a limit of this process: {what}"
