"""A server under a wrapper that systemd has started: sockets, watchdog and reports."""

from __future__ import annotations

import array
import os
import signal
import socket
import struct
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from mpmetrics.supervisor import launch
from mpmetrics.supervisor.notify_relay import NotifyRelay, leave_out_main, open_relay
from mpmetrics.supervisor.systemd import readdress
from tests.cli.processes import command
from tests.leftovers import count_descriptors, no_threads_left
from tests.servers import eventually, fetch, free_port
from tests.workers import PATIENCE, environment, spawn
from tests.wrapped import Wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import NeedsProgram

pytestmark = pytest.mark.skipif(not launch.IS_SUPPORTED, reason="run needs Linux")

CREDENTIALS = struct.Struct("iII")


def make_manager(address: str) -> socket.socket:
    """Return a socket at *address*, as systemd has one for reports."""
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    manager.settimeout(PATIENCE)
    manager.bind(address.replace("@", "\0", 1))
    return manager


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """Return the address of systemd's socket for reports, and the socket."""
    address = {"path": str(tmp_path / "notify"), "abstract": f"@test-{os.getpid()}"}[request.param]
    with closing(make_manager(address)) as manager:
        yield address, manager


def receive(manager: socket.socket) -> tuple[bytes, int, list[int]]:
    """Return the next report, the pid of its sender, and the descriptors with it."""
    report, ancillary, _, _ = manager.recvmsg(1 << 16, 1 << 12)
    pid, descriptors = 0, array.array("i")
    for _, kind, data in ancillary:
        if kind == socket.SCM_CREDENTIALS:
            pid, _, _ = CREDENTIALS.unpack(data)
        else:
            descriptors.frombytes(data)
    return report, pid, [*descriptors]


def send(address: str, report: bytes, descriptors: list[int] | None = None) -> None:
    """Send a report as a service does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        rights = array.array("i", descriptors or [])
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if descriptors else []
        sender.sendmsg([report], ancillary, 0, address.replace("@", "\0", 1))


# -- variables ------------------------------------------------------------------------------------

VARIABLES: list[tuple[dict[str, str], dict[str, str]]] = [
    ({}, {}),
    ({"LISTEN_PID": "1", "LISTEN_FDS": "2"}, {"LISTEN_PID": "mine", "LISTEN_FDS": "2"}),
    ({"WATCHDOG_PID": "1", "WATCHDOG_USEC": "9"}, {"WATCHDOG_PID": "mine", "WATCHDOG_USEC": "9"}),
    ({"LISTEN_PID": "77", "WATCHDOG_PID": "x"}, {"LISTEN_PID": "77", "WATCHDOG_PID": "x"}),
    ({"LISTEN_PID": "77", "LISTEN_PIDFDID": "5"}, {"LISTEN_PID": "77", "LISTEN_PIDFDID": "5"}),
    ({"SYSTEMD_EXEC_PID": "1"}, {"SYSTEMD_EXEC_PID": "mine"}),
]


@pytest.mark.parametrize(("before", "after"), VARIABLES)
def test_variables_for_the_wrapper_become_the_servers(
    before: dict[str, str], after: dict[str, str]
) -> None:
    """A variable that names the wrapper names the server then; others stay as they are."""
    mine = str(os.getpid())
    expected = {name: mine if value == "mine" else value for name, value in after.items()}
    assert readdress(before, 1) == expected


def test_a_pidfd_of_the_wrapper_is_not_passed_on() -> None:
    """The server gets the inode of its own pidfd, or none where the kernel has only one."""
    changed = readdress({"LISTEN_PID": "1", "LISTEN_PIDFDID": "5"}, 1)
    assert changed.pop("LISTEN_PID") == str(os.getpid())
    pidfd = os.pidfd_open(os.getpid())
    assert changed in ({}, {"LISTEN_PIDFDID": str(os.fstat(pidfd).st_ino)})
    os.close(pidfd)


# -- the relay ------------------------------------------------------------------------------------


@pytest.fixture
def relay(manager: tuple[str, socket.socket]) -> Iterator[NotifyRelay]:
    """Return a relay to the socket of systemd, which has not been started."""
    with no_threads_left():
        relay = open_relay(manager[0])
        assert relay is not None
        yield relay
        relay.stop()


def test_reports_are_passed_on(manager: tuple[str, socket.socket], relay: NotifyRelay) -> None:
    """Reports reach systemd in their order, from this process, with those before the start."""
    reports = [b"STATUS=soon", b"READY=1\nSTATUS=there", b"WATCHDOG=1\n"]
    send(relay.address, reports[0])
    relay.start()
    for report in reports[1:]:
        send(relay.address, report)
    assert [receive(manager[1]) for _ in reports] == [(each, os.getpid(), []) for each in reports]


def test_descriptors_are_passed_on(manager: tuple[str, socket.socket], relay: NotifyRelay) -> None:
    """A descriptor comes with its report, and this process keeps no copy of it."""
    relay.start()
    reader, writer = os.pipe()
    before = count_descriptors()
    send(relay.address, b"FDSTORE=1", [writer])
    report, _, (passed,) = receive(manager[1])
    assert report == b"FDSTORE=1"
    os.write(passed, b"x")
    assert os.read(reader, 1) == b"x"
    # The one who waits for a barrier sees the end of the pipe once systemd has closed its copy.
    os.close(passed)
    os.close(writer)
    assert os.read(reader, 1) == b""
    os.close(reader)
    assert count_descriptors() == before - 2


MAIN_LINES = [
    (b"MAINPID=7", b""),
    (b"MAINPID=7\nREADY=1", b"READY=1"),
    (b"READY=1\nMAINPIDFD=1\nMAINPIDFDID=3\nSTATUS=MAINPID=7", b"READY=1\nSTATUS=MAINPID=7"),
]


@pytest.mark.parametrize(("report", "passed"), MAIN_LINES)
def test_the_wrapper_stays_the_main_process(report: bytes, passed: bytes) -> None:
    """A report does not make the server the main process of the service."""
    assert leave_out_main(report) == passed


def test_an_end_passes_on_what_waits(manager: tuple[str, socket.socket]) -> None:
    """What was reported before the end is not lost; further reports find no socket."""
    relay = NotifyRelay(manager[0])
    send(relay.address, b"STOPPING=1")
    relay.start()
    relay.stop()
    assert receive(manager[1])[0] == b"STOPPING=1"
    with pytest.raises(ConnectionRefusedError):
        send(relay.address, b"READY=1")


def test_systemd_may_be_gone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A report that cannot be passed on is a line in the log, and the next one is tried again."""
    address = str(tmp_path / "notify")
    with no_threads_left():
        relay = NotifyRelay(address)
        send(relay.address, b"READY=1")
        relay.start()
        relay.stop()
    (line,) = caplog.messages
    assert line.startswith("a report of the server did not reach systemd: ")


@pytest.mark.parametrize("target", ["", "vsock:2:9999", "notify"])
def test_other_addresses_are_left_to_the_server(target: str) -> None:
    """Without a socket on this machine there is nothing to relay."""
    assert open_relay(target) is None


# -- whole servers --------------------------------------------------------------------------------

SERVER = """
import os, socket, sys
def notify(text):
    address = os.environ["NOTIFY_SOCKET"].replace("@", "\\0", 1)
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(text.encode(), address)
mine = os.environ["WATCHDOG_PID"] == str(os.getpid())
notify(f"READY=1\\nMAINPID={os.getpid()}\\nSTATUS={mine}")
sys.stdin.read()
notify("STOPPING=1")
"""


def test_a_service_that_notifies(tmp_path: Path) -> None:
    """A server reports through the wrapper that it is ready, and is asked for signs of life."""
    with closing(make_manager(str(tmp_path / "notify"))) as manager:
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}
        # As systemd does it: the variable is set in the process that becomes the wrapper.
        shell = tmp_path / "service"
        start = f'exec {subprocess.list2cmdline(command("run"))} "$@"'
        shell.write_text(
            f'#!/bin/sh\nexport WATCHDOG_PID=$$\n{start} -- {sys.executable} -c "$SERVER"\n'
        )
        shell.chmod(0o700)
        with Wrapped(script=shell, env={**env, "SERVER": SERVER}, stdin=subprocess.PIPE) as wrapped:
            report, sender, _ = receive(manager)
            assert (report, sender) == (b"READY=1\nSTATUS=True", wrapped.process.pid)
            assert wrapped.process.stdin is not None
            wrapped.process.stdin.close()
            assert receive(manager)[:2] == (b"STOPPING=1", wrapped.process.pid)
            assert wrapped.end() == 0


APP = """
def app(environ, start_response):
    start_response("200 OK", [])
    return [b"served"]
"""


def try_to_fetch(url: str) -> bytes:
    """Fetch *url*; return b"" if no socket is open there yet."""
    try:
        return fetch(url).body
    except ConnectionRefusedError:
        return b""


def test_socket_activation(tmp_path: Path, needs_program: NeedsProgram) -> None:
    """Gunicorn takes the socket that systemd has opened, and reports that it is ready."""
    activate = needs_program("systemd-socket-activate", package="systemd")
    (tmp_path / "app.py").write_text(APP)
    port = free_port()
    with closing(make_manager(str(tmp_path / "notify"))) as manager:
        line: list[Any] = [
            *(activate, "--listen", f"127.0.0.1:{port}", "--setenv=NOTIFY_SOCKET", "--setenv=PATH"),
            *command("run", "--listen", "127.0.0.1:0", "--"),
            *(sys.executable, "-m", "gunicorn", "--workers", "2", "app:app"),
        ]
        env = environment(None, NOTIFY_SOCKET=str(tmp_path / "notify"), TMPDIR=str(tmp_path))
        with spawn(line, env=env, cwd=tmp_path, ending=signal.SIGTERM) as process:
            # Nothing tells when systemd-socket-activate has opened the socket.
            answer = eventually(lambda: try_to_fetch(f"http://127.0.0.1:{port}/"), "an answer")
            assert answer == b"served"
            report, sender, _ = receive(manager)
            assert sender == process.pid
            assert b"READY=1" in report.split(b"\n")
            process.terminate()
            assert process.wait(PATIENCE) == 0
