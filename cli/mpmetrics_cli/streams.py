"""Standard output for data, standard error for messages: one line each."""

from __future__ import annotations

import errno
import logging
import os
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import click

from mpmetrics._log_limit import LIMIT, describe_exception, get_log
from mpmetrics._text import one_line, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TextIO

_LONGEST: Final = 2000
"""Characters of the longest message."""

_MOST_PROBLEMS: Final = 100
"""How many problems are written, one line each."""


def write_output(data: bytes, *, buffered: bool = True) -> None:
    """Write *data* to standard output. Raises `OSError` when that fails.

    A thread that may still wait for a reader when the process ends must not use the buffer: the
    interpreter takes its lock then.
    """
    if sys.stdout is None:
        raise OSError(errno.EBADF, "standard output is closed", "cannot write")
    stream: Any = sys.stdout.buffer
    if not buffered:
        stream = getattr(stream, "raw", stream)
    try:
        _write(stream, data)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, "cannot write") from error


def _write(stream: Any, data: bytes) -> None:
    """Write all *data* to *stream*. Raises `OSError`."""
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
        click.echo(f"mpmetrics: {shorten(one_line(message), _LONGEST)}", err=True)
    except OSError:
        discard_buffer(sys.stderr)


def write_problems(problems: Sequence[object], prefix: str = "") -> None:
    """Write one message for each of *problems*, up to a limit: a directory may have thousands."""
    for problem in problems[:_MOST_PROBLEMS]:
        write_message(f"{prefix}{problem}")
    if len(problems) > _MOST_PROBLEMS:
        write_message(f"{prefix}… and {len(problems) - _MOST_PROBLEMS:,} more")


class _MessageHandler(logging.Handler):
    """A handler that writes log records as messages of the command, within the limit of the log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.addFilter(LIMIT)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        is_own = record.name == "mpmetrics"
        write_message(record.getMessage() if is_own else f"{record.name}: {record.getMessage()}")


@contextmanager
def messages_on_stderr() -> Iterator[None]:
    """Write all that this process has to say, apart from data, to standard error as messages.

    That is the log of all libraries from warnings on, Python's warnings, and exceptions that no
    code catches, in threads and in finalizers, whose tracebacks would have no limit.
    """
    root, own, handler = logging.getLogger(), get_log(), _MessageHandler()
    hooks = threading.excepthook, sys.unraisablehook
    threading.excepthook = _log_end_of_thread
    sys.unraisablehook = _log_unraisable
    logging.captureWarnings(capture=True)
    root.addHandler(handler)
    propagates, own.propagate = own.propagate, False
    own.addHandler(handler)
    try:
        yield
    finally:
        LIMIT.flush()
        own.removeHandler(handler)
        own.propagate = propagates
        root.removeHandler(handler)
        logging.captureWarnings(capture=False)
        threading.excepthook, sys.unraisablehook = hooks


def _log_end_of_thread(ending: threading.ExceptHookArgs) -> None:
    """Log the exception that has ended a thread."""
    name = ending.thread.name if ending.thread else "a thread"
    get_log().error("%s has ended: %s", name, _describe(ending.exc_value, ending.exc_type))


def _log_unraisable(ignored: sys.UnraisableHookArgs) -> None:
    """Log an exception that no code can catch, as that of a finalizer."""
    get_log().error("an exception was ignored: %s", _describe(ignored.exc_value, ignored.exc_type))


def _describe(error: BaseException | None, kind: type[BaseException]) -> str:
    return kind.__name__ if error is None else describe_exception(error)


def discard_buffer(stream: TextIO | None) -> None:
    """Redirect *stream* to the null device: at its end the interpreter writes what is buffered."""
    # A stream without a descriptor raises an OSError, too.
    with suppress(OSError):
        if stream is not None:
            descriptor = stream.fileno()
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, descriptor)
            os.close(null)
