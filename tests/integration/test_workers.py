"""Real workers: forked and spawned, killed, growing their files, losing them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

import mpmetrics
from mpmetrics.directory.files import list_directory
from mpmetrics.scrape.scraper import Scraper
from tests.workers import Worker, environment, run_python

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import Metric

INITIAL_FILE_SIZE = 1 << 16
"""What prometheus_client preallocates."""


def values(families: Iterable[Metric]) -> dict[str, float]:
    """Return the value of each sample by its name and, if it has any, its label values."""
    samples = [sample for family in families for sample in family.samples]
    return {" ".join([sample.name, *sample.labels.values()]): sample.value for sample in samples}


def page(path: Path) -> dict[str, float]:
    """Return the values of a page of the directory *path*, which must have no problem."""
    collection = mpmetrics.collect(path)
    assert collection.problems == []
    return values(text_string_to_metric_families(collection.render().decode()))


MULTIPROCESSING = """
import multiprocessing
import sys

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter("requests", "")
BUSY = Gauge("busy", "", multiprocess_mode="livesum")
LATENCY = Histogram("latency", "", buckets=(1, 2))


def work(number):
    REQUESTS.inc(number)
    BUSY.set(number)
    LATENCY.observe(number)


if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    work(100)
    children = [context.Process(target=work, args=(number,)) for number in (1, 2, 3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    work(1000)
    sys.exit(any(child.exitcode for child in children))
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_are_counted_with_their_parent(method: str, tmp_path: Path) -> None:
    """Counters and histograms of all processes add up, whichever way children are made."""
    program = tmp_path / "program.py"
    program.write_text(MULTIPROCESSING)
    directory = tmp_path / "metrics"
    directory.mkdir()
    run_python(program, method, env=environment(directory))
    assert page(directory) == {
        "requests_total": 1106,
        "busy": 1006,
        "latency_sum": 1106,
        "latency_count": 5,
        "latency_bucket 1.0": 1,
        "latency_bucket 2.0": 2,
        "latency_bucket +Inf": 5,
    }


def test_a_killed_worker_stays_in_the_counts(tmp_path: Path) -> None:
    """SIGKILL loses no count; `mark_process_dead` removes the live gauges, and only those."""
    with Worker(tmp_path) as killed, Worker(tmp_path) as survivor:
        for worker, amount in ((killed, 5), (survivor, 2)):
            worker.do("requests = Counter('requests', '')")
            worker.do("busy = Gauge('busy', '', multiprocess_mode='livesum')")
            worker.do(f"requests.inc({amount}); busy.set({amount})")
        assert page(tmp_path) == {"requests_total": 7, "busy": 7}
        killed.kill()
        assert page(tmp_path) == {"requests_total": 7, "busy": 7}
        survivor.do("requests.inc(1)")
        mpmetrics.mark_process_dead(killed.pid, tmp_path)
        assert page(tmp_path) == {"requests_total": 8, "busy": 2}


def test_a_worker_killed_in_the_middle_of_its_work_leaves_a_page(tmp_path: Path) -> None:
    """The file of a worker can be read, at whatever moment SIGKILL stopped the writing."""
    endless = """
def work():
    for number in itertools.count():
        counter.labels(str(number)).inc()
"""
    with Worker(tmp_path) as worker:
        worker.do("import itertools; counter = Counter('requests', '', ['number'])" + endless)
        worker.begin("work()")
        collector = mpmetrics.MultiProcessCollector(None, tmp_path)
        while len(values(collector.collect())) < 10:
            pass
        worker.kill()
    counted = page(tmp_path)
    assert len(counted) >= 10
    # The last child may have been made, but not yet incremented.
    assert sorted(counted.values())[1:] == [1.0] * (len(counted) - 1)


def test_a_growing_file_is_read_while_it_is_written(tmp_path: Path) -> None:
    """While a worker makes its file larger, every page parses and no counter falls."""
    rounds, new_each_round = 15, 70
    with Worker(tmp_path) as worker:
        worker.do("steps = Counter('steps', ''); items = Counter('items', '', ['name'])")
        worker.do("latency = Histogram('latency', '', ['name'])")
        worker.do(
            "def grow(round, count):\n"
            "    for number in range(count):\n"
            "        steps.inc()\n"
            "        items.labels(f'{round}-{number}-' + 'x' * 4000).inc()\n"
            "    latency.labels(str(round)).observe(0.1)\n"
        )
        view = mpmetrics.MultiProcessCollector(None, tmp_path)._view
        before: dict[str, float] = {}
        for number in range(rounds):
            worker.begin(f"grow({number}, {new_each_round})")
            for _ in range(2):
                collection = view.collect()
                assert collection.problems == []
                text = collection.render().decode()
                now = values(text_string_to_metric_families(text))
                fallen = {name for name in before if not now.get(name, -1) >= before[name]}
                assert not fallen
                before = now
            worker.finish()
        file = tmp_path / f"counter_{worker.pid}.db"
        assert file.stat().st_size >= 64 * INITIAL_FILE_SIZE
        expected = page(tmp_path)
        assert values(view.collect().families) == expected
        assert expected["steps_total"] == rounds * new_each_round
        assert sum(name.startswith("items_total") for name in expected) == rounds * new_each_round
        assert sum(name.startswith("latency_count") for name in expected) == rounds


def test_a_file_that_vanishes_costs_itself_only(tmp_path: Path) -> None:
    """A file that goes between listing and reading is reported; all others are merged."""
    with Worker(tmp_path) as leaving, Worker(tmp_path) as staying:
        for worker in (leaving, staying):
            worker.do("Counter('requests', '').inc()")
            worker.do("Gauge('busy', '', multiprocess_mode='livesum').inc()")
        listing = list_directory(str(tmp_path))
        for path in tmp_path.glob(f"*_{leaving.pid}.db"):
            path.unlink()
        scrape = Scraper().scrape(listing)
        assert values(scrape.families) == {"requests_total": 1, "busy": 1}
        # A live gauge's file may go at any time: that is what `mark_process_dead` is for.
        assert [(Path(problem.path).name, problem.reason) for problem in scrape.problems] == [
            (f"counter_{leaving.pid}.db", "vanished")
        ]


def test_a_file_that_vanished_comes_back(tmp_path: Path) -> None:
    """A collector counts a file again when a new process has taken its name."""
    collector = mpmetrics.MultiProcessCollector(None, tmp_path)
    with Worker(tmp_path) as worker:
        worker.do("Counter('first', '').inc(1); Counter('second', '').inc(2)")
        written = tmp_path / f"counter_{worker.pid}.db"
        assert values(collector.collect()) == {"first_total": 1, "second_total": 2}
        content = written.read_bytes()
        written.unlink()
        assert values(collector.collect()) == {}
    with Worker(tmp_path) as other:
        # Keys of the same length at the same places, which mean something else.
        other.do("Counter('three', '').inc(3); Counter('fourth', '').inc(4)")
        (tmp_path / f"counter_{other.pid}.db").rename(written)
        assert values(collector.collect()) == {"three_total": 3, "fourth_total": 4}
    written.write_bytes(content)
    assert values(collector.collect()) == {"first_total": 1, "second_total": 2}


def test_a_file_that_is_truncated_under_a_reader_is_left_out(tmp_path: Path) -> None:
    """A file that is cut short is damaged, not a SIGBUS; it counts when it is whole again."""
    collector = mpmetrics.MultiProcessCollector(None, tmp_path)
    with Worker(tmp_path) as worker, Worker(tmp_path) as other:
        for each in (worker, other):
            each.do("Counter('requests', '').inc()")
        assert values(collector.collect()) == {"requests_total": 2}
        written = tmp_path / f"counter_{worker.pid}.db"
        content = written.read_bytes()
        os.truncate(written, 20)
        collection = collector._view.collect()
        assert values(collection.families) == {"requests_total": 1}
        assert [problem.reason for problem in collection.problems] == ["damaged"]
        written.write_bytes(content)
        assert values(collector.collect()) == {"requests_total": 2}


def test_what_prometheus_client_does_not_write_to_files(tmp_path: Path) -> None:
    """A gauge with a function is a false 0, and the rest is missing, as the guide to `run` says."""
    with Worker(tmp_path) as worker:
        worker.do("Gauge('queue', '', multiprocess_mode='livesum').set_function(lambda: 42)")
        worker.do("Gauge('each', '', ['a']).labels('b').set_function(lambda: 42)")
        worker.do("Info('build', '').info({'version': '1'})")
        worker.do("Enum('state', '', states=['up', 'down']).state('up')")
        worker.do("Counter('jobs', '').inc(1, {'trace': '1'})")
        worker.do(
            "from prometheus_client import metrics_core\n"
            "class Own:\n"
            "    def collect(self):\n"
            "        return [metrics_core.GaugeMetricFamily('own', '', 7)]\n"
            "REGISTRY.register(Own())"
        )
        pid = worker.pid
        assert page(tmp_path) == {"queue": 0.0, f"each b {pid}": 0.0, "jobs_total": 1.0}
        text = mpmetrics.collect(tmp_path).render(openmetrics=True).decode()
    assert "_created" not in text
    assert "trace" not in text
