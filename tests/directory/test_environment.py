"""The variable that names the directory, and the checks of a path."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from mpmetrics.directory.environment import (
    adopt_old_variable,
    directory_from_environment,
    require_directory,
    resolve_directory,
    unusable_reason,
)
from mpmetrics.errors import DirectoryError
from tests.workers import environment, run_python

if TYPE_CHECKING:
    from pathlib import Path

IS_ROOT = hasattr(os, "getuid") and os.getuid() == 0  # Windows has no such function

VARIABLE, OLD_VARIABLE = "PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows does not tell the two variables apart"
)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in an environment that names no directory."""
    # Set first, so that a variable that the test adds is removed again.
    for name in (VARIABLE, OLD_VARIABLE):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_the_new_variable_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The upper-case variable counts whenever it is set, and without a warning."""
    assert directory_from_environment() is None
    monkeypatch.setenv(OLD_VARIABLE, "/old")
    monkeypatch.setenv(VARIABLE, "")
    assert directory_from_environment() == ""
    monkeypatch.setenv(VARIABLE, "/new")
    assert directory_from_environment() == "/new"


def test_the_old_variable_warns_its_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lower-case variable counts alone, with a warning about the line that asked for it."""
    monkeypatch.setenv(OLD_VARIABLE, "/old")
    with pytest.warns(DeprecationWarning, match=OLD_VARIABLE) as caught:
        assert directory_from_environment(stacklevel=1) == "/old"
    assert caught[0].filename == __file__
    with pytest.warns(DeprecationWarning, match=OLD_VARIABLE) as caught:
        assert resolve_directory(None, stacklevel=1) == "/old"
    assert caught[0].filename == __file__


def test_the_old_variable_is_adopted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adopting copies the old variable to the new one, and never replaces that."""
    adopt_old_variable()
    assert VARIABLE not in os.environ
    monkeypatch.setenv(OLD_VARIABLE, "/old")
    with pytest.warns(DeprecationWarning, match=OLD_VARIABLE):
        adopt_old_variable()
    assert os.environ[VARIABLE] == "/old"
    monkeypatch.setenv(OLD_VARIABLE, "/other")
    adopt_old_variable()
    assert os.environ[VARIABLE] == "/old"


def test_an_argument_beats_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that is given is returned as text; the environment counts only without one."""
    monkeypatch.setenv(VARIABLE, "/nowhere")
    assert resolve_directory(tmp_path) == str(tmp_path)
    assert resolve_directory(None) == "/nowhere"
    assert require_directory(tmp_path) == str(tmp_path)
    with pytest.raises(DirectoryError, match="no such directory"):
        require_directory(None)


def test_without_any_directory() -> None:
    """An error says so when neither an argument nor the environment names a directory."""
    with pytest.raises(DirectoryError, match=f"no directory given and {VARIABLE} is not set"):
        resolve_directory(None)


def test_the_reason_why_a_path_is_unusable(tmp_path: Path) -> None:
    """A usable directory has no reason; each other path has one of its own."""
    (tmp_path / "file").touch()
    reasons = {
        str(tmp_path): "",
        "": "the path is empty",
        str(tmp_path / "missing"): "no such directory",
        "a\0b": "no such directory",
        str(tmp_path / "file"): "not a directory",
    }
    assert {path: unusable_reason(path) for path in reasons} == reasons


@pytest.mark.skipif(not IS_ROOT, reason="needs root to become another user")
def test_a_directory_that_this_user_may_not_read(tmp_path: Path) -> None:
    """A directory without rights for this user is unusable, and so is one below it."""
    program = """
import os, sys
from mpmetrics.directory.environment import unusable_reason
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
print({unusable_reason(path) for path in sys.argv[1:]})
"""
    below = tmp_path / "below"
    below.mkdir()
    tmp_path.chmod(0o700)
    expected = "{'the directory cannot be read by this user'}\n"
    env = environment(None)
    assert run_python(program, str(tmp_path), str(below), env=env) == expected
