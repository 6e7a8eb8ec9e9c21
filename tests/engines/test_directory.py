"""The directory of an engine: made or taken, owned or not, and removed by its owner only."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mpmetrics import engines
from tests.workers import PATIENCE, Worker, environment, run_python

ENSURE = """
import json, logging, os, sys
from mpmetrics.engines import ensure_multiproc_dir
directory = ensure_multiproc_dir("engine-")
def tell(**more):
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
    """Return the names of what lies in a directory."""
    return [each.name for each in directory.iterdir()]


def told(program: str, directory: Path | str | None, tmp_path: Path) -> dict[str, Any]:
    """Run *program* and return what it told, with its scratch directories in *tmp_path*."""
    env = environment(None, TMPDIR=str(tmp_path))
    if directory is not None:
        env["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    answer: dict[str, Any] = json.loads(run_python(program, env=env))
    return answer


def test_without_a_variable_one_is_made(tmp_path: Path) -> None:
    """It is private and ours, and gone when the process ends; its own metrics do not hinder."""
    write = "from prometheus_client import Counter\nCounter('a', '').inc()\n"
    listing = "tell(files=os.listdir(directory), mode=os.stat(directory).st_mode & 0o777)"
    seen = told(ENSURE + write + listing, None, tmp_path)
    assert Path(seen["path"]).parent == tmp_path
    assert Path(seen["path"]).name.startswith("engine-")
    assert any(name.startswith("counter_") for name in seen["files"])
    assert seen["mode"] == 0o700
    assert (seen["owned"], seen["there"], seen["variable"]) == (True, True, seen["path"])
    assert (seen["latched"], seen["recreated"], seen["lost"], seen["why"]) == (False, False, [], "")
    assert names(tmp_path) == []


def test_the_variable_counts(tmp_path: Path) -> None:
    """What it names is taken as it is, and not removed; prometheus_client is not imported."""
    given = tmp_path / "given"
    given.mkdir()
    seen = told(ENSURE + "directory.close(); tell()", given, tmp_path)
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


def test_an_empty_variable_names_nothing(tmp_path: Path) -> None:
    """With it, prometheus_client would write to the current directory."""
    seen = told(ENSURE + "tell()", "", tmp_path)
    assert (seen["owned"], seen["variable"]) == (True, seen["path"])


def test_a_vanished_directory_is_made_anew(tmp_path: Path) -> None:
    """It is still not ours to remove."""
    program = ENSURE.replace("import json", "import warnings, json") + "tell()"
    env = environment(tmp_path / "a" / "b")
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True
    )
    seen = json.loads(done.stdout)
    assert (seen["owned"], seen["recreated"], seen["there"]) == (False, True, True)
    assert "has been recreated" in done.stderr
    assert (tmp_path / "a" / "b").is_dir()


def test_a_directory_of_no_use_is_an_error_in_the_log(tmp_path: Path) -> None:
    """Not an exception: the server is to start."""
    (tmp_path / "file").write_text("")
    done = subprocess.run(
        [sys.executable, "-c", ENSURE + "tell()"],
        env=environment(tmp_path / "file"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["why"] == "not a directory"
    path = tmp_path / "file"
    assert done.stderr == f"PROMETHEUS_MULTIPROC_DIR={str(path)!r} is of no use: not a directory\n"


def test_who_is_second_does_not_own(tmp_path: Path) -> None:
    """Neither in the same process nor in one that it starts."""
    more = """
second = ensure_multiproc_dir("engine-")
child = os.fork()
if child == 0:
    os._exit(3 if directory.owned or directory.close() else 0)
_, status = os.waitpid(child, 0)
tell(second=second.owned, child=status, same=second.path == directory.path)
"""
    seen = told(ENSURE + more, None, tmp_path)
    assert (seen["owned"], seen["second"], seen["child"], seen["same"]) == (True, False, 0, True)


def test_an_import_that_was_too_early_is_told_loudly(tmp_path: Path) -> None:
    """With the names of the metrics that are lost."""
    early = """
from prometheus_client import Counter, Gauge, Histogram
Counter("vllm:requests", "", ["a"]), Gauge("lmcache:usage", ""), Histogram("vllm:time", "")
"""
    done = subprocess.run(
        [sys.executable, "-c", early + ENSURE + "tell()"],
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
import time

def use(at_work):
    from prometheus_client import Counter
    Counter("a", "").inc()
    at_work.set()
    time.sleep(0.2)

def own(at_work):
    assert ensure_multiproc_dir("engine-").owned
    use(at_work)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    at_work = context.Event()
    target = own if sys.argv[3:] else use
    if target is use:
        directory = ensure_multiproc_dir("engine-")
    child = context.Process(target=target, args=[at_work], daemon=sys.argv[2] == "daemon")
    child.start()
    assert at_work.wait(30)
    if target is own:
        child.join()
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("child", [["daemon"], ["child"], ["child", "owner"]], ids="-".join)
def test_children_of_multiprocessing_leave_nothing(
    tmp_path: Path, method: str, child: list[str]
) -> None:
    """They end before the directory is given up, whatever was imported first."""
    program = tmp_path / "program.py"
    program.write_text(
        f"import sys\nfrom mpmetrics.engines import ensure_multiproc_dir\n{CHILDREN}"
    )
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    done = subprocess.run(
        [sys.executable, str(program), method, *child],
        env=environment(None, TMPDIR=str(scratch)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr, names(scratch)) == (0, "", [])


def test_no_room_for_a_directory_is_an_error_in_the_log(tmp_path: Path) -> None:
    """Not an exception: nothing can be written to any temporary directory."""
    full = "import tempfile\ntempfile._candidate_tempdir_list = lambda: []\n"
    done = subprocess.run(
        [sys.executable, "-c", full + ENSURE + "tell()"],
        env=environment(None, TMPDIR=str(tmp_path)),
        capture_output=True,
        text=True,
        check=True,
    )
    seen = json.loads(done.stdout)
    assert (seen["path"], seen["owned"], seen["why"]) == ("", False, "the path is empty")
    assert done.stderr.startswith("there is no multiprocess directory: ")


def test_a_directory_in_use_stays(tmp_path: Path) -> None:
    """A process of the engine may outlive its parent; the next start removes what it leaves."""
    use = "import sys\ntell()\nsys.stdout.flush()\nsys.stdin.read()"
    owner = subprocess.Popen(
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
            assert told(ENSURE + "tell()", None, tmp_path)["path"] != str(path)
            assert path.is_dir()
    told(ENSURE + "tell()", None, tmp_path)
    assert names(tmp_path) == []


def test_what_a_killed_owner_left_is_removed(tmp_path: Path) -> None:
    """By the next start with the same prefix, and nothing else that looks like it."""
    (tmp_path / "engine-of-somebody").mkdir()
    kill = f"tell()\nsys.stdout.flush()\nos.kill(os.getpid(), {int(signal.SIGKILL)})"
    killed = subprocess.run(
        [sys.executable, "-c", ENSURE + kill],
        env=environment(None, TMPDIR=str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert Path(json.loads(killed.stdout)["path"]).is_dir()
    told(ENSURE + "tell()", None, tmp_path)
    assert names(tmp_path) == ["engine-of-somebody"]


@pytest.mark.parametrize("how", ["directory.close()", "with directory: pass"])
def test_closing_removes(tmp_path: Path, how: str) -> None:
    """And nobody who is started later looks for it."""
    seen = told(ENSURE + f"{how}\ntell(again=directory.close())", None, tmp_path)
    expected = (False, False, None, False)
    assert (seen["there"], seen["owned"], seen["variable"], seen["again"]) == expected


@pytest.mark.parametrize("name", engines.__all__)
def test_no_name_imports_prometheus_client(name: str) -> None:
    """Whoever imports it together with `ensure_multiproc_dir` would be too late with that."""
    program = f"import sys; from mpmetrics.engines import {name}; print(*sys.modules)"
    loaded = run_python(program, env=environment(None)).split()
    assert not {"prometheus_client", "vllm", "dynamo", "lmcache"} & set(loaded)


def test_names_are_listed() -> None:
    """Before they are loaded, and an unknown one is no name."""
    assert set(engines.__all__) <= set(dir(engines))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        engines.nothing  # type: ignore[attr-defined]  # noqa: B018 - it is the access that fails
