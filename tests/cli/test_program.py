"""The ends of the command: statuses, messages and streams; most need a process of its own."""

from __future__ import annotations

import errno
import os
import shlex
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
import mpmetrics_cli
from mpmetrics_cli.__main__ import main
from mpmetrics_cli.program import Program
from tests.cli.directories import fill
from tests.cli.processes import Ending, command, invoke, invoke_program, run
from tests.database import counter
from tests.workers import PATIENCE, environment, spawn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import NeedsProgram

COMMANDS = tuple(main.commands)

# More than a pipe holds, so that the writer has to wait for a reader.
MANY = 3000

FULL = Path("/dev/full")

BUFFERING = {
    "buffered": {"PYTHONUNBUFFERED": ""},  # Python treats it as not set
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
    """Yield the writing end of a pipe without a reader."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


# -- help and versions ----------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), *((name,) for name in COMMANDS)], ids=" ".join)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_does_not_wait_for_prometheus_client(arguments: tuple[str, ...], option: str) -> None:
    """Help does not import prometheus_client, which a command imports when it runs."""
    line = [sys.executable, "-X", "importtime", "-m", "mpmetrics_cli", *arguments, option]
    status, stdout, stderr = run(line)
    assert (status, stdout.split()[:2]) == (0, ["Usage:", "mpmetrics"])
    assert "mpmetrics_cli" in stderr
    assert "prometheus_client" not in stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_everything_has_help(name: str) -> None:
    """Every command and every option has help; the help of a command names its argument."""
    each = main.commands[name]
    assert each.help
    for parameter in each.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
        else:
            assert ARGUMENTS.get(name, "DIR") in each.help


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_ends_with_an_example(name: str) -> None:
    """The help of every command ends with an example that can be called, within 80 columns."""
    _, help_text, _ = invoke(*name.split(), "--help")
    assert max(map(len, help_text.splitlines())) <= 80
    _, title, examples = help_text.rpartition("  Example:\n")
    assert title
    for words in map(shlex.split, examples.splitlines()):
        if words[0] == "mpmetrics":
            main.commands[words[1]].make_context(words[1], words[2:])
    assert name in examples


# -- completion -----------------------------------------------------------------------------------


def complete(*words: str) -> list[str]:
    """Return what bash is told to complete the last one of *words* with."""
    variables = {
        "_MPMETRICS_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(("mpmetrics", *words)),
        "COMP_CWORD": str(len(words)),
    }
    script = Path(sysconfig.get_path("scripts"), "mpmetrics")
    ending = run([str(script)], env=variables)
    assert (ending.status, ending.stderr) == (0, "")
    return ending.stdout.splitlines()


def test_a_shell_completes() -> None:
    """A shell completes commands, options, values, directories and files."""
    assert complete("d") == ["plain,doctor", "plain,dump"]
    assert complete("dump", "--f") == ["plain,--format"]
    assert complete("dump", "--format", "o") == ["plain,openmetrics"]
    assert complete("dump", "") == ["dir,"]
    assert complete("run", "--dir", "/r") == ["dir,/r"]
    assert complete("serve", "--web-config", "w") == ["file,w"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell(shell: str) -> None:
    """The script for a shell asks the command itself, and starts no shell to be written."""
    status, stdout, stderr = invoke("completion", shell)
    assert (status, stderr) == (0, "")
    assert f"_MPMETRICS_COMPLETE={shell}_complete" in stdout


def test_bash_takes_its_script(needs_program: NeedsProgram) -> None:
    """Bash reads the script, and completes by it from then on."""
    needs_program("bash", package="bash")
    _, script, _ = invoke("completion", "bash")
    ending = run(["bash", "-c", f"{script}\ncomplete -p mpmetrics"])
    assert (ending.status, ending.stderr) == (0, "")
    assert ending.stdout.endswith(" _mpmetrics_completion mpmetrics\n")


def test_without_arguments_the_help_is_shown() -> None:
    """Without arguments the command writes its help to standard error, with status 2."""
    ending = invoke()
    assert (ending.status, ending.stdout) == (2, "")
    assert ending.stderr.startswith("Usage: mpmetrics ")


def test_every_entry_point_knows_the_version() -> None:
    """The console script and both modules report the installed version."""
    expected = Ending(0, f"mpmetrics, version {version('mpmetrics-toolkit')}\n")
    script = Path(sysconfig.get_path("scripts"), "mpmetrics")
    assert run([str(script), "--version"]) == expected
    assert run(command("--version")) == expected
    assert run([sys.executable, "-m", "mpmetrics", "--version"]) == expected


def test_a_copy_that_is_not_installed_has_no_version(tmp_path: Path) -> None:
    """Where the packages lie without their metadata, as in a zip, the version is unknown."""
    for package in mpmetrics, mpmetrics_cli, click:
        (tmp_path / package.__name__).symlink_to(Path(str(package.__file__)).parent)
    line = [sys.executable, "-S", "-m", "mpmetrics", "--version"]
    expected = "mpmetrics, version unknown, as it is not installed\n"
    assert run(line, env={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path) == Ending(0, expected)


def test_the_library_run_as_a_module_is_the_command(tmp_path: Path) -> None:
    """`python -m mpmetrics` ends as the command does, with its messages, help and statuses."""
    missing = str(tmp_path / "missing")
    for arguments in ([], ["--help"], ["dump", missing], ["undump"], ["compact", "--help"]):
        line = [sys.executable, "-m", "mpmetrics", *arguments]
        assert run(line) == run(command(*arguments))


# -- mistakes -------------------------------------------------------------------------------------


# Options that take one of a few values, or a number.
# For other commands it is DIR.
ARGUMENTS = {"run": "COMMAND", "completion": "SHELL"}

CHOOSY = {"run": "--grace", "serve": "--timeout", "events": "--ranks"}


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "completion"])
def test_a_value_that_cannot_be_is_a_mistake(name: str) -> None:
    """A missing or impossible value of an option is a mistake."""
    option = CHOOSY.get(name, "--format")
    status, stdout, stderr = invoke(name, option)
    assert (status, stdout) == (2, "")
    assert stderr == f"mpmetrics: Option '{option}' requires an argument.\n"
    status, stdout, stderr = invoke(name, option, "xml")
    assert (status, stdout, stderr.count("\n")) == (2, "", 1)
    assert f"Invalid value for '{option}'" in stderr


@pytest.mark.parametrize("name", ["compact", "doctor"])
def test_two_directories_are_a_mistake(name: str) -> None:
    """Two directories are a mistake where one at a time is meant."""
    status, stdout, stderr = invoke(name, ".", ".")
    assert (status, stdout) == (2, "")
    assert stderr == "mpmetrics: Got unexpected extra argument (.)\n"


def test_events_takes_no_directory() -> None:
    """The command `events` takes no directory."""
    status, stdout, stderr = invoke("events", "--publisher", "tcp://127.0.0.1:5557", ".")
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
    """A mistake is one line, without usage or traceback, and status 2."""
    status, stdout, stderr = invoke(name, *arguments)
    assert (status, stdout, stderr.count("\n")) == (2, "", 1)
    assert stderr.startswith("mpmetrics: ")
    assert words in stderr


def test_an_unknown_command_is_a_mistake() -> None:
    """An unknown command is a mistake of one line."""
    status, stdout, stderr = invoke("undump")
    assert (status, stdout, stderr.count("\n")) == (2, "", 1)
    assert stderr.startswith("mpmetrics: No such command 'undump'")


def test_an_error_of_the_system_is_one_line() -> None:
    """An error of the system is one line that names the file, and status 1."""

    def fail() -> None:
        raise OSError(errno.EIO, "Input/output error", "/m/a\nb")

    program = Program(commands={"fail": click.Command("fail", callback=fail)})
    ending = invoke_program(program, "fail")
    assert ending == Ending(1, "", "mpmetrics: /m/a\\nb: Input/output error\n")


def test_a_mistake_in_a_process_of_its_own(tmp_path: Path) -> None:
    """A mistake has the same message in a process of its own, with and without assertions."""
    missing = tmp_path / "missing"
    expected = Ending(2, "", f"mpmetrics: {missing}: no such directory\n")
    assert run(command("dump", missing)) == expected
    assert run(command("dump", missing, flags=["-O"])) == expected


# -- streams --------------------------------------------------------------------------------------


@pytest.mark.parametrize("env", BUFFERING.values(), ids=BUFFERING)
def test_a_page_larger_than_a_pipe_is_complete(large_directory: Path, env: dict[str, str]) -> None:
    """A page that is larger than a pipe is written completely."""
    expected = mpmetrics.collect(large_directory).render().decode()
    assert run(command("dump", large_directory), env=env) == Ending(0, expected)


@pytest.mark.parametrize("flags", [["-O"], ["-X", "dev", "-W", "error"]], ids=" ".join)
def test_every_interpreter_writes_the_same(directory: Path, flags: list[str]) -> None:
    """The output is the same without assertions, and with warnings as errors."""
    expected = mpmetrics.collect(directory).render().decode()
    assert run(command("dump", directory, flags=flags)) == Ending(0, expected)


@pytest.mark.parametrize("form", ["text", "openmetrics", "json", "table"])
def test_data_is_utf_8_in_every_locale(directory: Path, form: str) -> None:
    """The output is UTF-8 in every locale."""
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
    """A message about a path that the locale cannot encode has escapes instead."""
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
    """A reader that is gone before the first write ends the command with status 141, silently."""
    line = command(*arguments.replace("DIR", str(directory)).split())
    assert run(line, env=env, stdout=broken_pipe) == Ending(141)


@pytest.mark.parametrize("env", BUFFERING.values(), ids=BUFFERING)
def test_a_reader_that_goes_away_ends_it_quietly(
    large_directory: Path, env: dict[str, str]
) -> None:
    """A reader that goes away within a page ends the command with status 141, silently."""
    process = spawn(
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


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize("env", BUFFERING.values(), ids=BUFFERING)
@pytest.mark.parametrize("arguments", ["--help", "--version", "dump --help", "dump DIR", "doctor"])
def test_a_full_disk_is_an_error(directory: Path, arguments: str, env: dict[str, str]) -> None:
    """An output that cannot be written is one line and status 1."""
    line = command(*arguments.replace("DIR", str(directory)).split())
    with FULL.open("wb") as full:
        ending = run(line, env=env, stdout=full)
    assert ending == Ending(1, "", "mpmetrics: cannot write: No space left on device\n")


@pytest.mark.skipif(not hasattr(os, "set_blocking"), reason="needs pipes that do not block")
@pytest.mark.parametrize("env", BUFFERING.values(), ids=BUFFERING)
def test_a_pipe_that_does_not_block_is_an_error(large_directory: Path, env: dict[str, str]) -> None:
    """A pipe that does not block and is full is an error: no partial page counts as success."""
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
def test_a_closed_stdout_is_an_error(directory: Path) -> None:
    """A closed standard output is one line and status 1."""
    line = ["sh", "-c", 'exec "$@" >&-', "sh", *command("dump", directory)]
    expected = "mpmetrics: cannot write: standard output is closed\n"
    assert run(line) == Ending(1, "", expected)


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
@pytest.mark.parametrize("env", BUFFERING.values(), ids=BUFFERING)
@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_a_stderr_that_cannot_be_written_to_costs_nothing(
    directory: Path, redirection: str, env: dict[str, str]
) -> None:
    """A standard error that cannot be written changes neither output nor status."""
    (directory / "stranger").touch()
    expected = mpmetrics.collect(directory).render().decode()
    for arguments, status in ([], 0), (["--strict"], 1):
        line = command("dump", directory, *arguments)
        shell = ["sh", "-c", f'exec "$@" {redirection}', "sh", *line]
        assert run(shell, env=env) == Ending(status, expected)


# -- signals --------------------------------------------------------------------------------------

# In the background of a shell SIGINT is ignored, and child processes inherit that.
_WITH_SIGINT = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("mpmetrics_cli", run_name="__main__")
"""


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("env", BUFFERING.values(), ids=BUFFERING)
def test_ctrl_c_ends_it_quietly(large_directory: Path, env: dict[str, str]) -> None:
    """An interrupted command that waits for its reader ends with status 130, silently."""
    process = spawn(
        [sys.executable, "-c", _WITH_SIGINT, "dump", str(large_directory)],
        env={**environment(None), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        # From here on it writes, and cannot finish.
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
    """An interrupted command discards its buffer instead of waiting for the reader again."""
    line = [sys.executable, "-c", _INTERRUPTED_ONCE, "dump", str(directory)]
    assert run(line) == Ending(130)
