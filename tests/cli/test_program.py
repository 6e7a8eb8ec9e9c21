"""How the command ends, whatever happens to it; most of this needs a process of its own."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

import mpmetrics
from mpmetrics import scrape
from mpmetrics_cli.__main__ import main
from tests.cli.directories import fill
from tests.cli.processes import Ending, command, invoke, run
from tests.database import counter
from tests.workers import PATIENCE, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMANDS = tuple(main.commands)

# More than a pipe holds, so that whoever writes has to wait for a reader.
MANY = 3000

BUFFERING = {
    "buffered": {"PYTHONUNBUFFERED": ""},  # for Python that is as good as not set
    "unbuffered": {"PYTHONUNBUFFERED": "1"},
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory with one counter."""
    return fill(tmp_path, {"counter_7.db": counter("requests", 1, {"path": "/ünï"})})


@pytest.fixture
def large_directory(tmp_path: Path) -> Path:
    """Return a directory whose page is larger than a pipe."""
    samples = [counter("requests", number, {"path": f"/{number}"}) for number in range(MANY)]
    return fill(tmp_path, {"counter_7.db": samples})


@pytest.fixture
def broken_pipe() -> Iterator[int]:
    """Yield the writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


# -- help and versions ----------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), *((name,) for name in COMMANDS)], ids=" ".join)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_does_not_wait_for_prometheus_client(arguments: tuple[str, ...], option: str) -> None:
    """Help is there at once: what a command will need is imported when it runs."""
    line = [sys.executable, "-X", "importtime", "-m", "mpmetrics_cli", *arguments, option]
    status, stdout, stderr = run(line)
    assert (status, stdout.split()[:2]) == (0, ["Usage:", "mpmetrics"])
    assert "mpmetrics_cli" in stderr
    assert "prometheus_client" not in stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_everything_has_help(name: str) -> None:
    """Every command and every option says what it is for; every argument is spoken of."""
    each = main.commands[name]
    assert each.help
    for parameter in each.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
        else:
            assert ("COMMAND" if name == "run" else "DIR") in each.help


def test_without_arguments_the_help_is_shown() -> None:
    """Who does not know how to begin is told, but nothing was done: that is a mistake."""
    ending = invoke()
    assert (ending.status, ending.stdout) == (2, "")
    assert ending.stderr.startswith("Usage: mpmetrics ")


def test_both_entry_points_know_the_version() -> None:
    """The console script and the module are the same program, of the installed version."""
    expected = Ending(0, f"mpmetrics, version {version('mpmetrics-toolkit')}\n")
    script = Path(sysconfig.get_path("scripts"), "mpmetrics")
    assert run([str(script), "--version"]) == expected
    assert run(command("--version")) == expected


# -- mistakes -------------------------------------------------------------------------------------


# Options that take one of a few values, or a number.
CHOOSY = {"run": "--grace", "serve": "--timeout", "events": "--ranks"}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_value_that_cannot_be_is_a_mistake(name: str) -> None:
    """So is none at all."""
    option = CHOOSY.get(name, "--format")
    status, stdout, stderr = invoke(name, option)
    assert (status, stdout) == (2, "")
    assert stderr == f"mpmetrics: Option '{option}' requires an argument.\n"
    status, stdout, stderr = invoke(name, option, "xml")
    assert (status, stdout, stderr.count("\n")) == (2, "", 1)
    assert f"Invalid value for '{option}'" in stderr


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in {"run", "events"}])
def test_two_directories_are_a_mistake(name: str) -> None:
    """One at a time."""
    status, stdout, stderr = invoke(name, ".", ".")
    assert (status, stdout) == (2, "")
    assert stderr == "mpmetrics: Got unexpected extra argument (.)\n"


def test_events_are_of_no_directory() -> None:
    """They come from a publisher."""
    status, stdout, stderr = invoke("events", "--source", "tcp://127.0.0.1:5557", ".")
    assert (status, stdout) == (2, "")
    assert stderr == "mpmetrics: Got unexpected extra argument (.)\n"


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["--no-such"], "--no-such", id="option"),
        pytest.param(["--no\nsuch"], "--no\\nsuch", id="line-break"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(name: str, arguments: list[str], words: str) -> None:
    """A wrong call is told in one line: no usage, no traceback."""
    status, stdout, stderr = invoke(name, *arguments)
    assert (status, stdout, stderr.count("\n")) == (2, "", 1)
    assert stderr.startswith("mpmetrics: ")
    assert words in stderr


def test_an_unknown_command_is_a_mistake() -> None:
    """A command that does not exist is told like any other mistake."""
    status, stdout, stderr = invoke("undump")
    assert (status, stdout, stderr.count("\n")) == (2, "", 1)
    assert stderr.startswith("mpmetrics: No such command 'undump'")


def test_a_file_that_the_system_refuses_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else the system refuses is one line, too, with the name of the file."""

    def fail(*_args: object, **_options: object) -> None:
        raise OSError(errno.EIO, "Input/output error", "/m/a\nb")

    monkeypatch.setattr(scrape, "take_snapshot", fail)
    assert invoke("dump") == Ending(1, "", "mpmetrics: /m/a\\nb: Input/output error\n")


def test_a_mistake_in_a_process_of_its_own(tmp_path: Path) -> None:
    """What the runner says holds for the real thing, also where assertions are switched off."""
    missing = tmp_path / "missing"
    expected = Ending(2, "", f"mpmetrics: {missing}: no such directory\n")
    assert run(command("dump", missing)) == expected
    assert run(command("dump", missing, flags=["-O"])) == expected


# -- streams --------------------------------------------------------------------------------------


@pytest.mark.parametrize("env", BUFFERING.values(), ids=BUFFERING)
def test_a_page_larger_than_a_pipe_is_complete(large_directory: Path, env: dict[str, str]) -> None:
    """Not a byte is lost when the reader is slower than the writer."""
    expected = mpmetrics.collect(large_directory).render().decode()
    assert run(command("dump", large_directory), env=env) == Ending(0, expected)


@pytest.mark.parametrize("flags", [["-O"], ["-X", "dev", "-W", "error"]], ids=" ".join)
def test_every_interpreter_writes_the_same(directory: Path, flags: list[str]) -> None:
    """Nothing depends on assertions, and there is nothing to warn of."""
    expected = mpmetrics.collect(directory).render().decode()
    assert run(command("dump", directory, flags=flags)) == Ending(0, expected)


@pytest.mark.parametrize("form", ["text", "openmetrics", "json", "table"])
def test_data_is_utf_8_in_every_locale(directory: Path, form: str) -> None:
    """The locale is the terminal's affair: the formats say that they are UTF-8."""
    line = command("dump", directory, "--format", form)
    ascii_only = {
        "LC_ALL": "C",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONIOENCODING": "ascii",
        "PYTHONUTF8": "0",
    }
    ending = run(line, env=ascii_only)
    assert ending == run(line, env={"PYTHONUTF8": "1"})
    assert (ending.status, ending.stderr) == (0, "")
    assert ("\\u00fcn\\u00ef" if form == "json" else "/ünï") in ending.stdout


def test_messages_are_written_in_every_locale(tmp_path: Path) -> None:
    """A path that the locale cannot spell is spelled with escapes, and costs nothing."""
    missing = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    ascii_only = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    expected = Ending(2, "", f"mpmetrics: {tmp_path}/\\udcff: no such directory\n")
    assert run(command("dump", missing)) == expected
    assert run(command("dump", missing), env=ascii_only) == expected


@pytest.mark.parametrize("env", BUFFERING.values(), ids=BUFFERING)
@pytest.mark.parametrize("arguments", ["--help", "--version", "dump --help", "dump DIR", "doctor"])
def test_a_reader_that_has_gone_away_ends_it_quietly(
    directory: Path, arguments: str, env: dict[str, str], broken_pipe: int
) -> None:
    """Nobody is there to read: the status is that of a process that died of SIGPIPE."""
    line = command(*arguments.replace("DIR", str(directory)).split())
    assert run(line, env=env, stdout=broken_pipe) == Ending(141)


@pytest.mark.parametrize("env", BUFFERING.values(), ids=BUFFERING)
def test_a_reader_that_goes_away_ends_it_quietly(
    large_directory: Path, env: dict[str, str]
) -> None:
    """The same in the middle of a page, as `head` does it."""
    process = subprocess.Popen(
        command("dump", large_directory),
        env={**environment(None), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(1) == b"#"
        process.stdout.close()
        assert (process.wait(PATIENCE), process.stderr.read()) == (141, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
@pytest.mark.parametrize("env", BUFFERING.values(), ids=BUFFERING)
@pytest.mark.parametrize("arguments", ["--help", "--version", "dump --help", "dump DIR", "doctor"])
def test_a_full_disk_is_told(directory: Path, arguments: str, env: dict[str, str]) -> None:
    """What was asked for could not be written, and there is somebody to tell."""
    line = command(*arguments.replace("DIR", str(directory)).split())
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
        ending = run(line, env=env, stdout=full)
    assert ending == Ending(1, "", "mpmetrics: cannot write: No space left on device\n")


@pytest.mark.skipif(not hasattr(os, "set_blocking"), reason="needs pipes that do not block")
@pytest.mark.parametrize("env", BUFFERING.values(), ids=BUFFERING)
def test_a_stream_that_does_not_wait_is_told(large_directory: Path, env: dict[str, str]) -> None:
    """A page is complete or an error: never a part of it, and no waiting in a busy loop."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        ending = run(command("dump", large_directory), env=env, stdout=writing)
    finally:
        os.close(reading)
        os.close(writing)
    assert (ending.status, ending.stderr.count("\n")) == (1, 1)
    assert ending.stderr.startswith("mpmetrics: cannot write: ")


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
def test_a_closed_stdout_is_told(directory: Path) -> None:
    """There is nowhere to write to: that is an error, and not a traceback."""
    line = ["sh", "-c", 'exec "$@" >&-', "sh", *command("dump", directory)]
    expected = "mpmetrics: cannot write: standard output is closed\n"
    assert run(line) == Ending(1, "", expected)


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
@pytest.mark.parametrize("env", BUFFERING.values(), ids=BUFFERING)
@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_a_stderr_that_cannot_be_written_to_costs_nothing(
    directory: Path, redirection: str, env: dict[str, str]
) -> None:
    """Nobody can be told of the problem; the data and the status are as they would be."""
    (directory / "stranger").touch()
    expected = mpmetrics.collect(directory).render().decode()
    for arguments, status in ([], 0), (["--strict"], 1):
        line = command("dump", directory, *arguments)
        shell = ["sh", "-c", f'exec "$@" {redirection}', "sh", *line]
        assert run(shell, env=env) == Ending(status, expected)


# -- signals --------------------------------------------------------------------------------------

# Who starts the tests in the background of a shell has SIGINT ignored, and so have children.
_WITH_SIGINT = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("mpmetrics_cli", run_name="__main__")
"""


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("env", BUFFERING.values(), ids=BUFFERING)
def test_ctrl_c_ends_it_quietly(large_directory: Path, env: dict[str, str]) -> None:
    """Interrupted while it waits for its reader, it ends at once and without a word."""
    process = subprocess.Popen(
        [sys.executable, "-c", _WITH_SIGINT, "dump", str(large_directory)],
        env={**environment(None), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        # From here on it writes, and cannot come to an end.
        assert process.stdout.read(1) == b"#"
        process.send_signal(signal.SIGINT)
        try:
            assert (process.wait(PATIENCE), process.stderr.read()) == (130, b"")
        finally:
            process.kill()


_INTERRUPTED_ONCE = """
import io, runpy, sys

class Stream(io.FileIO):
    interrupted = False

    def write(self, data):
        if not self.interrupted:
            self.interrupted = True
            raise KeyboardInterrupt
        return super().write(data)

sys.stdout = io.TextIOWrapper(io.BufferedWriter(Stream(1, "wb")))
runpy.run_module("mpmetrics_cli", run_name="__main__")
"""


def test_after_ctrl_c_nothing_more_is_written(directory: Path) -> None:
    """What is left in the buffer is given up: who waited for the reader would wait again."""
    line = [sys.executable, "-c", _INTERRUPTED_ONCE, "dump", str(directory)]
    assert run(line) == Ending(130)
