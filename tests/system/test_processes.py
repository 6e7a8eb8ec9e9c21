"""The processes of a machine, and what the kernel keeps secret of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from mpmetrics.system.processes import (
    Process,
    list_children,
    list_descendants,
    read_age,
    read_children,
    read_exit_status,
    search_children,
    select_workers,
)
from tests.servers import eventually
from tests.workers import PATIENCE, environment, fork, run_python, spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IS_ROOT = hasattr(os, "getuid") and os.getuid() == 0  # Windows has no such function

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux")

ANOTHER_USERS = """
import ctypes, os, subprocess
from mpmetrics.system.processes import list_children, read_exit_status

class Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]

PTRACE = 19
ended = subprocess.Popen(["false"], user=65534)
os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
(process,) = list_children(os.getpid())
told = read_exit_status(process)
libc = ctypes.CDLL(None)
header, sets = Header(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert libc.capget(ctypes.byref(header), sets) == 0
sets[0] &= ~(1 << PTRACE)  # the effective set, and the permitted
sets[1] &= ~(1 << PTRACE)
assert libc.capset(ctypes.byref(header), sets) == 0
print(told, read_exit_status(process))
ended.wait()
"""


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """Return a child of this process that runs the same program, until the test ends."""
    with spawn([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def find_child(pid: int) -> Process:
    """Return the child *pid* of this process as it is now."""
    (child,) = [each for each in list_children(os.getpid()) if each.pid == pid]
    return child


def test_the_exit_status_of_a_zombie_is_known() -> None:
    """The kernel has the status of a process until its parent waits for it; not before its end."""
    pid = fork()
    if pid == 0:
        os._exit(7)
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        ended = find_child(pid)
        status = read_exit_status(ended)
    finally:
        os.waitpid(pid, 0)
    assert not ended.is_running
    assert status is not None
    assert os.waitstatus_to_exitcode(status) == 7
    assert read_exit_status(ended) is None
    assert pid not in {each.pid for each in list_children(os.getpid())}


def test_a_process_that_runs_has_no_exit_status(child: subprocess.Popen[bytes]) -> None:
    """The exit status of a process that runs is unknown, not success."""
    process = find_child(child.pid)
    assert (process.parent, process.is_running) == (os.getpid(), True)
    assert read_exit_status(process) is None


@pytest.mark.skipif(not IS_ROOT, reason="needs root to start a process of another user")
def test_a_status_that_is_kept_secret_is_not_taken_for_success(tmp_path: Path) -> None:
    """The kernel reports status 0 for another user's process; it is unknown, not success."""
    file = tmp_path / "program.py"
    file.write_text(ANOTHER_USERS)
    told, kept = run_python(file, env=environment(None)).split()
    assert (told, kept) in {("256", "None"), ("None", "None")}


def test_a_kernel_without_lists_of_children(child: subprocess.Popen[bytes]) -> None:
    """A search among all processes finds the same ones as the kernel's lists."""
    listed = {each.handle: each for each in list_descendants(os.getpid(), read_children)}
    searched = {each.handle: each for each in list_descendants(os.getpid(), search_children)}
    assert child.pid in {handle.pid for handle in listed}
    assert searched == listed


@pytest.mark.parametrize("children_of", [list_children, read_children, search_children])
def test_a_process_that_has_ended_has_no_children(
    children_of: Callable[[int], list[Process]],
) -> None:
    """The children of a process that is gone are an empty list, not an error."""
    with spawn([sys.executable, "-c", ""]) as process:
        process.wait(PATIENCE)
    assert children_of(process.pid) == []


def test_a_worker_runs_the_program_of_its_parent(child: subprocess.Popen[bytes]) -> None:
    """A child with its parent's program is a worker; one with another program is not."""
    itself, worker = Process(psutil.Process(), 0, is_running=True), find_child(child.pid)
    with spawn(["/bin/cat"], stdin=subprocess.PIPE) as program:
        other = find_child(program.pid)
        assert list(select_workers([itself, worker, other])) == [worker]
        program.communicate()


def test_a_part_of_a_shell_script_is_no_worker() -> None:
    """A shell that runs a part of its script in a child of its own program has no worker."""
    with spawn(["/bin/sh", "-c", "(read line; :); :"], stdin=subprocess.PIPE) as shell:
        itself = find_child(shell.pid)
        eventually(lambda: list_children(shell.pid), "a child of the shell")
        assert list(select_workers([itself, *list_children(shell.pid)])) == []
        shell.communicate()


def test_the_age_of_a_process_goes_on_after_its_end(child: subprocess.Popen[bytes]) -> None:
    """The age counts from the start of a process, and is known when the process is gone."""
    process = find_child(child.pid)
    assert time.time() - PATIENCE < process.started < time.time() + 1
    alive = read_age(process)
    child.kill()
    child.wait(PATIENCE)
    assert -0.1 <= alive <= read_age(process) < PATIENCE


def test_handles_tell_processes_apart(child: subprocess.Popen[bytes]) -> None:
    """Two looks at one process have equal handles; looks at two processes do not."""
    handle = find_child(child.pid).handle
    assert handle == find_child(child.pid).handle
    assert handle != psutil.Process()


def test_readers_need_no_psutil(tmp_path: Path) -> None:
    """Collecting, compacting and the doctor work without psutil; `run` names the extra."""
    program = """
import sys
sys.modules["psutil"] = None
import mpmetrics
from mpmetrics.doctor import diagnose
assert mpmetrics.collect(sys.argv[1]).problems == []
assert mpmetrics.compact(sys.argv[1]).outcome == "nothing"
assert diagnose(sys.argv[1])
from mpmetrics_cli.__main__ import main
sys.stderr = sys.stdout
try:
    main(["run", "true"])
except SystemExit as error:
    print(error.code)
"""
    said = (
        "mpmetrics: the package psutil is needed, which the extra 'serve' brings: "
        "pip install '.[serve]' in a clone of mpmetrics"
    )
    assert run_python(program, str(tmp_path), env=environment(None)) == f"{said}\n2\n"
