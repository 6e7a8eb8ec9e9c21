"""The command, in this process for quick cases, or in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from inspect import signature
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from click.testing import CliRunner

from mpmetrics_cli.__main__ import main
from tests.workers import environment, run_to_end

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    import click

    Argument = str | os.PathLike[str]


# Older releases of click put both streams into one unless told not to.
_SEPARATE_STREAMS: Final[dict[str, Any]] = (
    {"mix_stderr": False} if "mix_stderr" in signature(CliRunner).parameters else {}
)


class Ending(NamedTuple):
    """The exit *status* of a command, and its output."""

    status: int
    stdout: str = ""
    stderr: str = ""


def invoke(*arguments: Argument, obj: object = None, **env: str | None) -> Ending:
    """Run the command in this process; an unexpected exception fails the test.

    *obj* is the object of click's context. The variables of *env* are set; those that are None are
    unset, and so is the directory's.
    """
    return invoke_program(main, *arguments, obj=obj, **env)


def invoke_program(
    program: click.Group, *arguments: Argument, obj: object = None, **env: str | None
) -> Ending:
    """Run a command of *program* like `invoke`."""
    result = CliRunner(**_SEPARATE_STREAMS).invoke(
        program,
        [str(argument) for argument in arguments],
        catch_exceptions=False,
        obj=obj,
        env={"PROMETHEUS_MULTIPROC_DIR": None, "prometheus_multiproc_dir": None, **env},
        prog_name="mpmetrics",
    )
    return Ending(result.exit_code, result.stdout, result.stderr)


def command(*arguments: Argument, flags: Sequence[str] = ()) -> list[str]:
    """Return the command line of a process of its own; *flags* are those of the interpreter."""
    return [sys.executable, *flags, "-m", "mpmetrics_cli", *map(str, arguments)]


def run(line: Sequence[str], *, env: dict[str, str] | None = None, **options: Any) -> Ending:
    """Run a command line to its end; both streams are read as UTF-8 unless *options* say more."""
    process = run_to_end(
        line,
        encoding="utf-8",
        env={**environment(None), **(env or {})},
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )
    return Ending(process.returncode, process.stdout or "", process.stderr or "")
