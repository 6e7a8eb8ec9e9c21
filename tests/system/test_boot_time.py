"""What the machine says about itself."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mpmetrics.system import processes
from mpmetrics.system.processes import boot_time


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="needs Linux")
def test_this_machine_was_started() -> None:
    """The kernel's own answer is understood."""
    booted = boot_time()
    assert booted is not None
    assert 0 < booted < time.time()


def test_what_proc_says_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start is one line of many."""
    (tmp_path / "stat").write_text("cpu  1 2 3\nintr 4\nbtime 1700000000\nprocesses 5\n")
    monkeypatch.setattr(processes, "PROC", str(tmp_path))
    assert boot_time() == 1700000000.0


@pytest.mark.parametrize("exists", [False, True], ids=["missing", "empty"])
def test_without_proc_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, exists: bool
) -> None:
    """Other systems have no /proc, or an empty one."""
    proc = tmp_path / "proc"
    if exists:
        proc.mkdir()
        (proc / "stat").touch()
    monkeypatch.setattr(processes, "PROC", str(proc))
    assert boot_time() is None
