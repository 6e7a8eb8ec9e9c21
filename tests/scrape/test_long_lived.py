"""Collectors that live long: threads, forks, descriptors, memory."""

from __future__ import annotations

import gc
import os
import shutil
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import mpmetrics
from mpmetrics.directory.files import FileName, Listing, WorkerFile, list_directory
from mpmetrics.scrape.scraper import Scraper
from tests.workers import Worker, environment, run_python

if TYPE_CHECKING:
    from collections.abc import Callable

WRITE = """
requests = Counter("requests", "", ["path"])
latency = Histogram("latency", "", ["path"])
busy = Gauge("busy", "", ["path"])
for number in range({series}):
    requests.labels(str(number)).inc(number)
    latency.labels(str(number)).observe(number)
    busy.labels(str(number)).set(number)
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory that three workers wrote; tests only read it."""
    path = tmp_path_factory.mktemp("written")
    for _ in range(3):
        run_python(
            f"from prometheus_client import *\n{WRITE.format(series=30)}", env=environment(path)
        )
    return path


def at_once(count: int, work: Callable[[], Any]) -> list[Any]:
    """Return what *work* gives in each of *count* threads that begin together."""
    barrier = threading.Barrier(count)

    def wait_and_work() -> Any:
        barrier.wait()
        return work()

    with ThreadPoolExecutor(count) as threads:
        futures = [threads.submit(wait_and_work) for _ in range(count)]
        return [future.result() for future in futures]


def test_threads_that_scrape_one_collector_get_the_same_page(directory: Path) -> None:
    """Threads that scrape a collector at once, even for the first time, get the same page."""
    expected = mpmetrics.collect(directory).render()
    for _ in range(20):
        view = mpmetrics.MultiProcessCollector(None, directory)._view
        pages = at_once(4, lambda view=view: [view.collect().render() for _ in range(3)])  # type: ignore[misc]
        assert {page for each in pages for page in each} == {expected}


def test_threads_that_scrape_one_page_get_the_same_page(directory: Path) -> None:
    """Threads that render a `Page` at once, in both formats, do not disturb each other."""
    page = mpmetrics.Page(directory, exclude="mpmetrics_", labels={"host": "a"})
    expected = (page.render(), page.render(openmetrics=True))

    def render_both() -> tuple[bytes, bytes]:
        return page.render(), page.render(openmetrics=True)

    for _ in range(10):
        assert set(at_once(4, render_both)) == {expected}


def test_collections_do_not_change_afterwards(tmp_path: Path) -> None:
    """A collection keeps its families and values when the next one is made."""
    view = mpmetrics.MultiProcessCollector(None, tmp_path)._view
    with Worker(tmp_path) as worker:
        worker.do("requests = Counter('requests', ''); requests.inc()")
        before = view.collect()
        worker.do("requests.inc(); Counter('others', '')")
        after = view.collect()
    assert before.render().split()[-2:] == [b"requests_total", b"1.0"]
    assert after.render().split()[-2:] == [b"requests_total", b"2.0"]
    assert [family.name for family in before.families] == ["requests"]


FORK = """
import gc
import os
import sys
import threading
import warnings

import mpmetrics
from mpmetrics.exposition import Format, render_families
from mpmetrics.directory.files import list_directory

# New versions of Python warn of what this is about.
warnings.simplefilter("ignore", DeprecationWarning)

directory, held = sys.argv[1:]
page = mpmetrics.Page(directory, exclude="mpmetrics_")
expected = page.render()
collector = mpmetrics.MultiProcessCollector(None, directory)
scraper = collector._view._scraper
holding, go_on = threading.Event(), threading.Event()


class Files(list):
    "Files whose reading stops as soon as the scraper holds its lock."

    def __iter__(self):
        if scraper._lock.locked() and threading.current_thread() is thread:
            stop()
        return super().__iter__()


def stop():
    holding.set()
    go_on.wait()


def scrape():
    listing = list_directory(directory)
    scraper.scrape(listing._replace(files=Files(listing.files)))


def count_problems():
    with page._problem_log._lock:
        stop()


thread = threading.Thread(target={"scraper": scrape, "page": count_problems}[held])
thread.start()
holding.wait()
child = os.fork()
if child == 0:
    ours = render_families(collector.collect(), Format())
    os._exit(not (gc.isenabled() and ours == expected == page.render()))
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
go_on.set()
thread.join()
sys.exit(status or not gc.isenabled() or page.render() != expected)
"""


@pytest.mark.parametrize("held", ["scraper", "page"])
def test_a_child_forked_in_the_middle_of_a_scrape_can_scrape(directory: Path, held: str) -> None:
    """A forked child can scrape although a thread of its parent was in the middle of a scrape.

    Neither a lock that the thread held nor what it had changed by half stops the child.
    """
    run_python(FORK, str(directory), held, env=environment(None))


def test_parent_and_child_both_go_on_counting(tmp_path: Path) -> None:
    """After a fork, parent and child both see the values that are written later."""
    program = """
import os, sys
import mpmetrics
collector = mpmetrics.MultiProcessCollector(None, sys.argv[1])
def total():
    return sum(sample.value for family in collector.collect() for sample in family.samples)
from prometheus_client import Counter
counter = Counter("requests", "")
counter.inc()
assert total() == 1
child = os.fork()
if child == 0:
    counter.inc(10)
    os._exit(total() != 11)
assert os.waitpid(child, 0)[1] == 0
counter.inc(100)
assert total() == 111, total()
"""
    run_python(program, str(tmp_path), env=environment(tmp_path))


def descriptors() -> set[str]:
    """Return a line for each open descriptor of this process."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.add(f"{entry.name} {entry.readlink()}")
        except FileNotFoundError:  # the one by which the directory was listed
            continue
    return found


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
def test_no_descriptor_stays_open(directory: Path, tmp_path: Path) -> None:
    """No descriptor is open between scrapes, whatever was wrong with a file."""
    shutil.copytree(directory, tmp_path, dirs_exist_ok=True)
    (tmp_path / "counter_damaged.db").write_bytes(b"\1\2\3")
    (tmp_path / "counter_cut.db").write_bytes(b"\xff\xff\0\0")
    (tmp_path / "backup.db").touch()
    (tmp_path / "counter_directory.db").mkdir()
    os.mkfifo(tmp_path / "counter_fifo.db")
    before = descriptors()
    collector = mpmetrics.MultiProcessCollector(None, tmp_path)
    page = mpmetrics.Page(tmp_path)
    named = [*tmp_path.iterdir(), tmp_path / "counter_missing.db"]
    for _ in range(3):
        assert collector.collect()
        assert page.render()
        assert collector.merge(named)
    assert descriptors() == before


def test_memory_does_not_grow_while_values_change(tmp_path: Path) -> None:
    """Hundreds of scrapes of the same series need no more memory than a few."""
    page = mpmetrics.Page(tmp_path)
    with Worker(tmp_path) as worker:
        worker.do(WRITE.format(series=20))

        def scrape(times: int) -> int:
            for number in range(times):
                worker.do(f"requests.labels('{number % 20}').inc()")
                page.render()
                page.render(openmetrics=True)
            return traced()

        with tracing():
            first = scrape(20)
            assert scrape(200) - first < 20_000


def test_memory_does_not_grow_while_workers_come_and_go(directory: Path, tmp_path: Path) -> None:
    """A scraper forgets the layouts and keys of files that are gone."""
    templates = list_directory(str(directory)).files[:3]
    scraper = Scraper()

    def scrape(start: int, times: int) -> int:
        for number in range(start, start + times):
            # Every worker has an id of its own, and keys that no other has.
            for _, name, *_ in templates:
                path = tmp_path / FileName(name.type, name.mode, str(number)).format()
                path.write_bytes(content[name].replace(b"requests", b"req%05d" % number))
            assert scraper.scrape(list_directory(str(tmp_path))).families
            for path in tmp_path.iterdir():
                path.unlink()
        scraper.scrape(Listing([], []))
        return traced()

    content = {file.name: used_bytes(file) for file in templates}
    with tracing():
        first = scrape(0, 10)
        assert scrape(10, 60) - first < 100_000


def used_bytes(file: WorkerFile) -> bytes:
    """Return the content of a worker's file without what is preallocated."""
    data = Path(file.path).read_bytes()
    return data[: int.from_bytes(data[:4], "little")]


class tracing:  # noqa: N801 - used like a function
    """Trace memory within the block."""

    def __enter__(self) -> None:
        """Begin."""
        tracemalloc.start()

    def __exit__(self, *exception: object) -> None:
        """End."""
        tracemalloc.stop()


def traced() -> int:
    """Return how many bytes are in use that were allocated since the tracing began."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
