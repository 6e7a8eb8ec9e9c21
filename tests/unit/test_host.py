"""What the machine says about itself."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from mpmetrics import host
from mpmetrics.host import boot_time, running_pids


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="needs Linux")
def test_this_machine_was_started_and_runs_this_process() -> None:
    """The kernel's own answers are understood."""
    booted, pids = boot_time(), running_pids()
    assert booted is not None
    assert pids is not None
    assert 0 < booted < time.time()
    assert str(os.getpid()) in pids


def test_what_proc_says_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start is one line of many; processes are the directories with numbers for names."""
    (tmp_path / "stat").write_text("cpu  1 2 3\nintr 4\nbtime 1700000000\nprocesses 5\n")
    for name in "1", "42", "self", "sys":
        (tmp_path / name).mkdir()
    monkeypatch.setattr(host, "_PROC", str(tmp_path))
    assert (boot_time(), running_pids()) == (1700000000.0, frozenset({"1", "42"}))


@pytest.mark.parametrize("exists", [False, True], ids=["missing", "empty"])
def test_without_proc_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, exists: bool
) -> None:
    """Other systems have no /proc, or an empty one."""
    proc = tmp_path / "proc"
    if exists:
        proc.mkdir()
        (proc / "stat").touch()
    monkeypatch.setattr(host, "_PROC", str(proc))
    assert (boot_time(), running_pids()) == (None, None)
