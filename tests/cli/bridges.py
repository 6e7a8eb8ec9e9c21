"""`mpmetrics events` in a process of its own."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.cli.processes import command
from tests.workers import PATIENCE, environment, spawn

if TYPE_CHECKING:
    from collections.abc import Iterator


class Bridge:
    """The command in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Take the running *process*."""
        self.process = process

    def next_message(self) -> str:
        """Return the next line on standard error."""
        assert self.process.stderr is not None
        return self.process.stderr.readline()

    def address(self) -> str:
        """Return the URL of the metrics, which is in the first line on standard error."""
        message = self.next_message()
        found = re.fullmatch(
            r"mpmetrics: listening on (http://127\.0\.0\.1:[0-9]+)/metrics\n", message
        )
        assert found, message
        return found[1]

    def lines(self, count: int) -> list[dict[str, Any]]:
        """Return the next lines on standard output."""
        assert self.process.stdout is not None
        return [json.loads(self.process.stdout.readline()) for _ in range(count)]

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@contextmanager
def bridging(*arguments: str, **variables: str) -> Iterator[Bridge]:
    """Run the command; kill it at the end."""
    with spawn(
        command("events", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env={**environment(None), **variables},
    ) as process:
        try:
            yield Bridge(process)
        finally:
            process.kill()
