"""Servers under `mpmetrics run` whose processes are those of another user."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mpmetrics.supervisor import launch
from tests.cli.processes import Ending, command, run
from tests.servers import eventually, fetch, free_port
from tests.workers import run_to_end
from tests.wrapped import Wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator

IS_ROOT = hasattr(os, "getuid") and os.getuid() == 0  # Windows has no such function

pytestmark = [
    pytest.mark.skipif(not launch.IS_SUPPORTED, reason="run needs Linux"),
    pytest.mark.skipif(not IS_ROOT, reason="needs root to become another user"),
]

USER = 65534


@pytest.fixture(scope="module", autouse=True)
def python_for_all() -> None:
    """Skip where the other user may not run this Python, as one below `/root`."""
    try:
        run_to_end([sys.executable, "-c", "import ssl"], user=USER, group=USER, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"{sys.executable} is not for every user")


OWN = ("run", "--listen", "127.0.0.1:0")

APP = """
import os
from prometheus_client import Counter
JOBS = Counter("jobs", "help")

def wsgi(environ, start_response):
    JOBS.inc()
    start_response("200 OK", [])
    return [str(os.geteuid()).encode()]
"""

WIPE = """
import os, shutil
def on_starting(server):
    path = os.environ["PROMETHEUS_MULTIPROC_DIR"]
    shutil.rmtree(path)
    os.mkdir(path)
"""

CONFIGURED = f"user = {USER}\npreload_app = True\n"


@pytest.fixture
def app() -> Iterator[Path]:
    """Return a directory with an application, which every user may read."""
    path = Path(tempfile.mkdtemp(prefix="mpmetrics-test-app-", dir="/tmp"))
    path.chmod(0o755)
    (path / "app.py").write_text(APP)
    yield path
    shutil.rmtree(path)


SERVERS = {
    "told": ("", f"--user {USER}", ""),
    "told, preloaded": ("", f"--user={USER} --preload", ""),
    "told, wiped": ("", f"-u {USER} --preload", WIPE),
    "configured": ("", "", CONFIGURED),
    "configured, wiped": ("", "", CONFIGURED + WIPE),
    "started": (f"--user {USER}", "", ""),
    "started, wiped": (f"--user {USER} --group {USER}", "", WIPE),
    "started as both": (f"--group {USER}", "", ""),
}
"""The options of the wrapper, those of gunicorn, and gunicorn's configuration."""


@pytest.mark.parametrize(("own", "more", "configuration"), SERVERS.values(), ids=SERVERS)
def test_workers_of_another_user_are_counted(
    app: Path, own: str, more: str, configuration: str
) -> None:
    """Every request is answered and counted, whatever way the workers became another user."""
    (app / "gunicorn.conf.py").write_text(configuration)
    port = free_port()
    line = f"-m gunicorn --workers 2 --bind 127.0.0.1:{port} --no-control-socket {more} app:wsgi"
    with Wrapped(sys.executable, *line.split(), options=own.split(), cwd=app) as wrapped:
        wrapped.wait_for(rb"Booting worker(.*\n)*.*Booting worker")
        user = 0 if own.startswith("--group") else USER
        place = wrapped.directory
        # A worker that changes its user without notice may be faster than the wrapper, and
        # prometheus_client does not try again.
        eventually(lambda: place.stat().st_uid == user, "a directory of the user")
        first = eventually(lambda: try_to_fetch(port), "an answer")
        answers = [first, *(try_to_fetch(port) for _ in range(20))]
        assert {*answers} == {str(user).encode()}
        assert wrapped.samples()["jobs_total"] == len(answers)
        status = place.stat()
        assert (status.st_uid, status.st_mode & 0o777) == (user, 0o700)
        assert place.parent.stat().st_mode & 0o022 == 0
        assert wrapped.end(signal.SIGTERM) == 0, wrapped.said.decode()
    assert b"may not write" not in wrapped.said
    assert not place.parent.exists()


def try_to_fetch(port: int) -> bytes:
    """Send a request; return b"" if nothing listens yet, or if the answer is an error."""
    try:
        answer = fetch(f"http://127.0.0.1:{port}/")
    except ConnectionError:
        return b""
    return answer.body if answer.status == 200 else b""


def test_a_directory_of_the_user_stays_as_it_is(app: Path) -> None:
    """A directory that a user has made is not given away; one line says who may not write to it."""
    given = app / "given"
    given.mkdir(mode=0o755)
    program = f"import os, sys; os.setuid({USER}); sys.stdin.read()"
    options = ["--dir", str(given)]
    with Wrapped(sys.executable, "-c", program, options=options, stdin=-1) as wrapped:
        (main,) = wrapped.children()
        name = (
            rb"process %d runs as user \S+, who may not write metrics to %s: start mpmetrics run "
        )
        wrapped.wait_for(name % (main, str(given).encode()))
        assert wrapped.process.stdin is not None
        wrapped.process.stdin.close()
        assert wrapped.end() == 0
    assert wrapped.said.count(b"may not write") == 1
    assert given.stat().st_uid == 0


def test_a_directory_that_was_missing_belongs_to_the_user_of_the_server(app: Path) -> None:
    """A directory that the wrapper makes under a given name is the server's."""
    given = app / "given"
    options = ["--dir", str(given), "--user", str(USER)]
    show = "import os; print(os.getuid(), os.getgid(), os.getgroups(), os.environ.get('USER'))"
    ending = run(command(*OWN, *options, "--", sys.executable, "-c", show))
    assert ending.status == 0, ending.stderr
    assert ending.stdout.startswith(f"{USER} ")
    assert "[0" not in ending.stdout
    assert (given.stat().st_uid, given.stat().st_mode & 0o777) == (USER, 0o700)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--user=not-a-user", "not-a-user: there is no such user"),
        ("--group=not-a-group", "not-a-group: there is no such group"),
        ("--user=99999999999", "99999999999: the number is too large"),
    ],
)
def test_a_user_that_does_not_exist(option: str, words: str) -> None:
    """A mistake in the name of a user is one line and status 2; nothing is started."""
    ending = run(command(*OWN, option, "--", "echo"))
    assert ending == Ending(2, "", f"mpmetrics: {words}\n")
