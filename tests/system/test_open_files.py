"""The files that a process uses, and its variables."""

from __future__ import annotations

import mmap
import os
import sys
from typing import TYPE_CHECKING

import pytest

from mpmetrics.system.open_files import OpenFile, list_open_files, read_variable
from tests.workers import environment, run_to_end

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux has these lists")


def test_open_and_mapped_files_are_listed(tmp_path: Path) -> None:
    """A file counts while it is open or mapped, also after it was removed, whatever its name."""
    path = tmp_path / "a file\nof two lines.db"
    path.write_bytes(bytes(10))
    name = os.fspath(path)
    with path.open("r+b") as file:
        assert list_open_files(os.getpid(), "lines.db") == {OpenFile(name, is_deleted=False)}
        mapping = mmap.mmap(file.fileno(), 10)
    with mapping:
        assert list_open_files(os.getpid(), "lines.db") == {OpenFile(name, is_deleted=False)}
        path.unlink()
        assert list_open_files(os.getpid(), "lines.db") == {OpenFile(name, is_deleted=True)}
    assert list_open_files(os.getpid(), "lines.db") == frozenset()


def test_the_variables_are_those_of_the_start() -> None:
    """A variable is read as the process got it, also if it is empty."""
    program = """
import os
from mpmetrics.system import read_variable
os.environ["A"] = "changed"
print([read_variable(os.getpid(), name) for name in ("A", "B", "C")])
"""
    env = environment(None, A="a=b", B="")
    done = run_to_end([sys.executable, "-c", program], env=env, capture_output=True, text=True)
    assert done.stdout == "['a=b', '', None]\n"


def test_a_process_that_is_gone() -> None:
    """A process that has ended is an error of the system."""
    with pytest.raises(OSError, match="No such"):
        list_open_files(2**22 + 1, ".db")
    with pytest.raises(OSError, match="No such"):
        read_variable(2**22 + 1, "A")
