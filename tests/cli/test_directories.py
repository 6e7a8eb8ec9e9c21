"""Several directories on the command line: `dump`, `serve` and `run`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mpmetrics.supervisor import launch
from mpmetrics_cli.directories import DirectoryArgument, parse_directory
from tests.cli.directories import fill
from tests.cli.processes import Ending, command, invoke
from tests.database import counter, gauge
from tests.servers import fetch
from tests.workers import environment, spawn
from tests.wrapped import Wrapped

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    """Return a directory with two others, in each of which a process 1 counted."""
    for name, value in (("web", 3), ("celery", 4)):
        (tmp_path / name).mkdir()
        files = {"counter_1.db": counter("jobs", value), "gauge_all_1.db": gauge("busy", value)}
        fill(tmp_path / name, files)
    return tmp_path


def lines(ending: Ending) -> list[str]:
    """Return the series that a command wrote, which has ended well."""
    assert (ending.status, ending.stderr) == (0, "")
    return [line for line in ending.stdout.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/a", DirectoryArgument("/a")),
        ("a", DirectoryArgument("a")),
        ("web=/a", DirectoryArgument("/a", "web")),
        ("web=a=b", DirectoryArgument("a=b", "web")),
        ("./web=a", DirectoryArgument("./web=a")),
        ("/x/web=a", DirectoryArgument("/x/web=a")),
        ("../a", DirectoryArgument("../a")),
    ],
)
def test_a_name_stands_before_a_directory(text: str, expected: DirectoryArgument) -> None:
    """What stands before an equals sign is a name, unless it has a slash."""
    assert parse_directory(text) == expected


DUMPED: dict[str, tuple[list[str], list[str]]] = {
    "two": (["{web}", "{celery}"], ["{celery}", "{web}"]),
    "names": (["w={web}", "c={celery}"], ["c", "w"]),
    "each": (["--each", "{parent}"], ["celery", "web"]),
    "each with a name": (["--each", "shop={parent}"], ["shop/celery", "shop/web"]),
    "each and one of them": (["w={web}", "--each", "{parent}"], ["celery", "w"]),
}


@pytest.mark.parametrize(("arguments", "names"), DUMPED.values(), ids=DUMPED.keys())
def test_dump_merges_directories(parent: Path, arguments: list[str], names: list[str]) -> None:
    """Counters add up, each directory once, and processes are told apart by their directories."""
    paths = {"parent": parent, "web": parent / "web", "celery": parent / "celery"}
    found = lines(invoke("dump", *(each.format(**paths) for each in arguments)))
    celery, web = (name.format(**paths) for name in names)
    assert found == [
        f'busy{{directory="{celery}",pid="1"}} 4.0',
        f'busy{{directory="{web}",pid="1"}} 3.0',
        "jobs_total 7.0",
    ]


def test_the_label_has_the_name_that_was_given(parent: Path) -> None:
    """The label is shown for one directory, too, if it is named."""
    found = lines(invoke("dump", f"w={parent / 'web'}", "--directory-label", "service"))
    assert found == ['busy{pid="1",service="w"} 3.0', "jobs_total 3.0"]
    assert lines(invoke("dump", parent / "web"))[0] == 'busy{pid="1"} 3.0'


@pytest.mark.parametrize("form", ["text", "openmetrics", "json", "table"])
def test_processes_are_shown_with_their_directory(parent: Path, form: str) -> None:
    """Every format of the view by process tells the two processes 1 apart."""
    ending = invoke("dump", "--each", parent, "--by-process", "--format", form)
    assert (ending.status, ending.stderr) == (0, "")
    if form == "json":
        families = {each["name"]: each for each in json.loads(ending.stdout)["families"]}
        assert list(families["jobs"]["processes"]) == ["celery/1", "web/1"]
        assert families["busy"]["processes"]["web/1"][0]["labels"] == {
            "directory": "web",
            "pid": "1",
        }
    else:
        for name in ("celery/1", "web/1"):
            assert name in ending.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a="], "'a=' is not of the form NAME=DIR; a path may begin with ./"),
        (["=a"], "'=a' is not of the form NAME=DIR; a path may begin with ./"),
        (["no/such"], "no/such: no such directory"),
        (["--each", "no/such"], "no/such: No such file or directory"),
        ([".", "--directory-label", "pid"], "label 'pid': it tells the processes"),
        ([".", "--directory-label", "a-b"], "label 'a-b': not a valid label name"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], message: str) -> None:
    """A user's mistake is one line on standard error, and status 2."""
    ending = invoke("dump", *arguments)
    assert (ending.status, ending.stdout) == (2, "")
    assert message in ending.stderr
    assert ending.stderr.count("\n") == 1


def test_files_beside_the_containers_count(parent: Path) -> None:
    """Workers' files in the parent itself are no less counted; other entries are left alone."""
    fill(parent, {"counter_1.db": counter("jobs", 10)})
    (parent / "README").touch()
    (parent / "circle").symlink_to("circle")
    (parent / "nowhere").symlink_to("no/such")
    (parent / ".hidden").mkdir()
    fill(parent / ".hidden", {"counter_1.db": counter("jobs", 1000)})
    ending = invoke("dump", "--each", parent, "--include", "jobs")
    assert ending.stdout.splitlines()[2:] == ["jobs_total 17.0"]


def test_serve_follows_containers(parent: Path) -> None:
    """The page lists the sub-directories at each scrape; what has gone stays in the totals."""
    line = command("serve", "--listen", "127.0.0.1:0", "--each", parent)
    with spawn(line, stderr=subprocess.PIPE, env=environment(None)) as process:
        try:
            assert process.stderr is not None
            address = process.stderr.readline().decode().rpartition(" ")[2].strip()
            assert b"jobs_total 7.0\n" in fetch(address).body
            shutil.rmtree(parent / "web")
            (parent / "web-2").mkdir()
            fill(parent / "web-2", {"counter_1.db": counter("jobs", 10)})
            page = fetch(address).body.decode()
            ready = fetch(f"{address.removesuffix('/metrics')}/-/ready")
            assert ready.status == 200
        finally:
            process.kill()
    assert "jobs_total 17.0\n" in page
    up = [line for line in page.splitlines() if line.startswith("mpmetrics_source_up{")]
    names = ("celery", "web-2", str(parent))
    assert sorted(up) == sorted(f'mpmetrics_source_up{{source="{name}"}} 1.0' for name in names)


@pytest.mark.skipif(not launch.IS_SUPPORTED, reason="run needs Linux")
def test_run_merges_other_directories(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page of a run has its own directory, under a name that stays, and those of others."""
    monkeypatch.setenv("TMPDIR", str(parent))
    program = "from prometheus_client import Counter; Counter('jobs', 'help').inc(10); input()"
    options = ["--also", f"web={parent / 'web'}", "--each", f"all={parent}"]
    with Wrapped(sys.executable, "-c", program, options=options, stdin=subprocess.PIPE) as wrapped:
        wrapped.until(lambda samples: samples.get("jobs_total") == 17.0)
        page = fetch(wrapped.url).body.decode()
        assert wrapped.process.stdin is not None
        wrapped.process.stdin.close()
        wrapped.end()
    up = [line for line in page.splitlines() if line.startswith("mpmetrics_source_up{")]
    assert 'mpmetrics_source_up{source="directory"} 1.0' in up
    assert 'mpmetrics_source_up{source="web"} 1.0' in up
    assert str(parent) not in "".join(up)
