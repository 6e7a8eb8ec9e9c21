"""Directories with things in them, or with rights, that no worker would give them."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import mpmetrics
from tests.workers import Worker, environment, run_python

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory in which one worker counted one request."""
    with Worker(tmp_path) as worker:
        worker.do("Counter('requests', '').inc()")
    return tmp_path


def reported(directory: Path) -> dict[str, str]:
    """Return reasons of problems by file name; the worker's request must be counted."""
    collection = mpmetrics.collect(directory)
    samples = [sample for family in collection.families for sample in family.samples]
    assert [(sample.name, sample.value) for sample in samples] == [("requests_total", 1)]
    return {Path(problem.path).name: problem.reason for problem in collection.problems}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_does_not_block(directory: Path) -> None:
    """A named pipe with the name of a worker's file is a stranger, even when a caller names it."""
    pipe = directory / "counter_1.db"
    os.mkfifo(pipe)
    assert reported(directory) == {"counter_1.db": "stranger"}
    assert not mpmetrics.MultiProcessCollector.merge([pipe])


def test_strangers_are_reported_and_passed_over(directory: Path) -> None:
    """Files of other programs, directories, loops and sockets are reported and cost nothing."""
    (directory / "backup.db").write_bytes(b"anything")
    (directory / "README").write_text("anything")
    (directory / "counter_1.db").mkdir()
    (directory / "sub").mkdir()
    (directory / "gauge_median_1.db").touch()
    (directory / "counter_loop.db").symlink_to("counter_loop.db")
    with closing(sqlite3.connect(directory / "app.db")) as database:
        database.execute("CREATE TABLE t (x)")
    with socket.socket(socket.AF_UNIX) as listener:
        before = Path.cwd()
        os.chdir(directory)  # the path of a socket may have some hundred bytes only
        try:
            listener.bind("counter_socket.db")
        finally:
            os.chdir(before)
    assert reported(directory) == dict.fromkeys(
        [
            *("backup.db", "README", "counter_1.db", "sub", "gauge_median_1.db"),
            *("counter_loop.db", "app.db", "counter_socket.db"),
        ],
        "stranger",
    )


def test_damaged_files_are_reported_and_left_out(directory: Path) -> None:
    """A file that does not follow the format is damaged, an SQLite file under any name."""
    with closing(sqlite3.connect(directory / "counter_1.db")) as database:
        database.execute("CREATE TABLE t (x)")
    (directory / "gauge_all_1.db").write_bytes(os.urandom(3))
    (directory / "histogram_1.db").write_bytes(b"\xff" * 4096)
    assert reported(directory) == {
        "counter_1.db": "damaged",
        "gauge_all_1.db": "damaged",
        "histogram_1.db": "damaged",
    }


def test_a_file_that_has_just_been_created_is_no_problem(directory: Path) -> None:
    """A file that is empty or all zeros, as a worker creates it, is no problem."""
    (directory / "counter_1.db").touch()
    (directory / "gauge_all_1.db").write_bytes(bytes(1 << 16))
    assert reported(directory) == {}


def test_symbolic_links_are_followed(
    directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A symbolic link to the directory, or in it to a file, counts like its target."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (written,) = directory.iterdir()
    (elsewhere / "counter_1.db").symlink_to(written)
    assert reported(elsewhere) == {}
    link = elsewhere / "link"
    link.symlink_to(directory)
    assert reported(link) == {}


@pytest.mark.parametrize("name", ["with blank", "ünï 日本", "[a-z]*", "new\nline", "%41", "-rf"])
def test_any_name_of_a_directory_will_do(tmp_path: Path, name: str) -> None:
    """Neither a scrape nor `mark_process_dead` takes the name of the directory for a pattern."""
    directory = tmp_path / name
    directory.mkdir()
    with Worker(directory) as worker:
        worker.do("Counter('requests', '').inc()")
        worker.do("Gauge('busy', '', multiprocess_mode='livesum').inc()")
        mpmetrics.mark_process_dead(worker.pid, directory)
    assert reported(directory) == {}


@pytest.mark.skipif(sys.platform != "linux", reason="names need not be UTF-8 on Linux only")
def test_names_need_not_be_text(tmp_path: Path) -> None:
    """The page of a directory and a file whose names are not UTF-8 is UTF-8."""
    directory = tmp_path / os.fsdecode(b"\xff")
    directory.mkdir()
    with Worker(directory) as worker:
        worker.do("Gauge('busy', '', ['of']).labels('it').set(1)")
    (written,) = directory.iterdir()
    written.rename(directory / os.fsdecode(b"gauge_all_\xfe.db"))
    (directory / os.fsdecode(b"\xfd")).touch()
    text = mpmetrics.Page(directory).render().decode()
    assert 'busy{of="it",pid="�"} 1.0\n' in text
    assert "mpmetrics_source_up{source=" in text


# -- rights --------------------------------------------------------------------------------------

AS_ANOTHER_USER = """
import json
import logging
import os
import sys

import mpmetrics
from mpmetrics import collect, register

# Only now, when everything is imported, which an unknown user may not be allowed to.
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)

logging.getLogger("mpmetrics").addHandler(logging.NullHandler())
path = sys.argv[1]
"""


@pytest.fixture
def public() -> Iterator[Path]:
    """Return a directory that every user of the machine can reach."""
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o755)
        yield Path(path)


@pytest.mark.parametrize(
    ("name", "rights"),
    [("closed", 0o311), ("closed", 0o444), ("closed/inside", 0o600)],
    ids=["not to be listed", "not to be entered", "in one that is closed"],
)
def test_a_directory_that_may_not_be_read_is_refused(public: Path, name: str, rights: int) -> None:
    """Every entry point refuses a directory that this user may not list, and says why."""
    closed = public / name
    closed.mkdir(parents=True)
    (public / "closed").chmod(rights)
    program = f"""{AS_ANOTHER_USER}
reasons = []
for attempt in (collect, lambda path: mpmetrics.MultiProcessCollector(None, path)):
    try:
        attempt(path)
    except ValueError as error:
        reasons.append(str(error))
registration = register(path=path)
print(json.dumps([reasons, registration.mode, registration.reason]))
"""
    output = run_python(program, str(closed), env=environment(None))
    reasons, mode, reason = json.loads(output)
    assert reasons == [f"{closed}: the directory cannot be read by this user"] * 2
    assert mode == "in_process"
    assert "cannot be read by this user" in reason


def test_a_file_that_may_not_be_read_costs_itself_only(public: Path) -> None:
    """A file that this user may not read is reported; the others are merged."""
    with Worker(public) as readable, Worker(public) as closed:
        for worker in (readable, closed):
            worker.do("Counter('requests', '').inc()")
        (public / f"counter_{readable.pid}.db").chmod(0o644)
        (public / f"counter_{closed.pid}.db").chmod(0)
    program = f"""{AS_ANOTHER_USER}
collection = collect(path)
print(json.dumps([collection.render().decode(), collection.problems]))
"""
    page, problems = json.loads(run_python(program, str(public), env=environment(None)))
    assert page.splitlines()[-1] == "requests_total 1.0"
    assert problems == [
        [str(public / f"counter_{closed.pid}.db"), "unreadable", "Permission denied"]
    ]


def test_a_directory_that_is_closed_while_it_is_served(public: Path) -> None:
    """A collector whose directory can no longer be listed raises nothing, and recovers."""
    with Worker(public) as worker:
        worker.do("Counter('requests', '').inc()")
    program = """
import logging, os, sys
import mpmetrics
logging.getLogger("mpmetrics").addHandler(logging.NullHandler())
collector = mpmetrics.MultiProcessCollector(None, sys.argv[1])
print(len(collector.collect()))
os.rename(sys.argv[1], sys.argv[1] + ".gone")
print(len(collector.collect()))
os.rename(sys.argv[1] + ".gone", sys.argv[1])
print(len(collector.collect()))
"""
    directory = public / "metrics"
    directory.mkdir()
    for path in public.glob("*.db"):
        path.rename(directory / path.name)
    assert run_python(program, str(directory), env=environment(None)).split() == ["1", "0", "1"]
