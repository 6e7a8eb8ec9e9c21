"""The variable that names the directory, and the checks of a path."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from mpmetrics.directory.environment import (
    adopt_old_variable,
    directory_from_environment,
    expect_directory,
    find_mistake,
    require_directory,
    resolve_directory,
    unmakeable_reason,
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


MISTAKES = {
    '"/run/x"': "quotes around it; is /run/x meant?",
    "'/run/x": "quotes around it; is /run/x meant?",
    " /run/x": "a blank at its beginning or end; is /run/x meant?",
    "/run/x\t": "a blank at its beginning or end; is /run/x meant?",
    "/run/x\n": "a line break in it; is /run/x meant?",
    "/run/x\r\n": "a line break in it; is /run/x meant?",
    "/run/x\n/run/y": "a line break in it",
    "~/x": "a ~ that only a shell replaces; is /home/me/x meant?",
    "'~/x' ": (
        "a blank at its beginning or end and quotes around it and a ~ that only a shell replaces; "
        "is /home/me/x meant?"
    ),
    "$HOME/x": "a $ that only a shell replaces; is /home/me/x meant?",
    "/run/${NOT_SET_ANYWHERE}/x": "a $ that only a shell replaces",
    "file:///run/x%20y": "the form of a URL; is /run/x y meant?",
    "file:/run/x": "the form of a URL; is /run/x meant?",
    "http://host/x": "the form of a URL",
}
"""Paths that a shell or a browser would change, and what is said of each."""


@pytest.mark.parametrize("path", MISTAKES)
def test_a_mistake_in_a_path_is_named(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only a shell or a browser replaces is named, with the path that may be meant."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    mistake = f"the path has {MISTAKES[path]}"
    assert find_mistake(path) == mistake
    assert unusable_reason(path) == f"no such directory: {mistake}"
    assert unmakeable_reason(path) == mistake
    with pytest.raises(DirectoryError, match="the path has"):
        expect_directory(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["/run/x", "x", "/run/a b", "/run/it's", "/run/x~", "/a/$b", ""])
def test_a_plain_path_has_no_mistake(path: str) -> None:
    """A path with odd characters inside is as it should be."""
    assert find_mistake(path) == ""


def test_a_directory_with_such_a_name_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A directory that is really called so is used, and one line says that it was."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~").mkdir()
    monkeypatch.setenv(VARIABLE, "~")
    assert [require_directory(None), require_directory(None)] == ["~", "~"]
    assert unmakeable_reason("~") == ""
    (message,) = caplog.messages
    assert message.startswith(f"{VARIABLE} is taken as it is, '~': the path has a ~ that only")


def test_a_relative_path_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A relative path in the variable is logged once, with what it stands for here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, f"{tmp_path.name}-relative")
    assert directory_from_environment() == directory_from_environment()
    (message,) = caplog.messages
    assert f"here it is {tmp_path / tmp_path.name}-relative, in another" in message


def test_a_directory_that_may_come(tmp_path: Path) -> None:
    """A missing directory may be waited for, behind a symbolic link, too; a file may not."""
    missing, link, file = tmp_path / "missing", tmp_path / "link", tmp_path / "file"
    link.symlink_to("missing")
    file.touch()
    behind = "it is a symbolic link to missing, where there is nothing"
    assert expect_directory(missing) == (str(missing), "no such directory")
    assert expect_directory(link) == (str(link), f"no such directory: {behind}")
    assert unmakeable_reason(str(missing)) == ""
    assert unmakeable_reason(str(link)) == f"no such directory: {behind}"
    assert unmakeable_reason(str(file)) == "not a directory"
    with pytest.raises(DirectoryError, match="not a directory"):
        expect_directory(file)
    missing.mkdir()
    assert expect_directory(link) == (str(link), "")
