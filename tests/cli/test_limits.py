"""Commands under limits of the system, and with odd files, environments and streams."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.directories import fill
from tests.cli.processes import command, invoke, run
from tests.database import counter

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("resource", reason="needs POSIX")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")

LISTEN = ("--listen", "127.0.0.1:0")
COMMANDS = {
    "dump": ["dump", "DIR"],
    "doctor": ["doctor", "DIR"],
    "compact": ["compact", "DIR"],
    "run": ["run", *LISTEN, "--dir", "DIR", "--", "true"],
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory with a counter."""
    path = tmp_path / "directory"
    path.mkdir()
    return fill(path, {"counter_7.db": counter("jobs", 3)})


def line(arguments: list[str], directory: Path) -> list[str]:
    """Return the command line with *arguments*, of which DIR stands for the *directory*."""
    return command(*[str(directory) if each == "DIR" else each for each in arguments])


LIMITED = """
import os, resource, sys
number = int(sys.argv[2])
resource.setrlimit(getattr(resource, sys.argv[1]), (number, number))
os.execv(sys.argv[3], sys.argv[3:])
"""


def limited(name: str, number: int, program: list[str]) -> list[str]:
    """Return the command line of *program* under a limit of the system."""
    return [sys.executable, "-S", "-c", LIMITED, f"RLIMIT_{name}", str(number), *program]


LIMITS = {
    "descriptors-10": ("NOFILE", 10),
    "descriptors-24": ("NOFILE", 24),
    "file-size-0": ("FSIZE", 0),
    "stack": ("STACK", 256 << 10),
    "memory": ("AS", 400 << 20),
}


def judge(status: int, stderr: str) -> None:
    """Check that a command has ended by itself, with a few lines and no traceback."""
    assert status in {0, 1, 2, 126}, stderr
    assert "Traceback" not in stderr
    assert len(stderr.splitlines()) <= 6, stderr
    assert all(each.startswith("mpmetrics: ") for each in stderr.splitlines()), stderr


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize(("name", "number"), LIMITS.values(), ids=LIMITS)
def test_a_limit_is_a_line_and_a_status(
    directory: Path, arguments: list[str], name: str, number: int
) -> None:
    """Under any limit a command does its work, or says in a line why it cannot."""
    status, _, stderr = run(limited(name, number, line(arguments, directory)))
    judge(status, stderr)


@pytest.mark.parametrize("number", [8, 12, 16, 20, 24])
def test_events_that_lack_descriptors_end_with_a_line(number: int) -> None:
    """Where libzmq would abort the process, or no page could be served, the command ends."""
    pytest.importorskip("zmq", reason="needs the extra kv-events")
    line = command("events", "--publisher", "tcp://127.0.0.1:1", *LISTEN)
    status, _, stderr = run(limited("NOFILE", number, line))
    judge(status, stderr)
    assert (status, "Too many open files" in stderr or "descriptors" in stderr) == (1, True)


@pytest.mark.parametrize("number", [7, 8, 9, 10, 11, 12, 16, 24])
def test_a_wrapped_server_does_not_suffer_from_a_lack_of_descriptors(
    tmp_path: Path, number: int
) -> None:
    """A server that was started ends as it wants, whatever the wrapper lacks."""
    server = "import sys, time; time.sleep(0.5); sys.exit(7)"
    wrapped = command("run", *LISTEN, "--dir", tmp_path, "--", sys.executable, "-c", server)
    status, _, stderr = run(limited("NOFILE", number, wrapped))
    assert status == (7 if "listening on" in stderr else 1), stderr
    assert "Traceback" not in stderr
    assert len(stderr) < 10_000


WITHOUT_THREADS = """
import os, resource, sys
import decimal, encodings.idna, filelock, mpmetrics.compaction, mpmetrics.doctor, mpmetrics.pages
import contextlib, mpmetrics.directory.locks, mpmetrics.supervisor, mpmetrics.web.uvicorn_server
from mpmetrics_cli.__main__ import main
with contextlib.suppress(ImportError):
    import mpmetrics.engines.events, msgspec, zmq
    from mpmetrics.engines.events import EventBridge, EventSource, LinesSink, publishers
with filelock.FileLock(sys.argv[1]):
    pass
if os.getuid() == 0:  # root has no such limit
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
sys.argv[1:] = sys.argv[2:]
main(prog_name="mpmetrics")
"""


SERVERS = {
    "serve": ["serve", "DIR", *LISTEN],
    "events": ["events", "--publisher", "tcp://127.0.0.1:1", *LISTEN],
}


@pytest.mark.parametrize("name", [*COMMANDS, *SERVERS])
def test_no_thread_and_no_process_can_be_started(
    directory: Path, tmp_path: Path, name: str
) -> None:
    """Without threads and processes a command does its work, or says in a line why it cannot."""
    for path in (*tmp_path.parents[:3], tmp_path, directory):
        path.chmod(path.stat().st_mode | 0o055)
    directory.chmod(0o777)
    if name == "events":
        pytest.importorskip("zmq", reason="needs the extra kv-events")
    arguments = {**COMMANDS, **SERVERS}[name]
    arguments = [str(directory) if each == "DIR" else each for each in arguments]
    status, _, stderr = run(
        [sys.executable, "-c", WITHOUT_THREADS, str(tmp_path / "lock"), *arguments],
        env={"TMPDIR": str(directory)},
    )
    judge(status, stderr)
    if name not in {"run", "doctor"}:  # the doctor's findings are a status, too
        assert status == 0 or "may start no more threads or processes" in stderr


# -- files of the user -----------------------------------------------------------------------------

WEB_CONFIGS = {
    "impossible-date": b"2024-13-45: x",
    "no-float": b'!!float "_": x',
    "no-int": b'a: !!int "x"',
    "long-int": b"a: " + b"7" * 5000,
    "deep": b"{" * 3000,
    "deep-lists": b"[" * 100_000,
    "anchors": b"a: &a [x]\nb: *nothing",
    "python-object": b"a: !!python/object/apply:os.system [x]",
    "no-utf-8": b"\xff\xfe\x00a",
    "null-bytes": bytes(100),
    "control-codes": b"\x1b[2J: \x07",
    "list": b"- a\n- b",
    "number": b"7",
    "unhashable": b"? [a]\n: b",
    "cycle": b"&a {basic_auth_users: *a}",
    "merge": b"<<: 7",
    "set": b"!!set {a, b}",
    "timestamp": b"basic_auth_users: {a: 2024-01-01}",
    "binary": b"basic_auth_users: {a: !!binary x}",
}


@pytest.mark.parametrize("content", WEB_CONFIGS.values(), ids=WEB_CONFIGS)
def test_a_bad_web_config_is_a_line(directory: Path, tmp_path: Path, content: bytes) -> None:
    """Whatever is in a web configuration, it is one line and status 2."""
    path = tmp_path / "web.yml"
    path.write_bytes(content)
    status, stdout, stderr = invoke("serve", directory, *LISTEN, "--web-config", path)
    assert (status, stdout, stderr.count("\n")) == (2, "", 1)
    assert stderr.startswith(f"mpmetrics: {path}: ")
    assert len(stderr) < 2100


# -- environments and streams ----------------------------------------------------------------------

ENVIRONMENTS: dict[str, dict[str, str | None]] = {
    "no-home": {"HOME": None},
    "locale-c": {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "no-such-locale": {"LC_ALL": "xx_XX.nowhere"},
    "temporary-files-nowhere": {"TMPDIR": "/no/such/directory"},
    "variable-with-bad-bytes": {"PROMETHEUS_MULTIPROC_DIR": "/\udcff\udcfe"},
    "variable-is-a-device": {"PROMETHEUS_MULTIPROC_DIR": "/dev/null"},
    "empty-variable": {"PROMETHEUS_MULTIPROC_DIR": ""},
}


@pytest.mark.parametrize("arguments", [COMMANDS["dump"], COMMANDS["run"]], ids=["dump", "run"])
@pytest.mark.parametrize("variables", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_an_odd_environment_is_no_traceback(
    directory: Path, arguments: list[str], variables: dict[str, str | None]
) -> None:
    """In any environment a command does its work, or says in a line why it cannot."""
    if "PROMETHEUS_MULTIPROC_DIR" in variables:
        arguments = [each for each in arguments if each not in {"DIR", "--dir"}]
    unset = [f"--unset={name}" for name, value in variables.items() if value is None]
    values = [f"{name}={value}" for name, value in variables.items() if value is not None]
    status, _, stderr = run(
        ["env", *unset, *values, *line(arguments, directory)], errors="backslashreplace"
    )
    judge(status, stderr)


def test_a_working_directory_that_is_gone(tmp_path: Path) -> None:
    """In a directory that was removed, a relative path is one that does not exist."""
    gone = tmp_path / "gone"
    gone.mkdir()
    program = "import os, subprocess, sys; os.rmdir(os.getcwd()); "
    for arguments in (["dump", "x"], ["dump", "."], ["run", *LISTEN, "--", "true"]):
        gone.mkdir(exist_ok=True)
        started = [sys.executable, "-c", f"{program}os.execv(sys.argv[1], sys.argv[1:])"]
        status, _, stderr = run([*started, *command(*arguments)], cwd=gone)
        judge(status, stderr)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("name", ["dump", "compact", "run"])
def test_closed_streams(directory: Path, name: str, closed: str) -> None:
    """Whichever stream is closed, a command ends with a status and without a traceback."""
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh"]
    status, _, stderr = run([*shell, *line(COMMANDS[name], directory)])
    judge(status, stderr)
