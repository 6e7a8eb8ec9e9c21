"""How the command ends: exit statuses, and the ways a process is ended from outside.

Whatever happens, there is at most one line on standard error and never a traceback for a
mistake, a signal or a reader that has gone away.
"""

from __future__ import annotations

import errno
import os
import sys
from signal import SIGINT
from typing import Any, Final

import click

from mpmetrics.errors import MpmetricsError

OK: Final = 0
FOUND: Final = 1
"""Something is wrong with the data, and the user asked to be told."""

USAGE: Final = 2
"""The user's mistake: an option, an argument, a directory that is not there."""

_BY_SIGNAL: Final = 128
# Windows has no such signal; the shell's status for it is the same number everywhere.
_SIGPIPE: Final = 13


class Program(click.Group):
    """A group of commands that ends as a program should."""

    def main(self, *args: Any, **extra: Any) -> Any:  # noqa: ANN401 - click's signature
        """Run a command and exit with its status."""
        extra["standalone_mode"] = False
        try:
            status = super().main(*args, **extra)
            _flush()
        except click.ClickException as error:
            _show(error)
            status = error.exit_code
        except MpmetricsError as error:
            complain(str(error))
            status = USAGE
        except (click.Abort, KeyboardInterrupt):
            status = _BY_SIGNAL + SIGINT
        except (BrokenPipeError, _ReaderGoneError):
            _silence()
            status = _BY_SIGNAL + _SIGPIPE
        except OSError as error:
            _silence()
            complain(f"cannot write: {error.strerror or error}")
            status = FOUND
        sys.exit(status or OK)


class _ReaderGoneError(Exception):
    """Nobody reads our output any more; click has its own idea of what that means."""


def write(data: str | bytes) -> None:
    """Write *data* to standard output, as UTF-8. Raises `OSError` when that does not work."""
    if sys.stdout is None:
        raise OSError(errno.EBADF, "standard output is closed")
    stream = click.get_binary_stream("stdout")
    rest = memoryview(data.encode("utf-8", "replace") if isinstance(data, str) else data)
    try:
        # With PYTHONUNBUFFERED the stream is a raw one, and a raw write may be a partial one.
        while rest:
            rest = rest[stream.write(rest) :]
        stream.flush()
    except BrokenPipeError as error:
        raise _ReaderGoneError from error


def complain(line: str) -> None:
    """Write one *line* to standard error."""
    click.echo(f"mpmetrics: {line}", err=True)


def _show(error: click.ClickException) -> None:
    """Show a mistake as one line; a command without arguments shows its help."""
    if isinstance(error, _NO_ARGUMENTS):
        error.show()
    else:
        complain(error.format_message())


# Older releases of click print the help themselves.
_NO_ARGUMENTS: Final = getattr(click.exceptions, "NoArgsIsHelpError", ())


def _flush() -> None:
    """Write out what is left, while an error can still be told."""
    if sys.stdout is not None:
        sys.stdout.flush()


def _silence() -> None:
    """Keep the interpreter from writing, in vain, what is left in the buffer at its end."""
    if sys.stdout is not None:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a descriptor, not a path
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
