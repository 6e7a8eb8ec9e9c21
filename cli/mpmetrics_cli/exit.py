"""How the command ends: exit statuses, and the ways a process is ended from outside.

Whatever happens, there is at most one line on standard error and never a traceback for a
mistake, a signal or a reader that has gone away.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from contextlib import contextmanager, suppress
from signal import SIGINT
from typing import TYPE_CHECKING, Any, Final, TextIO

import click
from click.exceptions import Exit

from mpmetrics._text import one_line
from mpmetrics.errors import MpmetricsError

if TYPE_CHECKING:
    from collections.abc import Iterator

OK: Final = 0
FOUND: Final = 1
"""Something is wrong with the data, and the user asked to be told."""

UNWRITABLE: Final = 1
"""What the user asked for could not be written."""

USAGE: Final = 2
"""The user's mistake: an option, an argument, a directory that is not there."""

# What a shell says of a process that a signal has ended. Windows has no SIGPIPE, but no other
# number for it either.
_BY_SIGNAL: Final = 128
_SIGPIPE: Final = 13
INTERRUPTED: Final = _BY_SIGNAL + SIGINT
READER_GONE: Final = _BY_SIGNAL + _SIGPIPE


class Program(click.Group):
    """A group of commands that ends as a program should."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command and exit with the status that it returns."""
        extra["standalone_mode"] = False
        try:
            status = super().main(*args, **extra)
        except click.ClickException as error:
            complain(error.format_message())
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
        """Parse the arguments; this is where the help is written."""
        with _usual_endings():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _usual_endings():
            return super().invoke(ctx)


@contextmanager
def _usual_endings() -> Iterator[None]:
    """Turn what may end any command into exit statuses, before click does it in its own way."""
    try:
        yield
    except MpmetricsError as error:
        raise click.UsageError(str(error)) from error
    except KeyboardInterrupt as error:
        _give_up(sys.stdout)
        raise Exit(INTERRUPTED) from error
    except BrokenPipeError as error:
        _give_up(sys.stdout)
        raise Exit(READER_GONE) from error
    except OSError as error:
        _give_up(sys.stdout)
        complain(f"{error.filename or 'cannot write'}: {error.strerror or error}")
        raise Exit(UNWRITABLE) from error


def write(data: bytes, *, buffered: bool = True) -> None:
    """Write *data* to standard output. Raises `OSError` when that does not work.

    A thread that may wait for a reader at the end of the process must not use the buffer, whose
    lock the interpreter wants then.
    """
    if sys.stdout is None:
        raise OSError(errno.EBADF, "standard output is closed")
    stream: Any = sys.stdout.buffer
    if not buffered:
        stream = getattr(stream, "raw", stream)
    rest = memoryview(data)
    # With PYTHONUNBUFFERED the stream is a raw one, which may write only a part, or nothing.
    while rest:
        written = stream.write(rest)
        if written is None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        rest = rest[written:]
    stream.flush()


def complain(message: str) -> None:
    """Write *message* to standard error, as one line, if anybody listens."""
    if sys.stderr is None:  # on which older releases of click fail
        return
    try:
        click.echo(f"mpmetrics: {one_line(message)}", err=True)
    except OSError:
        _give_up(sys.stderr)


class _Complaints(logging.Handler):
    """What the library logs, as messages of the command."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        complain(record.getMessage())


def log_to_stderr() -> None:
    """Have what the library logs, from a warning on, written to standard error."""
    logger = logging.getLogger("mpmetrics")
    logger.propagate = False
    logger.handlers = [_Complaints()]


def _give_up(stream: TextIO | None) -> None:
    """Let what is left in a buffer go nowhere: at its end the interpreter would try again."""
    # A stream without a descriptor raises an OSError, too.
    with suppress(OSError):
        if stream is not None:
            descriptor = stream.fileno()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)
