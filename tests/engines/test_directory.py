"""The directory of an engine: the environment's or a private one, and removed by its owner only."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mpmetrics import engines
from tests.workers import PATIENCE, Worker, environment, run_python, run_to_end, spawn

ENSURE = """
import json, logging, os, sys
from mpmetrics.engines import ensure_multiproc_dir
directory = ensure_multiproc_dir("engine-")
def report(**more):
    print(json.dumps({
        "path": directory.path,
        "owned": directory.owned,
        "recreated": directory.recreated,
        "latched": directory.latched,
        "lost": directory.lost,
        "why": directory.unusable_reason,
        "variable": os.environ.get("PROMETHEUS_MULTIPROC_DIR"),
        "there": os.path.isdir(directory.path),
        "imported": "prometheus_client" in sys.modules,
        **more,
    }))
"""


def names(directory: Path) -> list[str]:
    """Return the names of the entries of a directory."""
    return [each.name for each in directory.iterdir()]


def run_and_read(program: str, directory: Path | str | None, tmp_path: Path) -> dict[str, Any]:
    """Run *program* with its scratch directories in *tmp_path*; return the JSON that it printed."""
    env = environment(None, TMPDIR=str(tmp_path))
    if directory is not None:
        env["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    answer: dict[str, Any] = json.loads(run_python(program, env=env))
    return answer


def test_a_private_directory(tmp_path: Path) -> None:
    """Without the variable, a private directory is made, and removed when the process ends.

    The process's own metrics in it do not keep it from being removed.
    """
    write = "from prometheus_client import Counter\nCounter('a', '').inc()\n"
    listing = "report(files=os.listdir(directory), mode=os.stat(directory).st_mode & 0o777)"
    seen = run_and_read(ENSURE + write + listing, None, tmp_path)
    home = Path(seen["path"]).parent
    assert (home.parent, home.name[:7]) == (tmp_path, "engine-")
    assert any(name.startswith("counter_") for name in seen["files"])
    assert seen["mode"] == 0o700
    assert (seen["owned"], seen["there"], seen["variable"]) == (True, True, seen["path"])
    assert (seen["latched"], seen["recreated"], seen["lost"], seen["why"]) == (False, False, [], "")
    assert names(tmp_path) == []


def test_the_directory_of_the_variable(tmp_path: Path) -> None:
    """The directory of the variable is used and stays; prometheus_client is not imported."""
    given = tmp_path / "given"
    given.mkdir()
    seen = run_and_read(ENSURE + "directory.close(); report()", given, tmp_path)
    assert seen == {
        "path": str(given),
        "owned": False,
        "recreated": False,
        "latched": False,
        "lost": [],
        "why": "",
        "variable": str(given),
        "there": True,
        "imported": False,
    }
    assert names(tmp_path) == ["given"]


def test_an_empty_variable(tmp_path: Path) -> None:
    """An empty variable counts as unset; prometheus_client would write to the current directory."""
    seen = run_and_read(ENSURE + "report()", "", tmp_path)
    assert (seen["owned"], seen["variable"]) == (True, seen["path"])


def test_a_missing_directory_is_recreated(tmp_path: Path) -> None:
    """A directory of the variable that is missing is recreated, and is not owned."""
    program = ENSURE.replace("import json", "import warnings, json") + "report()"
    env = environment(tmp_path / "a" / "b")
    done = run_to_end(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True
    )
    seen = json.loads(done.stdout)
    assert (seen["owned"], seen["recreated"], seen["there"]) == (False, True, True)
    assert "has been recreated" in done.stderr
    assert (tmp_path / "a" / "b").is_dir()


def test_an_unusable_directory(tmp_path: Path) -> None:
    """A directory that cannot be used is logged as an error and raises nothing."""
    (tmp_path / "file").write_text("")
    done = run_to_end(
        [sys.executable, "-c", ENSURE + "report()"],
        env=environment(tmp_path / "file"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["why"] == "not a directory"
    path = tmp_path / "file"
    assert done.stderr == f"PROMETHEUS_MULTIPROC_DIR={str(path)!r} is of no use: not a directory\n"


def test_a_variable_with_a_mistake_makes_no_directory(tmp_path: Path) -> None:
    """A path that a shell would have changed is an error in the log, and no directory is made."""
    done = run_to_end(
        [sys.executable, "-c", ENSURE + "report()"],
        env=environment("~/x"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    seen = json.loads(done.stdout)
    assert (seen["recreated"], seen["there"]) == (False, False)
    assert "is of no use: no such directory: the path has a ~" in done.stderr
    assert names(tmp_path) == []


def test_a_second_call_does_not_own(tmp_path: Path) -> None:
    """A second call does not own the directory, neither in the same process nor in a child."""
    more = """
second = ensure_multiproc_dir("engine-")
child = os.fork()
if child == 0:
    os._exit(3 if directory.owned or directory.close() else 0)
_, status = os.waitpid(child, 0)
report(second=second.owned, child=status, same=second.path == directory.path)
"""
    seen = run_and_read(ENSURE + more, None, tmp_path)
    assert (seen["owned"], seen["second"], seen["child"], seen["same"]) == (True, False, 0, True)


def test_an_early_import_is_a_warning(tmp_path: Path) -> None:
    """A warning names the metrics that are lost if prometheus_client was imported too early."""
    early = """
from prometheus_client import Counter, Gauge, Histogram
Counter("vllm:requests", "", ["a"]), Gauge("lmcache:usage", ""), Histogram("vllm:time", "")
"""
    done = run_to_end(
        [sys.executable, "-c", early + ENSURE + "report()"],
        env=environment(None, TMPDIR=str(tmp_path)),
        capture_output=True,
        text=True,
        check=True,
    )
    seen = json.loads(done.stdout)
    assert seen["latched"]
    assert seen["lost"] == ["lmcache:usage", "vllm:requests", "vllm:time"]
    assert done.stderr == (
        "prometheus_client was imported before PROMETHEUS_MULTIPROC_DIR was set: this process "
        f"keeps its values in memory, and all of its metrics are missing in {seen['path']}, those "
        "that are yet to be made and these: lmcache:usage, vllm:requests, vllm:time\n"
    )


CHILDREN = """
import multiprocessing.util

def use(at_work, parent_ends):
    from prometheus_client import Counter
    Counter("a", "").inc()
    at_work.set()
    parent_ends.wait(30)

def own(at_work, parent_ends):
    assert ensure_multiproc_dir("engine-").owned
    use(at_work, parent_ends)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    at_work, parent_ends = context.Event(), context.Event()
    if sys.argv[2] == "child":  # a daemon is terminated
        multiprocessing.util.Finalize(None, parent_ends.set, exitpriority=0)
    target = own if sys.argv[3:] else use
    if target is use:
        directory = ensure_multiproc_dir("engine-")
    is_daemon = sys.argv[2] == "daemon"
    child = context.Process(target=target, args=[at_work, parent_ends], daemon=is_daemon)
    child.start()
    assert at_work.wait(30)
    if target is own:
        parent_ends.set()
        child.join()
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("child", [["daemon"], ["child"], ["child", "owner"]], ids="-".join)
def test_children_of_multiprocessing_leave_nothing(
    tmp_path: Path, method: str, child: list[str]
) -> None:
    """Children of multiprocessing end before the directory is removed, in any order of imports."""
    program = tmp_path / "program.py"
    program.write_text(
        f"import sys\nfrom mpmetrics.engines import ensure_multiproc_dir\n{CHILDREN}"
    )
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    done = run_to_end(
        [sys.executable, str(program), method, *child],
        env=environment(None, TMPDIR=str(scratch)),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr, names(scratch)) == (0, "", [])


def test_no_writable_temporary_directory(tmp_path: Path) -> None:
    """If no temporary directory is writable, that is logged as an error and raises nothing."""
    full = "import tempfile\ntempfile._candidate_tempdir_list = lambda: []\n"
    done = run_to_end(
        [sys.executable, "-c", full + ENSURE + "report()"],
        env=environment(None, TMPDIR=str(tmp_path)),
        capture_output=True,
        text=True,
        check=True,
    )
    seen = json.loads(done.stdout)
    assert (seen["path"], seen["owned"], seen["why"]) == ("", False, "the path is empty")
    assert done.stderr.startswith("there is no multiprocess directory: ")


def test_a_directory_in_use_stays(tmp_path: Path) -> None:
    """A directory that an engine's process uses outlives its owner.

    The next start after that process has ended removes it.
    """
    use = "import sys\nreport()\nsys.stdout.flush()\nsys.stdin.read()"
    owner = spawn(
        [sys.executable, "-c", ENSURE + use],
        env=environment(None, TMPDIR=str(tmp_path)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with owner:
        assert owner.stdout is not None
        path = Path(json.loads(owner.stdout.readline())["path"])
        with Worker(path) as worker:
            worker.do("Counter('a', '').inc()")
            owner.communicate(timeout=PATIENCE)
            assert path.is_dir()
            assert run_and_read(ENSURE + "report()", None, tmp_path)["path"] != str(path)
            assert path.is_dir()
    run_and_read(ENSURE + "report()", None, tmp_path)
    assert names(tmp_path) == []


def test_the_directory_of_a_killed_owner_is_removed(tmp_path: Path) -> None:
    """The next start with the same prefix removes the directory of a killed owner.

    A directory with such a name that has another origin stays.
    """
    (tmp_path / "engine-of-another").mkdir()
    kill = f"report()\nsys.stdout.flush()\nos.kill(os.getpid(), {int(signal.SIGKILL)})"
    killed = run_to_end(
        [sys.executable, "-c", ENSURE + kill],
        env=environment(None, TMPDIR=str(tmp_path)),
        capture_output=True,
        text=True,
    )
    assert Path(json.loads(killed.stdout)["path"]).is_dir()
    run_and_read(ENSURE + "report()", None, tmp_path)
    assert names(tmp_path) == ["engine-of-another"]


@pytest.mark.parametrize("how", ["directory.close()", "with directory: pass"])
def test_closing_removes(tmp_path: Path, how: str) -> None:
    """`close` and the end of a `with` block remove the directory and unset the variable."""
    seen = run_and_read(ENSURE + f"{how}\nreport(again=directory.close())", None, tmp_path)
    expected = (False, False, None, False)
    assert (seen["there"], seen["owned"], seen["variable"], seen["again"]) == expected


@pytest.mark.parametrize("name", engines.__all__)
def test_no_name_imports_prometheus_client(name: str) -> None:
    """Importing a name together with `ensure_multiproc_dir` does not import prometheus_client."""
    program = f"import sys; from mpmetrics.engines import {name}; print(*sys.modules)"
    loaded = run_python(program, env=environment(None)).split()
    assert not {"prometheus_client", "vllm", "dynamo", "lmcache"} & set(loaded)


def test_names_are_listed() -> None:
    """`dir` lists the public names before they are loaded; an unknown name raises."""
    assert set(engines.__all__) <= set(dir(engines))
    unknown = "nothing"
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        getattr(engines, unknown)
