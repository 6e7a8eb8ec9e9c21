"""The limit of the log: so many lines of each kind in a minute, and each of them short.

What goes wrong once can go wrong a thousand times a second, and its text can be what an attacker
wrote. A log that grows without limit fills the disk of the server that it should help. So every
record of the library, and of the command also those of other libraries, passes one filter:

* A *kind* is the place in the code that logs, and optionally a `kind` in the record's ``extra``.
  In `SECONDS` seconds `LINES` lines of a kind are written, and `ALL_LINES` of all kinds together.
  The last one says that more are only counted; their number follows in a line of its own.
* A record becomes one line without control characters, of at most `LENGTH` characters. Of an
  exception it has type, text, and the innermost calls, instead of a traceback.

The filter never raises, takes no lock, and remembers at most `KINDS` kinds.
"""

from __future__ import annotations

import logging
import os
import time
import traceback
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Final

from mpmetrics._text import one_line, shorten

if TYPE_CHECKING:
    from collections.abc import Callable

    Kind = tuple[object, ...]

LINES: Final = 10
"""Lines of one kind that are written in a minute."""

ALL_LINES: Final = 60
"""Lines of all kinds that are written in a minute."""

SECONDS: Final = 60.0
"""The minute, in seconds."""

LENGTH: Final = 500
"""Characters of the longest line."""

KINDS: Final = 100
"""Kinds that are told apart; further ones count as one."""

_CALLS: Final = 3
"""How many calls the line of an exception names."""

_PASSED: Final = "mpmetrics_passed"
"""The attribute of a record that has passed the filter: it passes again as it is."""

_NAME: Final = "mpmetrics"

_MORE: Final = "more of this kind are counted, not shown, for a minute"

_EXAMPLE: Final = 100
"""Characters of the line that a count of further lines repeats."""


class _Window:
    """The lines of one kind since its first one: how many were *taken*, and how many *left_out*."""

    __slots__ = ("end", "left_out", "shown", "taken")

    def __init__(self, end: float) -> None:
        self.end = end
        self.taken = count(1)  # one step of an iterator is atomic: threads need no lock
        self.left_out = 0
        self.shown: logging.LogRecord | None = None


class LogLimit(logging.Filter):
    """A filter of log records that writes so many lines of each kind in a minute.

    *lines*, *all_lines* and *length* are as explained for the module; *clock* returns seconds.
    """

    def __init__(
        self,
        *,
        lines: int = LINES,
        all_lines: int = ALL_LINES,
        length: int = LENGTH,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with nothing counted."""
        super().__init__()
        self._lines = lines
        self._all_lines = all_lines
        self._length = length
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Forget what was counted."""
        self._windows: dict[Kind, _Window] = {}
        self._all = _Window(-1.0)
        self._next_end = float("inf")

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write *record*, and make it one short line."""
        if hasattr(record, _PASSED):
            return True
        now = self._clock()
        self._close_windows(now)
        window = self._window(_kind(record), now)
        number = next(window.taken)
        if number > self._lines or next(self._all.taken) > self._all_lines:
            window.left_out += 1
            return False
        note = "" if number < self._lines else f" ({_MORE})"
        length = self._length - len(note)
        # Twice: escapes make a text longer, and are not made for what is cut anyway.
        _replace_text(record, shorten(one_line(shorten(_text(record), length)), length) + note)
        window.shown = record
        return True

    def flush(self) -> None:
        """Write how many lines were left out so far, as before the end of the process."""
        self._close_windows(float("inf"))

    def _window(self, kind: Kind, now: float) -> _Window:
        """Return the window of *kind* that is open *now*."""
        if self._all.end <= now:
            self._all = _Window(now + SECONDS)
        if kind not in self._windows and len(self._windows) >= KINDS:
            kind = ()
        window = self._windows.get(kind)
        if window is None:
            window = self._windows[kind] = _Window(now + SECONDS)
            self._next_end = min(self._next_end, window.end)
        return window

    def _close_windows(self, now: float) -> None:
        """Forget the windows that have ended by *now*; write how many lines each has left out."""
        if now < self._next_end:
            return
        ended = [(kind, each) for kind, each in list(self._windows.items()) if each.end <= now]
        for kind, _ in ended:
            self._windows.pop(kind, None)
        self._next_end = min(
            (each.end for each in list(self._windows.values())), default=now + SECONDS
        )
        for _, window in ended:
            if window.left_out:
                self._report(window)

    def _report(self, window: _Window) -> None:
        """Write how many lines *window* has left out."""
        shown = window.shown
        if shown is None:  # all lines of the minute were of other kinds
            name, level, path, line, example = _NAME, logging.WARNING, __file__, 0, ""
        else:
            name, level, path, line = shown.name, shown.levelno, shown.pathname, shown.lineno
            example = f": {shorten(shown.getMessage().removesuffix(f' ({_MORE})'), _EXAMPLE)}"
        text = f"… and {window.left_out:,} more like this{example}"
        record = logging.LogRecord(name, level, path, line, text, (), None)
        setattr(record, _PASSED, True)
        logging.getLogger(name).handle(record)


def _kind(record: logging.LogRecord) -> Kind:
    """Return what *record* has in common with others like it."""
    return record.name, record.levelno, record.pathname, record.lineno, getattr(record, "kind", "")


def _text(record: logging.LogRecord) -> str:
    """Return the message of *record*, and its exception; never raise."""
    try:
        text = record.getMessage()
        error = record.exc_info[1] if record.exc_info else None
        return text if error is None else f"{text}: {describe_exception(error)}"
    except Exception as error:  # noqa: BLE001 - arguments of others are formatted here
        place = f"{os.path.basename(record.pathname)}:{record.lineno}"
        return f"a message that cannot be formatted: {type(error).__name__} ({place})"


def describe_exception(error: BaseException) -> str:
    """Return type and text of *error*, and where it was raised, without the rest of a traceback."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - the exception may be of any class
        text = "?"
    # Not `traceback.extract_tb`: it opens the source files, which may be what has just failed.
    calls = deque(traceback.walk_tb(error.__traceback__), _CALLS)
    places = ", ".join(
        f"{os.path.basename(frame.f_code.co_filename)}:{line}" for frame, line in reversed(calls)
    )
    shown = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"{shown} ({places})" if places else shown


def _replace_text(record: logging.LogRecord, text: str) -> None:
    """Make *text* all that *record* says."""
    record.msg, record.args = text, ()
    record.exc_info = record.exc_text = record.stack_info = None
    setattr(record, _PASSED, True)


LIMIT: Final = LogLimit()
"""The limit of this process: what fills a disk is the sum of all lines."""


def get_log() -> logging.Logger:
    """Return the logger `mpmetrics`, with the limit. Handlers and levels are the application's."""
    log = logging.getLogger(_NAME)
    log.addFilter(LIMIT)  # once: a logger ignores a filter that it has
    return log
