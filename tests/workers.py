"""Real processes for tests, driven over pipes.

A `Worker` is a process with a multiprocess directory that runs statements when it is told to and
says when it has done so. `run_python` runs a program to its end. Neither outlives its test.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from typing_extensions import Self

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"

PATIENCE: Final = 40.0
"""Seconds after which a process hangs for certain; less than a test has."""

# prometheus_client leaves the closing of its files to the end of the process.
_STRICTLY: Final = ("-W", "error", "-W", "ignore::ResourceWarning")

_OBEY: Final = """
import json
import sys

from prometheus_client import *

for line in sys.stdin:
    how, code = json.loads(line)
    answer = eval(code) if how == "ask" else exec(code)
    print(json.dumps(answer), flush=True)
"""


def environment(
    directory: Path | str | None, *, client: Path | None = None, **more: str
) -> dict[str, str]:
    """Return the environment of a process that writes to *directory* (None: to memory).

    *client* is where another version of prometheus_client is installed.
    """
    env = {name: value for name, value in os.environ.items() if name.upper() != VARIABLE}
    if directory is not None:
        env[VARIABLE] = os.fspath(directory)
    if client is not None:
        env["PYTHONPATH"] = os.fspath(client)
    return {**env, **more}


def run_python(
    program: str | Path, *arguments: str, env: Mapping[str, str], cwd: Path | None = None
) -> str:
    """Run a Python *program*, text or a file, to its end; return what it wrote to stdout.

    A program that fails or warns fails the test.
    """
    how = ["-c", program] if isinstance(program, str) else [os.fspath(program)]
    process = subprocess.Popen(
        [sys.executable, *_STRICTLY, *how, *arguments],
        env=env,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            stdout, stderr = process.communicate(timeout=PATIENCE)
        except BaseException:
            # With all of its children: they may hang where it waits for them.
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert (process.returncode, stderr) == (0, ""), stderr
    return stdout


class Worker:
    """A process that writes metrics when it is told to; it ends with the `with` block.

    Everything that `prometheus_client` exports has its name there without a prefix.
    """

    def __init__(
        self,
        directory: Path | None,
        *,
        client: Path | None = None,
        first: str = "",
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """Start the process; it sees *directory*, or none, and *variables* in its environment.

        It runs the statements *first* before it imports prometheus_client.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-c", first + _OBEY],
            env={**environment(directory, client=client), **(variables or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        """Return the worker itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """End the process, whatever it is doing."""
        self.kill()

    def do(self, statements: str) -> None:
        """Run *statements*; they are done when this returns."""
        self.begin(statements)
        self.finish()

    def ask(self, expression: str) -> Any:
        """Return the value of an *expression*, which JSON must be able to carry."""
        self._send("ask", expression)
        return self.finish()

    def begin(self, statements: str) -> None:
        """Have *statements* run without waiting for their end."""
        self._send("do", statements)

    def finish(self) -> Any:
        """Wait until the worker has done what it was told."""
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        assert answer, "the worker failed; see its traceback on standard error"
        return json.loads(answer)

    def kill(self) -> None:
        """Kill the process with SIGKILL and reap it."""
        self._process.kill()
        # Closes the pipes, too.
        with self._process:
            pass

    def _send(self, how: str, code: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([how, code]) + "\n")
        self._process.stdin.flush()
