"""Real processes for tests.

Every process that a test starts is started here: by `spawn`, `run_to_end` or `fork`. The kernel
kills it as soon as the test process ends, even if that is killed itself (Linux only).

A `Worker` is a process with a multiprocess directory. It runs statements that it gets over a pipe,
and answers when they are done. `run_python` runs a program to its end.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import warnings
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

    Command = Sequence[str | os.PathLike[str]]

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"

PATIENCE: Final = 240.0
"""Seconds after which a process hangs for certain, on a slow machine too; less than a test has."""

# prometheus_client leaves the closing of its files to the end of the process.
_STRICTLY: Final = ("-W", "error", "-W", "ignore::ResourceWarning")

_PR_SET_PDEATHSIG: Final = 1
_KILL: Final = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has no SIGKILL
_libc: Final[Any] = ctypes.CDLL(None) if sys.platform == "linux" else None


def _tied_to_this_process(number: int) -> dict[str, Any]:
    """Return options of `subprocess` for a child that gets *number* when this process ends."""
    if _libc is None:
        return {}
    return {"preexec_fn": partial(_end_with_parent, os.getpid(), number)}


def _end_with_parent(parent: int, number: int) -> None:
    """Have the kernel send this process the signal *number* when its *parent* ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:  # it has ended before the kernel knew
        os.kill(os.getpid(), number)


@contextmanager
def _forking() -> Iterator[None]:
    """Ignore that new versions of Python warn of a fork while there are other threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def fork() -> int:
    """Fork as `os.fork` does; the child is killed when this process ends.

    It has to be called in a thread that lives as long as the child shall.
    """
    parent = os.getpid()
    with _forking():
        child = os.fork()
    if child == 0 and _libc is not None:
        _end_with_parent(parent, _KILL)
    return child


class _Child(subprocess.Popen[Any]):
    """A child that gets *ending* if the block that waits for it fails."""

    def __init__(self, command: Command, ending: int, **options: Any) -> None:
        self._ending = ending
        super().__init__(command, **options)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.send_signal(self._ending)
        super().__exit__(kind, value, traceback)


def spawn(command: Command, *, ending: int = _KILL, **options: Any) -> subprocess.Popen[Any]:
    """Start a *command* as `subprocess.Popen` does; it gets *ending* when this process ends.

    It also gets it if a `with` block of the child raises. A command that has children of its own,
    and ends them when it is asked to, gets SIGTERM. The thread that starts it has to live as long
    as the command shall.
    """
    with _forking():
        return _Child(command, ending, **_tied_to_this_process(ending), **options)


def run_to_end(
    command: Command,
    *,
    ending: int = _KILL,
    timeout: float | None = PATIENCE,
    check: bool = False,
    **options: Any,
) -> subprocess.CompletedProcess[Any]:
    """Run a *command* as `subprocess.run` does; it gets *ending* when this process ends."""
    tied = _tied_to_this_process(ending)
    with _forking():
        return subprocess.run(command, timeout=timeout, check=check, **tied, **options)


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
    """Return the environment of a process that writes to *directory*, or to memory if that is None.

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
    process: subprocess.Popen[str] = spawn(
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
    """A process that writes metrics on demand; it ends with the `with` block.

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
        self._process = spawn(
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
        """Kill the process, whatever it is doing."""
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
        """Have *statements* run; this does not wait for their end."""
        self._send("do", statements)

    def finish(self) -> Any:
        """Wait until the worker has done its statements; return its answer."""
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
