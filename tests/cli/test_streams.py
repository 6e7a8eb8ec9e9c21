"""What a command writes to standard error, whatever code has something to say."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from typing import TYPE_CHECKING

import click
import pytest

from mpmetrics._log_limit import LENGTH, LINES, get_log
from mpmetrics_cli.program import Program
from tests.cli.directories import fill
from tests.cli.processes import command, invoke, invoke_program, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LONG = "a\n\x1b" * LENGTH


def end_a_thread() -> None:
    """End a thread by an exception."""
    thread = threading.Thread(target=int, args=[LONG])
    thread.start()
    thread.join()


class Finalized:
    """An object whose finalizer fails."""

    def __del__(self) -> None:
        """Fail."""
        raise ValueError(LONG)


def log_with_a_traceback() -> None:
    """Log an exception as a library does that is not ours."""
    try:
        int(LONG)
    except ValueError:
        logging.getLogger("another.library").exception("it failed")


SPEAKERS: dict[str, Callable[[], object]] = {
    "our-log": lambda: get_log().warning("%s", LONG),
    "log-of-another-library": log_with_a_traceback,
    "warning": lambda: warnings.warn(LONG, RuntimeWarning, stacklevel=1),
    "thread": end_a_thread,
    "finalizer": Finalized,
}


@pytest.mark.parametrize("speak", SPEAKERS.values(), ids=SPEAKERS)
def test_every_message_is_a_short_line(speak: Callable[[], object]) -> None:
    """Whatever code speaks, a command writes some short lines and no traceback."""

    def callback() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            for _ in range(10 * LINES):
                speak()

    program = Program(commands={"speak": click.Command("speak", callback=callback)})
    status, stdout, stderr = invoke_program(program, "speak")
    lines = stderr.splitlines()
    assert (status, stdout, len(lines)) == (0, "", LINES + 1)
    assert all(line.startswith("mpmetrics: ") and len(line) < LENGTH + 50 for line in lines)
    assert f" and {9 * LINES} more like this" in lines[-1]


def test_a_command_leaves_the_log_as_it_was() -> None:
    """A command that runs within another program does not change that program's log or hooks."""
    own, root = get_log(), logging.getLogger()
    handlers = own.handlers.copy(), root.handlers.copy()
    hooks = threading.excepthook, sys.unraisablehook, warnings.showwarning
    invoke("--version")
    assert (own.handlers, root.handlers) == handlers
    assert own.propagate
    assert (threading.excepthook, sys.unraisablehook, warnings.showwarning) == hooks


def test_many_problems_are_some_lines_and_a_number(tmp_path: Path) -> None:
    """Of many problems `dump` writes some, and how many more there are."""
    fill(tmp_path, {f"{number}.db": b"" for number in range(150)})
    status, _, stderr = invoke("dump", tmp_path)
    lines = stderr.splitlines()
    assert (status, len(lines), lines[-1]) == (0, 101, "mpmetrics: … and 50 more")


def test_a_message_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    """A mistake with a name of a hundred thousand bytes is a line of two thousand characters."""
    name = "a" * 100_000
    status, stdout, stderr = run(command("dump", name), cwd=tmp_path)
    assert (status, stdout, stderr.count("\n")) == (2, "", 1)
    assert len(stderr) < 2100
    assert stderr.startswith("mpmetrics: aaa")
    assert stderr.endswith("no such directory\n")
