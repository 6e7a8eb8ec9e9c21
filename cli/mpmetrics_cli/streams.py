"""Standard output for data, standard error for messages: one line each."""

from __future__ import annotations

import errno
import logging
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from mpmetrics._text import one_line

if TYPE_CHECKING:
    from typing import TextIO


def write_output(data: bytes, *, buffered: bool = True) -> None:
    """Write *data* to standard output. Raises `OSError` when that fails.

    A thread that may still wait for a reader when the process ends must not use the buffer: the
    interpreter takes its lock then.
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


def write_message(message: str) -> None:
    """Write *message* to standard error, as one line; if that fails, discard it."""
    if sys.stderr is None:  # older releases of click fail here
        return
    try:
        click.echo(f"mpmetrics: {one_line(message)}", err=True)
    except OSError:
        discard_buffer(sys.stderr)


class _MessageHandler(logging.Handler):
    """A handler that writes log records as messages of the command."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        write_message(record.getMessage())


def log_to_stderr() -> None:
    """Write the log of the library to standard error, from warnings on."""
    logger = logging.getLogger("mpmetrics")
    logger.propagate = False
    logger.handlers = [_MessageHandler()]


def discard_buffer(stream: TextIO | None) -> None:
    """Redirect *stream* to the null device: at its end the interpreter writes what is buffered."""
    # A stream without a descriptor raises an OSError, too.
    with suppress(OSError):
        if stream is not None:
            descriptor = stream.fileno()
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, descriptor)
            os.close(null)
