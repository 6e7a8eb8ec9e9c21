"""A server under `mpmetrics run`, as a process of the test; it ends with the `with` block."""

from __future__ import annotations

import os
import re
import select
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from prometheus_client.parser import text_string_to_metric_families

from mpmetrics.system.processes import list_descendants
from tests.cli.processes import command
from tests.servers import fetch
from tests.workers import PATIENCE, environment, spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from typing_extensions import Self

    from mpmetrics.system.processes import Process


class Wrapped:
    """`mpmetrics run` with *options* and a server's command line; both streams are kept apart.

    A *script* that takes the options has the command line in itself.
    """

    def __init__(
        self,
        *line: str,
        options: Iterable[str] = (),
        script: Path | None = None,
        **popen: Any,
    ) -> None:
        """Start the command, with the page on a free port."""
        options = ["--listen", "127.0.0.1:0", *options]
        program = [str(script), *options] if script else command("run", *options, "--", *line)
        env = {**environment(None), **popen.pop("env", {})}
        self.process = spawn(program, stderr=subprocess.PIPE, bufsize=0, env=env, **popen)
        self.said = b""
        self._seen: dict[int, Process] = {}

    def __enter__(self) -> Self:
        """Wait until the page is served."""
        found = self.wait_for(rb"listening on (http://\S+/metrics)\n")
        self.url = found[1].decode()
        return self

    def __exit__(self, *exception: object) -> None:
        """Kill all processes that are left, orphans of a server that has ended included."""
        self._note_processes()
        self.process.kill()
        for process in self._seen.values():
            with suppress(psutil.NoSuchProcess):  # which is also raised if the pid is used again
                process.handle.kill()
        with self.process:
            pass

    def _note_processes(self) -> None:
        self._seen |= {each.pid: each for each in list_descendants(self.process.pid)}

    def wait_for(self, pattern: bytes) -> re.Match[bytes]:
        """Wait until standard error has *pattern*; return the match."""
        assert self.process.stderr is not None
        deadline = time.monotonic() + PATIENCE
        while (found := re.search(pattern, self.said)) is None:
            ready, _, _ = select.select([self.process.stderr], [], [], deadline - time.monotonic())
            chunk = os.read(self.process.stderr.fileno(), 1 << 16) if ready else b""
            assert chunk, f"no {pattern!r} in {self.said.decode()}"
            self.said += chunk
        return found

    def end(self, number: int | None = None, *, patience: float = PATIENCE) -> int:
        """Send the signal *number*, if any, and wait for the end; return the status.

        Raises `TimeoutError` if the end takes more than *patience* seconds.
        """
        self._note_processes()
        if number is not None:
            self.process.send_signal(number)
        assert self.process.stderr is not None
        stderr = self.process.stderr.fileno()
        ended = os.pidfd_open(self.process.pid)
        try:
            deadline = time.monotonic() + patience
            while True:
                # Not until the stream ends: orphans of the server may have it open.
                left = max(0.0, deadline - time.monotonic())
                ready, _, _ = select.select([stderr, ended], [], [], left)
                if not ready:
                    message = f"does not end: {self.said.decode()}"
                    raise TimeoutError(message)
                chunk = os.read(stderr, 1 << 16) if stderr in ready else b""
                self.said += chunk
                if ended in ready and not chunk:
                    return self.process.wait(PATIENCE)
        finally:
            os.close(ended)

    def samples(self) -> dict[str, float]:
        """Scrape the page; return the value of each series, by name and label values."""
        page = fetch(self.url)
        assert page.status == 200
        return {
            " ".join([sample.name, *sample.labels.values()]): sample.value
            for family in text_string_to_metric_families(page.body.decode())
            for sample in family.samples
        }

    def until(self, is_so: Callable[[dict[str, float]], bool]) -> dict[str, float]:
        """Scrape until *is_so* returns True for a page; return that page."""
        deadline = time.monotonic() + PATIENCE
        while True:
            samples = self.samples()
            if is_so(samples):
                return samples
            assert time.monotonic() < deadline, (samples, self.said.decode())
            time.sleep(0.05)  # a page does not notify its readers of changes

    @property
    def directory(self) -> Path:
        """The directory that the server writes to, from its main process's environment."""
        main = self.children()[0]
        variables = Path(f"/proc/{main}/environ").read_bytes().split(b"\0")
        name = b"PROMETHEUS_MULTIPROC_DIR="
        found = [each.removeprefix(name) for each in variables if each.startswith(name)]
        return Path(os.fsdecode(found[0]))

    def children(self) -> list[int]:
        """Return the pids of the processes that descend from the run, parents first."""
        return [each.pid for each in list_descendants(self.process.pid) if each.is_running]
