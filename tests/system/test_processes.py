"""What proc(5) says of processes, and what it keeps to itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mpmetrics.system import processes
from mpmetrics.system.processes import read_process
from tests.workers import PATIENCE, environment, run_python

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux")

SOMEBODY_ELSES = """
import ctypes, os, subprocess
from mpmetrics.system.processes import read_process

class Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]

PTRACE = 19
ended = subprocess.Popen(["false"], user=65534)
os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
told = read_process(ended.pid).exit_status
libc = ctypes.CDLL(None)
header, sets = Header(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert libc.capget(ctypes.byref(header), sets) == 0
sets[0] &= ~(1 << PTRACE)  # the effective set, and the permitted
sets[1] &= ~(1 << PTRACE)
assert libc.capset(ctypes.byref(header), sets) == 0
print(told, read_process(ended.pid).exit_status)
ended.wait()
"""


def test_the_exit_status_of_who_has_ended() -> None:
    """As long as nobody has waited for it, the kernel has its status; who runs has none."""
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", "raise SystemExit(7)"], os.environ)
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        ended = read_process(pid)
    finally:
        os.waitpid(pid, 0)
    assert ended is not None
    assert not ended.is_running
    assert ended.exit_status is not None
    assert os.waitstatus_to_exitcode(ended.exit_status) == 7
    itself = read_process(os.getpid())
    assert itself is not None
    assert (itself.is_running, itself.exit_status) == (True, None)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to start a process of another user")
def test_a_status_that_is_kept_secret_is_not_taken_for_success(tmp_path: Path) -> None:
    """Of another user's process the kernel says 0, whatever it was: that is not known."""
    file = tmp_path / "program.py"
    file.write_text(SOMEBODY_ELSES)
    told, kept = run_python(file, env=environment(None)).split()
    assert (told, kept) in {("256", "None"), ("None", "None")}


def test_a_kernel_without_lists_of_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then all processes are looked through, and the same ones are found."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        listed = {process.pid for process in processes.list_descendants(os.getpid())}
        monkeypatch.setattr(processes, "_lists_children", lambda: False)
        searched = {process.pid for process in processes.list_descendants(os.getpid())}
        assert child.pid in listed
        assert searched == listed
        child.kill()


def test_who_has_ended_has_no_children() -> None:
    """Nobody is looked for in vain."""
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait(PATIENCE)
    assert processes.list_children(child.pid) == []
