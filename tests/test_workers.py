"""The processes that tests start: none outlives its test process."""

from __future__ import annotations

import ast
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.workers import PATIENCE, environment, spawn

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).parent

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells a child of its parent's end"
)

TEST_PROCESS = """
import signal, subprocess, sys
from tests.workers import Worker, fork, spawn
forked = fork()
while forked == 0: pass
spinning = [sys.executable, "-c", "while True: pass"]
killed, asked = spawn(spinning), spawn(spinning, ending=signal.SIGTERM)
worker = Worker(None)
worker.begin("while True: pass")
print(forked, killed.pid, asked.pid, worker.pid, flush=True)
signal.pause()
"""


def program(text: str) -> subprocess.Popen[str]:
    """Start a program that can import the tests."""
    root = os.fspath(TESTS.parent)
    return spawn(
        [sys.executable, "-c", text],
        env=environment(None, PYTHONPATH=root),
        stdout=subprocess.PIPE,
        text=True,
    )


def test_children_end_with_their_test_process() -> None:
    """A test process that is killed with SIGKILL leaves no child, whatever the child is doing."""
    with program(TEST_PROCESS) as process:
        assert process.stdout is not None
        children = [os.pidfd_open(int(pid)) for pid in process.stdout.readline().split()]
        assert len(children) == 4
        process.kill()
        try:
            for child in children:
                assert select.select([child], [], [], PATIENCE)[0], "a child is left"
        finally:
            for child in children:
                os.close(child)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_child_ends_whose_parent_has_ended_before_it_could_know(number: int) -> None:
    """A child that finds another parent than the one that started it ends at once."""
    text = f"from tests.workers import _end_with_parent; _end_with_parent(1, {int(number)})"
    with program(text) as process:
        assert process.wait(PATIENCE) == -number


def starts(file: Path) -> Iterator[str]:
    """Yield the functions with which *file* starts processes by itself."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {
            *("os.fork", "os.posix_spawn", "os.posix_spawnp", "os.system", "os.popen"),
            *("subprocess.Popen", "subprocess.run", "subprocess.call"),
            *("subprocess.check_call", "subprocess.check_output"),
        }:
            yield f"{file.relative_to(TESTS)}: {ast.unparse(node.func)}"


def test_all_processes_are_started_in_one_place() -> None:
    """No module of the tests starts a process but through `tests.workers`."""
    modules = [file for file in TESTS.rglob("*.py") if file != TESTS / "workers.py"]
    assert [start for file in sorted(modules) for start in starts(file)] == []
