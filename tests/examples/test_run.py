"""The examples of `mpmetrics run` and of a sidecar: everything that they count is on the page."""

from __future__ import annotations

import configparser
import os
import shlex
import signal
import subprocess
import sys
import sysconfig
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from mpmetrics.directory import liveness
from mpmetrics.supervisor import launch
from mpmetrics_cli.run import run as run_command
from tests.examples.programs import EXAMPLES, clean_environment
from tests.servers import eventually, fetch, free_port
from tests.workers import PATIENCE, Worker, environment, run_python, run_to_end, spawn
from tests.wrapped import Wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.conftest import NeedsProgram

pytestmark = pytest.mark.skipif(not launch.IS_SUPPORTED, reason="run needs Linux")

SCRIPTS = EXAMPLES / "run"
UNIT = EXAMPLES / "shop.service"
SIDECAR = EXAMPLES / "kubernetes" / "sidecar.yaml"
PATH = os.pathsep.join([sysconfig.get_path("scripts"), *os.defpath.split(os.pathsep)])


def start_script(name: str, home: Path, **more: str) -> Wrapped:
    """Start the script *name* with an environment in which it finds the command."""
    env = {**clean_environment(None, home), "PATH": PATH, **more}
    return Wrapped(script=SCRIPTS / name, cwd=home, env=env, stdout=sys.stderr.fileno())


def is_up(url: str) -> bool:
    """Return whether a server answers at *url*."""
    try:
        return fetch(url).status == 200
    except OSError:
        return False


@pytest.mark.parametrize("name", ["gunicorn.sh", "uvicorn.sh"])
def test_a_wrapped_server(name: str, home: Path) -> None:
    """The page of a wrapped server has the greetings of all workers; SIGTERM ends the server."""
    port = str(free_port())
    url = f"http://127.0.0.1:{port}"
    where = {
        "GUNICORN_CMD_ARGS": f"--bind 127.0.0.1:{port} --no-control-socket",
        "UVICORN_PORT": port,
    }
    with start_script(name, home, **where) as wrapped:
        eventually(lambda: is_up(url), "the server answers")
        # The first was is_up's.
        assert [fetch(url).body for _ in range(40)] == [b"hello\n"] * 40
        assert wrapped.samples()["greetings_total"] == 41
        assert wrapped.end(signal.SIGTERM) == 0, wrapped.said.decode()


def test_wrapped_tasks(home: Path, tmp_path: Path) -> None:
    """The page of a wrapped celery has every task that was done."""
    place = tmp_path / "place"
    place.mkdir()
    env = {**clean_environment(None, home), "PATH": PATH}
    with Wrapped(script=SCRIPTS / "celery.sh", cwd=place, env=env, stdout=2) as wrapped:
        program = "import tasks\nfor name in ('Ada', 'Grace', 'Mary'): tasks.greet.delay(name)"
        run_python(program, env=environment(None, PYTHONPATH=os.fspath(SCRIPTS)), cwd=place)
        wrapped.until(lambda page: page.get("greetings_total") == 3)
        assert wrapped.end(signal.SIGTERM) == 0, wrapped.said.decode()


def parse_options(words: Sequence[str]) -> dict[str, Any]:
    """Return the options that `mpmetrics run` reads from *words*; mistakes raise."""
    return run_command.make_context("run", list(words)).params


def test_the_service(tmp_path: Path, needs_program: NeedsProgram) -> None:
    """Systemd accepts the unit, the command accepts its line, and their deadlines agree."""
    analyze = needs_program("systemd-analyze", package="systemd")
    unit = configparser.RawConfigParser()
    unit.read(UNIT)
    service = unit["Service"]
    program, command, *arguments = shlex.split(service["ExecStart"])
    assert (Path(program).name, command) == ("mpmetrics", "run")
    options = parse_options(arguments)
    assert options["command"][0] == "gunicorn"
    assert options["grace"] < float(service["TimeoutStopSec"])
    assert service["KillMode"] == "mixed"

    # It looks whether the program is there, which is somewhere else here.
    here = tmp_path / UNIT.name
    here.write_text(UNIT.read_text().replace(program, f"{sysconfig.get_path('scripts')}/mpmetrics"))
    checked = run_to_end([analyze, "verify", here], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.fixture
def pod() -> dict[str, Any]:
    """Return the pod of the manifest."""
    manifest = yaml.safe_load(SIDECAR.read_text())
    template = manifest["spec"]["template"]
    assert manifest["spec"]["selector"]["matchLabels"] == template["metadata"]["labels"]
    spec = template["spec"]
    assert isinstance(spec, dict)
    return spec


def test_the_containers_of_the_pod_share_directory_and_user(pod: dict[str, Any]) -> None:
    """The containers of the pod share the directory, at one path, and the user."""
    (volume,) = pod["volumes"]
    assert "emptyDir" in volume
    mount = {"name": volume["name"], "mountPath": "/metrics"}
    for container in pod["containers"]:
        assert container["volumeMounts"] == [mount]
        assert "securityContext" not in container  # none has a user of its own
    assert pod["securityContext"]["runAsUser"] > 0
    variables = [each for container in pod["containers"] for each in container.get("env", [])]
    assert variables == [{"name": "PROMETHEUS_MULTIPROC_DIR", "value": mount["mountPath"]}]


@contextmanager
def container(pod: dict[str, Any], name: str, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the command of a container here, until the end of the block, with all its children."""
    (command,) = [each["command"] for each in pod["containers"] if each["name"] == name]
    places = {"/metrics": os.fspath(directory), ":9464": "127.0.0.1:0"}
    for theirs, ours in places.items():
        command = [word.replace(theirs, ours) for word in command]
    with spawn(
        command,
        env=environment(None, PATH=PATH),
        stderr=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            # As the end of its first process ends all of a container.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.skipif(not liveness.HAS_LEASES, reason="this system has no file leases")
def test_the_sidecars_serve_and_fold(pod: dict[str, Any], directory: Path) -> None:
    """The sidecars fold the file of a dead worker, and the page has its values."""
    with Worker(directory) as living, Worker(directory) as dead:
        for worker in (living, dead):
            worker.do("Counter('jobs', '').inc(3)")
        dead.kill()
        with container(pod, "compaction", directory) as compaction:
            archive = directory / "counter_mpmetrics-archive-1.db"
            eventually(archive.exists, "the dead worker is folded")
            with container(pod, "metrics", directory) as serving:
                assert serving.stderr is not None
                url = serving.stderr.readline().decode().split()[-1]
                page = fetch(url).body.decode()
                assert fetch(url.replace("/metrics", "/-/ready")).status == 200
                serving.terminate()
                assert serving.wait(PATIENCE) == 0
            compaction.terminate()
            compaction.wait(PATIENCE)
    assert "\njobs_total 6.0\n" in page
    assert not (directory / f"counter_{dead.pid}.db").exists()
