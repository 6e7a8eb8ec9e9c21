"""A process that compacts directories when it is told to, and is disturbed on its way.

Run as a program it reads requests from standard input. For each it forks a child that compacts
and comes to grief at one operation on the file system: it is killed, or the operation fails, or
it waits there until the test has done something. Forking from a warm process makes hundreds of
these affordable.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mpmetrics.compaction import compact
from mpmetrics.errors import CompactionError
from mpmetrics.liveness import can_tell
from tests.workers import environment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typing_extensions import Self

_CHANGING: Final = (
    *((os, "write"), (os, "fsync"), (os, "rename"), (os, "link")),
    *((os, "unlink"), (os, "ftruncate")),
)
_FILES: Final = (*_CHANGING, (os, "open"))
# Leases end with the process: being killed around them is being killed at the next operation.
_LEASES: Final = (*_FILES, (fcntl, "fcntl"))


class Report(NamedTuple):
    """How a compaction ended: its *outcome* or *error*, or neither if it was killed.

    *operations* is how many it did, of those that were counted.
    """

    outcome: str = ""
    error: str = ""
    operations: int = 0

    @property
    def was_killed(self) -> bool:
        """Whether it did not come to its end."""
        return not (self.outcome or self.error)


class Saboteur:
    """Compacts directories in another process; it ends with the `with` block."""

    def __init__(self) -> None:
        """Start the process."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.saboteur"],
            env=environment(None),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self._line = b""

    def __enter__(self) -> Self:
        """Return the saboteur itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """End the process."""
        with self._process:
            self._process.kill()

    def compact(self, path: Path, *, keep: bool = False) -> Report:
        """Compact without any disturbance."""
        return self._request(path, 0, "kill", keep=keep)

    def kill_at(self, operation: int, path: Path, *, keep: bool = False) -> Report:
        """Compact, and be killed before the *operation*, counted from 1."""
        return self._request(path, operation, "kill", keep=keep)

    def fail_at(self, operation: int, path: Path, number: int) -> Report:
        """Compact; the *operation*, counted from 1 among those that write, fails with an errno."""
        return self._request(path, operation, str(number))

    def pause_at(self, operation: int, path: Path, do: Callable[[], None]) -> Report:
        """Compact, and wait before the *operation* until *do* returns."""
        self._send({"path": os.fspath(path), "at": operation, "how": "pause", "keep": False})
        answer = self._read()
        if answer == "paused":
            do()
            self._send("go on")
            answer = self._read()
        return Report(**answer)

    def _request(self, path: Path, at: int, how: str, *, keep: bool = False) -> Report:
        self._send({"path": os.fspath(path), "at": at, "how": how, "keep": keep})
        return Report(**self._read())

    def _send(self, request: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the saboteur has ended; see standard error"
        return json.loads(line)


def _say(answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _disturb(how: str) -> None:
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "pause":
        _say("paused")
        select.select([0], [], [])
        os.read(0, 100)
    else:
        raise OSError(int(how), os.strerror(int(how)))


def _arm(at: int, how: str) -> Callable[[], int]:
    """Have the operation number *at* disturbed; return a function that says how many there were."""
    count = 0

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            nonlocal count
            count += 1
            if count == at:
                _disturb(how)
            return function(*arguments, **more)

        return call

    # Nobody pulls the plug: what is written is there, and hundreds of tests need not wait.
    os.fsync = lambda fd: None  # noqa: ARG005 - as it is called

    def opening(path: Any, flags: int, *more: Any, **named: Any) -> int:
        return (creating if flags & os.O_CREAT else plain)(path, flags, *more, **named)

    plain = os.open
    for module, name in {"kill": _FILES, "pause": _LEASES}.get(how, _CHANGING):
        setattr(module, name, watched(getattr(module, name)))
    if how.isdecimal():
        creating = watched(plain)
        os.open = opening
    return lambda: count


def _obey(request: dict[str, Any]) -> None:
    """Compact in a child, and say how that ended."""
    can_tell(request["path"])
    child = os.fork()
    if child == 0:
        operations = _arm(request["at"], request["how"])
        outcome = error = ""
        try:
            outcome = compact(request["path"], request["keep"]).outcome
        except CompactionError as raised:
            error = str(raised)
        _say(Report(outcome, error, operations())._asdict())
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        _say(Report()._asdict())
    else:
        assert status == 0


if __name__ == "__main__":
    # Unbuffered: a child that pauses reads the next line itself.
    buffer = b""
    while True:
        chunk = os.read(0, 1 << 16)
        if not chunk:
            break
        buffer += chunk
        while b"\n" in buffer:
            line, _, buffer = buffer.partition(b"\n")
            _obey(json.loads(line))
