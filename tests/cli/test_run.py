"""`mpmetrics run`: signals, exit statuses, directories, metrics, and what is left at the end."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from mpmetrics.directory import run_directory
from mpmetrics.directory.run_home import RunHome
from mpmetrics.supervisor import launch
from mpmetrics.system.mounts import find_mount
from tests.cli.directories import fill
from tests.cli.processes import Ending, command, invoke, run
from tests.database import counter, gauge
from tests.servers import eventually
from tests.workers import PATIENCE, VARIABLE, environment, fork, run_python, spawn
from tests.wrapped import Wrapped

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(not launch.IS_SUPPORTED, reason="run needs Linux")

ANY = ("run", "--listen", "127.0.0.1:0")
IS_ROOT = hasattr(os, "getuid") and os.getuid() == 0  # Windows has no such function
MEMORY = "/dev/shm"  # noqa: S108 - a mount point


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have every run make and remove directories below the test's own only."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Return a server that reports each signal on standard error, and ends at SIGTERM."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


PROGRAM = """
import os, signal
names = "TERM INT HUP QUIT USR1 USR2 TTIN TTOU WINCH CONT".split()
signals = {getattr(signal, f"SIG{name}") for name in names}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # so that none is missed
os.write(2, b"ready\\n")
while True:
    number = signal.sigwait(signals)
    os.write(2, f"got {signal.Signals(number).name}\\n".encode())
    if number == signal.SIGTERM: os._exit(5)
"""


# -- exit statuses --------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 1, 7, 255])
def test_the_exit_status_is_the_servers(status: int) -> None:
    """The run ends with the exit status of its server, whatever it is."""
    ending = run(command(*ANY, "--", sys.executable, "-c", f"raise SystemExit({status})"))
    assert ending.status == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGQUIT, signal.SIGSEGV])
def test_the_run_ends_by_the_signal_of_its_server(number: int) -> None:
    """The run ends by the signal that ended its server."""
    ending = run(command(*ANY, "--", "sh", "-c", f"kill -{int(number)} $$"))
    assert ending.status == -number


def test_a_command_that_cannot_be_run() -> None:
    """The statuses are those of a shell: 127 if the command is not found, 126 if not executable."""
    ending = run(command(*ANY, "--", "./no-such-server"))
    assert ending == Ending(127, "", "mpmetrics: ./no-such-server: command not found\n")
    ending = run(command(*ANY, "--", "/etc/passwd"))
    assert ending == Ending(126, "", "mpmetrics: /etc/passwd: Permission denied\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param([], "Missing argument", id="no-command"),
        pytest.param(["--listen", "nowhere", "--", "true"], "nowhere", id="address"),
        pytest.param(["--grace", "-1", "--", "true"], "--grace", id="grace"),
        pytest.param(["--fresh", "--", "true"], "--fresh needs --dir", id="fresh"),
        pytest.param(["--web-config", "/no/such", "--", "true"], "/no/such", id="web-config"),
        pytest.param(["--label", "le=1", "--", "true"], "le", id="label"),
        pytest.param(["--dir", "~/x", "--", "true"], "~/x: the path has a ~", id="tilde"),
        pytest.param(["--dir", "/etc/hosts", "--", "true"], "not a directory", id="file"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(arguments: list[str], words: str) -> None:
    """A mistake of the user is one line on standard error, and status 2."""
    status, stdout, stderr = invoke("run", *arguments)
    assert (status, stdout, stderr.count("\n")) == (2, "", 1)
    assert words in stderr


def test_a_port_in_use(tmp_path: Path) -> None:
    """A port in use is reported before the server is started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ending = run(command("run", "--listen", address, "--", "touch", tmp_path / "started"))
    assert (ending.status, ending.stderr.count("\n")) == (2, 1)
    assert address in ending.stderr
    assert not (tmp_path / "started").exists()


def test_arguments_behind_the_command_are_the_servers_own() -> None:
    """Options behind the command are passed to the server, whatever they look like."""
    ending = run(command(*ANY, "--", "echo", "--listen", "-x", "--help"))
    assert (ending.status, ending.stdout) == (0, "--listen -x --help\n")


# -- signals --------------------------------------------------------------------------------------


def test_signals_reach_the_server_once(program: Path) -> None:
    """The server gets each signal that is sent to the run exactly once."""
    names = ["INT", "HUP", "QUIT", "USR1", "USR2", "TTIN", "TTOU", "WINCH", "CONT"]
    with Wrapped(sys.executable, str(program)) as wrapped:
        wrapped.wait_for(rb"ready\n")
        for name in names:
            wrapped.process.send_signal(getattr(signal, f"SIG{name}"))
            wrapped.wait_for(f"got SIG{name}\n".encode())
        assert wrapped.end(signal.SIGTERM) == 5
    got = [line for line in wrapped.said.decode().splitlines() if line.startswith("got")]
    assert got == [f"got SIG{name}" for name in [*names, "TERM"]]


def test_an_ignored_signal_stays_ignored(program: Path) -> None:
    """A signal that the run was started to ignore, as by nohup, reaches neither run nor server."""
    line = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh"]
    with spawn(
        [
            *line,
            *command(
                *ANY,
                "--",
                sys.executable,
                "-c",
                "import signal; print(signal.getsignal("
                "signal.SIGHUP) == signal.SIG_IGN, flush=True); input()",
            ),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(None),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"True\n"
        process.send_signal(signal.SIGHUP)
        process.communicate(b"\n", timeout=PATIENCE)
        assert process.returncode == 0
    assert program.exists()


def test_the_server_does_not_outlive_a_killed_run(program: Path) -> None:
    """The server gets SIGTERM when the run is killed."""
    with Wrapped(sys.executable, str(program)) as wrapped:
        wrapped.wait_for(rb"ready\n")
        (main,) = wrapped.children()
        descriptor = os.pidfd_open(main)
        try:
            wrapped.process.kill()
            wrapped.wait_for(rb"got SIGTERM\n")
            wrapped.end()
        finally:
            os.close(descriptor)


def is_running(pid: int) -> bool:
    """Return whether the process *pid* exists and is not a zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_after_the_grace_everything_is_killed(tmp_path: Path) -> None:
    """A server that does not end within the grace is killed, with all that descends from it."""
    # All of it ends with the input, which the test holds open.
    stubborn = "exec 3<&0; trap '' TERM; cat <&3 & cat <&3 & echo ready >&2; cat <&3"
    grace = ["--grace", "0.2"]
    with Wrapped("sh", "-c", stubborn, options=grace, stdin=subprocess.PIPE) as wrapped:
        wrapped.wait_for(rb"ready\n")
        processes = wrapped.children()
        assert len(processes) >= 3
        assert wrapped.end(signal.SIGTERM) == -signal.SIGKILL
    assert b"has not ended within 0.2 s: killing it" in wrapped.said
    assert not any(map(is_running, processes))
    assert tmp_path.exists()


# Root without the capability CAP_KILL has no more power over other users' processes than a user.
POWERLESS = """
import ctypes, os, sys
PR_CAPBSET_DROP, CAP_KILL = 24, 5
assert ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_KILL, 0, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""

OF_ANOTHER_USER = """
import os, sys
os.setuid(65534)
os.write(2, b"ready\\n")
sys.stdin.read()
os._exit(3)
"""


@pytest.mark.skipif(not IS_ROOT, reason="needs root to become another user")
def test_a_server_of_another_user_is_not_left_alone(tmp_path: Path) -> None:
    """A server that refuses signals is supervised on; one line says what it did not get."""
    script = tmp_path / "powerless"
    script.write_text(
        f"#!/bin/sh\nexec {sys.executable} -c '{POWERLESS}' {sys.executable} -m mpmetrics_cli "
        f'run --grace 0.2 "$@" -- {sys.executable} -c "$SERVER"\n'
    )
    script.chmod(0o700)
    env = {"SERVER": OF_ANOTHER_USER}
    with Wrapped(script=script, env=env, stdin=subprocess.PIPE) as wrapped:
        wrapped.wait_for(rb"ready\n")
        (main,) = wrapped.children()
        for number in signal.SIGHUP, signal.SIGTERM, signal.SIGTERM:
            wrapped.process.send_signal(number)
            name = signal.Signals(number).name.encode()
            wrapped.wait_for(b"%s was not passed on: process %d belongs to user " % (name, main))
        wrapped.wait_for(b"refuse to be killed by this user: %d of user " % main)
        assert wrapped.samples()["mpmetrics_source_up run"] == 1
        assert wrapped.process.stdin is not None
        wrapped.process.stdin.close()
        assert wrapped.end() == 3
    assert wrapped.said.count(b"SIGTERM was not passed on") == 1


HANGING = """
import sys, threading
from mpmetrics.supervisor import reproduce_exit
threading.Thread(target=threading.Event().wait).start()
sys.exit(reproduce_exit(0, patience=0.1))
"""


def test_a_thread_that_hangs_does_not_keep_the_run_from_ending() -> None:
    """The run ends with the status of its server even if a thread of it never ends."""
    assert run_python(HANGING, env=environment(None)) == ""


WITHOUT_THREADS = """
import sys, threading
from mpmetrics.supervisor import reproduce_exit
def refuse(thread):
    raise RuntimeError("can't start new thread")
threading.Thread.start = refuse
print(reproduce_exit(7))
"""


def test_without_threads_the_run_has_the_status_of_its_server() -> None:
    """The status of the server is not lost when no thread can be started at the end."""
    assert run_python(WITHOUT_THREADS, env=environment(None)) == "7\n"


def test_on_a_terminal_the_server_gets_each_key_once(program: Path) -> None:
    """The server gets a key of its terminal, such as Ctrl-C, once: the run does not repeat it."""
    main, follower = pty.openpty()
    pid = fork()
    if pid == 0:
        os.setsid()
        os.dup2(follower, 0)
        os.dup2(follower, 1)
        os.dup2(follower, 2)
        # The first terminal that a session leader opens is its own.
        os.close(os.open(os.ttyname(follower), os.O_RDWR))
        line = command(*ANY, "--", sys.executable, program)
        os.execvpe(line[0], line, environment(None))  # noqa: S606 - there is no shell that could change the command
    try:
        os.close(follower)
        said = read_until(main, b"ready")
        os.write(main, b"\x03")
        said += read_until(main, b"got SIGINT")
        os.write(main, b"\x1c")
        said += read_until(main, b"got SIGQUIT")
        os.kill(pid, signal.SIGTERM)
        said += read_until(main, b"got SIGTERM")
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(main)
    assert os.waitstatus_to_exitcode(status) == 5
    assert said.count(b"got SIG") == 3


def read_until(descriptor: int, text: bytes) -> bytes:
    """Read until *text* has been read; return everything."""
    said = b""
    while text not in said:
        said += os.read(descriptor, 1 << 12)
    return said


def test_the_first_process_of_a_container(program: Path, tmp_path: Path) -> None:
    """As pid 1 the run forwards signals, reaps orphans, and ends with the status of a shell."""
    orphans = 'for i in 1 2 3; do (sleep 0.01 &) ; done; exec "$@"'
    line = command(*ANY, "--", "sh", "-c", orphans, "sh", sys.executable, program)
    unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    with spawn([*unshare, *line], stderr=subprocess.PIPE, env=environment(None)) as process:
        assert process.stderr is not None
        lines = [process.stderr.readline()]
        if b"unshare" in lines[0]:
            pytest.skip("pid namespaces cannot be made here")
        while lines[-1] not in {b"ready\n", b""}:
            lines.append(process.stderr.readline())
        (first,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(first), signal.SIGHUP)
        assert process.stderr.readline() == b"got SIGHUP\n"
        os.kill(int(first), signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 5
    killed = run([*unshare, *command(*ANY, "--", "sh", "-c", "kill -9 $$")])
    assert killed.status == 128 + 9
    assert tmp_path.exists()


def test_a_pid_namespace_without_its_own_proc() -> None:
    """Where /proc shows other pids, strangers are not taken for the server's processes."""
    unshare = ["unshare", "--pid", "--fork", "--kill-child"]
    ended = run([*unshare, *command(*ANY, "--", "sh", "-c", "exit 7")])
    if ended.stderr.startswith("unshare:"):
        pytest.skip("pid namespaces cannot be made here")
    assert ended.status == 7
    proc, listening = ended.stderr.splitlines()
    assert "/proc is that of another pid namespace" in proc
    assert "listening on" in listening
    stubborn = command(*ANY, "--grace", "0", "--", "sh", "-c", "trap '' TERM; kill $PPID; sleep 60")
    assert run([*unshare, *stubborn]).status == 128 + 9


# -- successors -----------------------------------------------------------------------------------


# Workers outlive their main process here; they end with the test, which holds their input open.
SUCCESSION = """
import os, signal
signals = {signal.SIGTERM, signal.SIGUSR2}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # so that none is missed
def say(text): os.write(2, (text + "\\n").encode())
def serve(name):
    if os.fork() == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        os.read(0, 1)
        os._exit(0)
    say(f"{name} is ready")
    while signal.sigwait(signals) == signal.SIGUSR2:
        if os.fork() == 0:
            serve("new")
    say(f"{name} ends")
    os._exit(3)
serve("old")
"""


def test_a_new_main_process_is_followed() -> None:
    """When the main process ends, the run follows its child that has workers of its own.

    Processes without children are reported as left behind.
    """
    with Wrapped(sys.executable, "-c", SUCCESSION, stdin=subprocess.PIPE) as wrapped:
        wrapped.wait_for(rb"old is ready\n")
        old = wrapped.children()[0]
        wrapped.process.send_signal(signal.SIGUSR2)
        wrapped.wait_for(rb"new is ready\n")
        os.kill(old, signal.SIGTERM)
        wrapped.wait_for(rb"process %d has ended; the server goes on as process \d+\n" % old)
        assert wrapped.end(signal.SIGTERM) == 3
    assert b"new ends" in wrapped.said
    assert b"has left processes that run on: " in wrapped.said


PARTING = """
import os, signal, time
reader, writer = os.pipe()
if os.fork() == 0:
    os.close(writer)
    os.read(reader, 1)  # until the main process has ended
    time.sleep(0.2)  # so that the run sees it
    os._exit(0)
raise SystemExit(4)
"""


def test_a_process_that_ends_right_after_the_main_process_is_not_reported() -> None:
    """A process that ends soon after the main process causes no warning."""
    ending = run(command(*ANY, "--", sys.executable, "-c", PARTING))
    assert (ending.status, ending.stderr.count("\n")) == (4, 1)


# -- directories ----------------------------------------------------------------------------------

SHOW = """
import os
print(os.environ["PROMETHEUS_MULTIPROC_DIR"], "prometheus_multiproc_dir" in os.environ)
"""


def shown(*options: str | Path, **env: str) -> Path:
    """Run a program that prints its directory; return that directory."""
    ending = run(command(*ANY, *options, "--", sys.executable, "-c", SHOW), env=env)
    assert ending.status == 0, ending.stderr
    path, old = ending.stdout.split()
    assert old == "False"
    return Path(path)


def test_a_new_directory_is_private_and_removed_at_the_end() -> None:
    """A new directory is on a tmpfs if there is room; no other user may read it."""
    with Wrapped(sys.executable, "-c", "input()", stdin=subprocess.PIPE) as wrapped:
        path = wrapped.directory
        home = path.parent
        assert home.name.startswith(run_directory.PREFIX)
        assert [stat.S_IMODE(each.stat().st_mode) for each in (home, path)] == [0o700, 0o700]
        mount = find_mount(MEMORY)
        if mount is not None and mount.kind == "tmpfs" and os.access(MEMORY, os.W_OK):
            assert home.parent == Path(MEMORY)
        assert wrapped.process.stdin is not None
        wrapped.process.stdin.close()
        wrapped.end()
    assert not home.exists()


def test_a_directory_can_be_kept() -> None:
    """A kept directory stays, and the run reports where it is."""
    ending = run(command(*ANY, "--keep", "--", sys.executable, "-c", SHOW))
    path = Path(ending.stdout.split()[0])
    assert path.is_dir()
    shown()
    assert path.is_dir(), "the next run has swept it"
    assert f"the directory stays, as you wish: {path}\n" in ending.stderr
    shutil.rmtree(path.parent)


def test_a_given_directory_is_used_and_stays(tmp_path: Path) -> None:
    """A given directory is made if it is missing; it is emptied with --fresh only, and stays.

    The variable can name it, too.
    """
    given = tmp_path / "given"
    assert shown("--dir", given) == given
    fill(given, {"counter_7.db": counter("jobs", 1)})
    assert shown(PROMETHEUS_MULTIPROC_DIR=str(given)) == given
    assert shown("--dir", given, PROMETHEUS_MULTIPROC_DIR="/elsewhere") == given
    assert {each.name for each in given.iterdir()} >= {"MANIFEST", "counter_mpmetrics-archive-1.db"}
    assert shown("--dir", given, "--fresh") == given
    assert [each.name for each in given.iterdir() if each.name[0] != "."] == []


@pytest.mark.parametrize("value", ["'x'", " x", "file://x"])
def test_a_variable_with_a_mistake_makes_no_directory(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that a shell would have changed is one line and status 2; nothing is made."""
    monkeypatch.chdir(tmp_path)
    status, _, stderr = invoke("run", "--", "true", PROMETHEUS_MULTIPROC_DIR=value)
    assert (status, stderr.count("\n")) == (2, 1)
    assert stderr.startswith(f"mpmetrics: {value}: the path has ")
    assert list(tmp_path.iterdir()) == []


ADOPTING = """
from prometheus_client import Counter, Gauge
from prometheus_client.values import MultiProcessValue
from prometheus_client import values
values.ValueClass = MultiProcessValue(lambda: 7)
import sys
for mode in "livesum", "liveall", "livemax", "sum", "max":
    Gauge(f"busy_{mode}", "help", multiprocess_mode=mode)
jobs = Counter("jobs", "help")
jobs.inc()
print("ready", flush=True, file=sys.stderr)
sys.stdin.read()
"""


@pytest.mark.parametrize("more", [[], ["--compact-interval", "0"]], ids=["ever", "never"])
def test_a_worker_with_the_pid_of_a_dead_one_starts_from_zero(
    tmp_path: Path, more: list[str]
) -> None:
    """What an earlier run has left is folded before the server starts.

    Gauges of live workers start at 0, although the pid comes back; what counts on keeps its total.
    """
    given = tmp_path / "given"
    given.mkdir()
    modes = ["livesum", "liveall", "livemax", "sum", "max"]
    left = {f"gauge_{mode}_7.db": gauge(f"busy_{mode}", 5) for mode in modes}
    fill(given, {**left, "counter_7.db": counter("jobs", 4)})
    options = ["--dir", str(given), *more]
    with Wrapped(sys.executable, "-c", ADOPTING, options=options, stdin=subprocess.PIPE) as wrapped:
        wrapped.wait_for(rb"ready\n")
        samples = wrapped.samples()
        assert samples.pop("busy_liveall 7") == 0
        assert {name: value for name, value in samples.items() if name[:4] in {"busy", "jobs"}} == {
            "busy_livesum": 0,
            "busy_livemax": 0,
            "busy_sum": 5,
            "busy_max": 5,
            "jobs_total": 5,
        }
    assert b"cannot be folded" not in wrapped.said


def test_fresh_removes_nothing_while_a_file_is_open(tmp_path: Path) -> None:
    """While a process has a file of the directory open, --fresh removes none and reports that."""
    given = tmp_path / "given"
    given.mkdir()
    fill(given, {"counter_7.db": counter("jobs", 1), "counter_8.db": counter("jobs", 1)})
    with (given / "counter_7.db").open("rb"):
        ending = run(command(*ANY, "--dir", given, "--fresh", "--", "true"))
    assert (ending.status, ending.stderr.count("\n")) == (2, 1)
    assert "nothing was removed: 1 file may still be in use" in ending.stderr
    assert len(list(given.glob("*.db"))) == 2


def test_two_runs_do_not_share_a_directory(tmp_path: Path) -> None:
    """A second run on a directory is refused until the first has ended."""
    with Wrapped(
        sys.executable, "-c", "input()", options=["--dir", str(tmp_path)], stdin=subprocess.PIPE
    ) as wrapped:
        ending = run(command(*ANY, "--dir", tmp_path, "--", "true"))
        assert ending == Ending(2, "", f"mpmetrics: {tmp_path}: another mpmetrics run uses it\n")
        wrapped.process.kill()
    assert run(command(*ANY, "--dir", tmp_path, "--", "true")).status == 0


@pytest.fixture
def remains(tmp_path: Path) -> Path:
    """Return the home of a run that was killed, with metrics in it."""
    home = RunHome.make(str(tmp_path), run_directory.PREFIX, keep=False)
    fill(Path(home.metrics), {"counter_7.db": counter("jobs", 1), "MANIFEST": b"?"})
    home.close()
    return Path(home.path)


def test_the_directory_of_a_killed_run_is_removed(remains: Path) -> None:
    """A later run removes the directory of a killed run when it starts."""
    # It polls: a process of another test may look like a user of the directory for a moment.
    eventually(lambda: not shown().exists() and not remains.exists(), "the sweep")


def test_a_directory_in_use_is_not_removed(remains: Path) -> None:
    """A directory with an open file, or with a lock, is not removed."""
    with (remains / "metrics" / "counter_7.db").open("rb"):
        shown()
        assert (remains / "metrics" / "counter_7.db").exists()
    home = RunHome.take(str(remains))
    assert home is not None
    shown()
    assert remains.exists()
    home.close()


def test_a_directory_of_such_a_name_is_not_removed(tmp_path: Path) -> None:
    """What a user calls like a run directory stays, with all that is in it, even if given."""
    notes, given = (tmp_path / f"{run_directory.PREFIX}{name}" for name in ("notes", "given"))
    for path in notes, given:
        path.mkdir(mode=0o700)
        fill(path, {"README": b"mine", "counter_7.db": counter("jobs", 1)})
    assert shown("--dir", given) == given
    shown()
    assert [*map(Path.exists, (notes / "counter_7.db", notes / "README", given / "README"))] == [
        *[True] * 3
    ]


WIPING = """
import os, shutil, sys
path = os.environ["PROMETHEUS_MULTIPROC_DIR"]
shutil.rmtree(path)
os.mkdir(path)
from prometheus_client import Counter
Counter("jobs", "help").inc(3)
os.write(2, b"wiped\\n")
sys.stdin.read()
"""


def test_a_server_may_wipe_its_directory() -> None:
    """The page follows a server that removes its directory and makes it once more.

    Another run leaves that directory alone, and at the end it is removed as ever.
    """
    with Wrapped(sys.executable, "-c", WIPING, stdin=subprocess.PIPE) as wrapped:
        wrapped.wait_for(rb"wiped\n")
        path = wrapped.directory
        assert wrapped.until(lambda samples: "jobs_total" in samples)["jobs_total"] == 3
        run(command(*ANY, "--", "true"))
        assert path.is_dir()
        assert wrapped.samples()["jobs_total"] == 3
        assert wrapped.process.stdin is not None
        wrapped.process.stdin.close()
        assert wrapped.end() == 0
    assert not path.parent.exists()


def test_other_things_with_such_names_are_not_removed(tmp_path: Path) -> None:
    """A link, a file, and a directory of another user are not removed, whatever their names."""
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / f"{run_directory.PREFIX}link").symlink_to(target)
    (tmp_path / f"{run_directory.PREFIX}file").touch()
    names = {"link", "file"}
    if IS_ROOT:
        (tmp_path / f"{run_directory.PREFIX}other").mkdir()
        os.chown(tmp_path / f"{run_directory.PREFIX}other", 65534, 65534)
        names.add("other")
    shown()
    left = {
        path.name.removeprefix(run_directory.PREFIX) for path in tmp_path.glob("mpmetrics-run-*")
    }
    assert left == names
    assert target.is_dir()


# -- metrics --------------------------------------------------------------------------------------

FORKING = """
import os, signal, time
from prometheus_client import Counter
jobs = Counter("jobs", "help")
signals = {signal.SIGUSR1, signal.SIGCHLD}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # so that none is missed
reader, writer = os.pipe()
def work():
    os.close(writer)
    jobs.inc(5)
    end = time.process_time() + 0.2
    while time.process_time() < end: pass
    os.write(2, b"worked\\n")
    os.read(reader, 1)  # until the main process has ended
    os._exit(0)
def fork():
    if os.fork() == 0:
        work()
def reap():
    try:
        while os.waitpid(-1, os.WNOHANG)[0]: pass
    except ChildProcessError: pass
for _ in range(2): fork()
while True:
    fork() if signal.sigwait(signals) == signal.SIGUSR1 else reap()
"""


def test_process_metrics_are_of_all_processes() -> None:
    """Process metrics are sums over all processes, dead ones included; restarts are counted."""
    with Wrapped(sys.executable, "-c", FORKING) as wrapped:
        wrapped.wait_for(rb"worked\n(.*\n)*worked\n")
        before = wrapped.until(lambda page: page["mpmetrics_processes alive"] == 3)
        assert before["jobs_total"] == 10
        assert before["process_cpu_seconds_total"] >= 0.4
        assert before["process_open_fds"] >= 9
        assert before["process_max_fds"] >= 3 * 64
        assert before["process_resident_memory_bytes"] > 3 << 20
        assert before["process_virtual_memory_bytes"] >= before["process_resident_memory_bytes"]
        assert time.time() - PATIENCE * 2 < before["process_start_time_seconds"] < time.time() + 2
        assert before["mpmetrics_worker_exits_total"] == 0
        main, worker, _ = wrapped.children()
        os.kill(worker, signal.SIGKILL)
        wrapped.until(lambda page: page["mpmetrics_worker_exits_total"] == 1)
        os.kill(main, signal.SIGUSR1)
        after = wrapped.until(lambda page: page["mpmetrics_worker_restarts_total"] == 1)
        assert after["process_cpu_seconds_total"] >= before["process_cpu_seconds_total"]
        # The directory is read first: it may be compacted before the rest of the page is made.
        folded = wrapped.until(lambda page: page.get("mpmetrics_files archive") == 1)
        folded = wrapped.until(lambda page: page["mpmetrics_compactions_total folded"] == 1)
        assert folded["mpmetrics_compactions_total failed"] == 0
        after = wrapped.until(lambda page: page["jobs_total"] == 15)
        wrapped.end(signal.SIGTERM)


def test_process_metrics_of_each_process() -> None:
    """With --per-worker, the page has a series for each process instead of the sum."""
    with Wrapped(sys.executable, "-c", FORKING, options=["--per-worker"]) as wrapped:
        wrapped.wait_for(rb"worked\n(.*\n)*worked\n")
        page = wrapped.samples()
        pids = {str(pid) for pid in wrapped.children()}
        names = [name for name in page if name.startswith("process_cpu_seconds_total")]
        assert {name.partition(" ")[2] for name in names} == pids
        wrapped.end(signal.SIGTERM)


def has_workers(*, running: int, ended: int) -> Callable[[dict[str, float]], bool]:
    """Return whether so many workers are *running*, and have *ended*, by the samples of a page."""
    return lambda page: (
        (page["mpmetrics_workers"], page["mpmetrics_worker_exits_total"]) == (running, ended)
    )


def test_a_crash_loop_is_one_warning() -> None:
    """Workers that keep ending soon after their start cause one warning, not one for each."""
    looping = """
import os
for _ in range(40):
    if os.fork() == 0:
        os._exit(3 if os.read(0, 1) else 0)
    os.wait()
"""
    with Wrapped(sys.executable, "-c", looping, stdin=subprocess.PIPE) as wrapped:
        assert wrapped.process.stdin is not None
        for ended in range(5):
            wrapped.until(has_workers(running=1, ended=ended))
            wrapped.process.stdin.write(b"!")
        wrapped.wait_for(rb"5 workers have ended within 10 s of their start")
        wrapped.process.stdin.close()
        assert wrapped.end() == 0
    assert wrapped.said.count(b"workers have ended") == 1


def test_nothing_is_left_of_a_run() -> None:
    """After a run whose workers have crashed, its port is free and its directory is gone."""
    with Wrapped(sys.executable, "-c", FORKING) as wrapped:
        wrapped.wait_for(rb"worked\n")
        directory, pids = wrapped.directory, wrapped.children()
        port = int(wrapped.url.rpartition(":")[2].partition("/")[0])
        for pid in pids[1:]:
            os.kill(pid, signal.SIGKILL)
        assert wrapped.samples()["jobs_total"] == 10
        assert wrapped.end(signal.SIGTERM) == -signal.SIGTERM
    with socket.create_server(("127.0.0.1", port)):
        assert not directory.exists()


def test_sockets_that_were_left_open_are_passed_on() -> None:
    """The server inherits open sockets, as those that systemd passes for activation."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        program = f"import socket; print(socket.socket(fileno={number}).getsockname()[1])"
        ending = run(command(*ANY, "--", sys.executable, "-c", program), pass_fds=[number])
        assert ending.stdout == f"{listener.getsockname()[1]}\n"


def test_the_variable_is_set_for_the_server_only() -> None:
    """The variable is in the server's environment, and not in that of the run."""
    with Wrapped(sys.executable, "-c", "input()", stdin=subprocess.PIPE) as wrapped:
        own = Path(f"/proc/{wrapped.process.pid}/environ").read_bytes()
        assert VARIABLE.encode() not in own
        assert wrapped.process.stdin is not None
        wrapped.process.stdin.close()
        wrapped.end()
