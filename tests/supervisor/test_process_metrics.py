"""The `process_*` metrics of the processes that descend from this one."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mpmetrics.supervisor import launch
from mpmetrics.supervisor.process_metrics import ProcessMetrics
from mpmetrics.system import list_descendants
from tests.workers import environment, run_python, spawn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mpmetrics.system import Process

IS_ROOT = hasattr(os, "getuid") and os.getuid() == 0  # Windows has no such function

pytestmark = pytest.mark.skipif(not launch.IS_SUPPORTED, reason="run needs Linux")

LEAST_CPU = 0.05
"""Seconds that the child has used at least: it works for 0.1, which the kernel rounds to ticks."""

ANOTHER_USERS = """
import ctypes, subprocess
from mpmetrics.supervisor.process_metrics import ProcessMetrics

class Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]

PTRACE, RESOURCE = 19, 24
with subprocess.Popen(["cat"], stdin=subprocess.PIPE, user=65534):
    libc = ctypes.CDLL(None)
    header, sets = Header(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(ctypes.byref(header), sets) == 0
    for capability in (PTRACE, RESOURCE):
        sets[0] &= ~(1 << capability)  # the effective set, and the permitted
        sets[1] &= ~(1 << capability)
    assert libc.capset(ctypes.byref(header), sets) == 0
    print(*(family.name for family in ProcessMetrics().collect() if family.samples))
"""


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """Return a child of this process that has used CPU time, and waits."""
    program = """
import time
while time.process_time() < 0.1: pass
print(flush=True)
input()
"""
    command = [sys.executable, "-c", program]
    with spawn(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        yield process
        process.kill()


def values(metrics: ProcessMetrics, **labels: str) -> dict[str, float]:
    """Return the value of each sample that has these *labels*."""
    return {
        sample.name: sample.value
        for family in metrics.collect()
        for sample in family.samples
        if sample.labels == labels
    }


def test_each_process_has_a_series(child: subprocess.Popen[bytes]) -> None:
    """With a series for each process, its facts are those that the kernel has of it."""
    seen = values(ProcessMetrics(per_worker=True), pid=str(child.pid))
    assert seen.pop("process_cpu_seconds_total") >= LEAST_CPU
    assert time.time() - 60 < seen.pop("process_start_time_seconds") < time.time() + 1
    assert seen.pop("process_resident_memory_bytes") > 1 << 20
    assert seen.pop("process_virtual_memory_bytes") > 1 << 20
    opened = len(list(Path(f"/proc/{child.pid}/fd").iterdir()))
    limit, _ = resource.prlimit(child.pid, resource.RLIMIT_NOFILE)
    assert seen == {"process_open_fds": opened, "process_max_fds": limit}


def test_the_sum_of_cpu_time_does_not_fall(child: subprocess.Popen[bytes]) -> None:
    """The CPU time of a process counts on when it has ended."""
    metrics = ProcessMetrics()
    before = values(metrics)["process_cpu_seconds_total"]
    assert before >= LEAST_CPU
    child.kill()
    child.wait()
    assert values(metrics)["process_cpu_seconds_total"] >= before


def test_a_child_that_ends_during_the_look_counts_once(child: subprocess.Popen[bytes]) -> None:
    """A child's CPU time counts once when the child ends between the readings of its and ours."""
    looks = 0

    def list_processes() -> list[Process]:
        nonlocal looks
        looks += 1
        processes = list_descendants(os.getpid())
        if looks == 2:  # its time has been read, ours has been read before or after
            child.kill()
            child.wait()
            return list_descendants(os.getpid())
        return processes

    children = os.times()
    before = children.children_user + children.children_system
    metrics = ProcessMetrics(list_processes=list_processes)
    total = values(metrics)["process_cpu_seconds_total"]
    children = os.times()
    assert total == children.children_user + children.children_system >= before + LEAST_CPU
    assert values(metrics)["process_cpu_seconds_total"] == total


def test_a_total_that_cannot_be_read_is_the_last_one() -> None:
    """While processes end during every look, the total stays what it was."""
    cat, others = ["cat"], 0

    def list_processes() -> list[Process]:
        nonlocal others
        others += 1
        with spawn(cat, stdin=subprocess.PIPE):
            return list_descendants(os.getpid())

    metrics = ProcessMetrics(list_processes=list_processes)
    assert values(metrics)["process_cpu_seconds_total"] == 0
    assert others == 10


def test_without_processes_there_is_only_cpu_time() -> None:
    """A process without children has a CPU time of its former children, and empty gauges."""
    program = """
from mpmetrics.supervisor.process_metrics import ProcessMetrics
print([(family.name, len(family.samples)) for family in ProcessMetrics().collect()][:2])
"""
    expected = "[('process_cpu_seconds', 1), ('process_virtual_memory_bytes', 0)]\n"
    assert run_python(program, env=environment(None)) == expected


@pytest.mark.skipif(not IS_ROOT, reason="needs root to start a process of another user")
def test_the_file_limit_of_another_users_process_is_known(tmp_path: Path) -> None:
    """The limit of open files is known where prlimit(2) refuses it, as to root in a container."""
    file = tmp_path / "program.py"
    file.write_text(ANOTHER_USERS)
    assert "process_max_fds" in run_python(file, env=environment(None)).split()
