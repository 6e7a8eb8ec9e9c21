"""`install`: prometheus_client's collector is replaced for all who use it, and taken back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.directories import fill
from tests.database import Entry, counter, gauge
from tests.workers import environment, run_python

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory with a counter, ids with an underscore, and a damaged file."""
    path = tmp_path / "metrics"
    path.mkdir()
    files: dict[str, Entry | bytes] = {
        "counter_7.db": counter("jobs", 3),
        "gauge_liveall_worker_1.db": gauge("busy", 1),
        "gauge_liveall_1.db": gauge("busy", 5),
        "counter_8.db": b"\1",
    }
    return fill(path, files)


BEGIN = """
import json
import logging
import sys

import mpmetrics

# A damaged file is reported there.
logging.getLogger("mpmetrics").addHandler(logging.NullHandler())
logging.getLogger("mpmetrics").propagate = False

directory = sys.argv[1]


def values(collector):
    return {
        ",".join([sample.name, *sample.labels.values()]): sample.value
        for family in collector.collect()
        for sample in family.samples
    }


def is_installed():
    from prometheus_client import multiprocess
    try:
        values(multiprocess.MultiProcessCollector(None, directory))
    except Exception:  # of a damaged file
        return False
    return True


def show(*given):
    print(json.dumps(given))

"""

MERGED = {"jobs_total": 3.0, "busy,worker_1": 1.0, "busy,1": 5.0}


def run(program: str, directory: Path, **variables: str) -> Any:
    """Run a *program* with the functions above; return what it shows."""
    env = {**environment(directory), **variables}
    return json.loads(run_python(BEGIN + program, str(directory), env=env).splitlines()[-1])


def test_installed_early(directory: Path) -> None:
    """Before its import, prometheus_client is not imported, and is changed when it is."""
    program = """
mpmetrics.install()
imported = "prometheus_client" in sys.modules
from prometheus_client.multiprocess import MultiProcessCollector
show(imported, values(MultiProcessCollector(None, directory)))
"""
    assert run(program, directory) == [False, MERGED]


def test_installed_early_the_variable_may_still_be_set(directory: Path) -> None:
    """`install` does not decide between memory and files."""
    program = """
import os
del os.environ["PROMETHEUS_MULTIPROC_DIR"]
mpmetrics.install()
os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
from prometheus_client import values as decided
show(decided.ValueClass._multiprocess)
"""
    assert run(program, directory) == [True]


def test_installed_late(directory: Path) -> None:
    """Names that were imported before, and collectors that were made, follow."""
    program = """
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
registry = CollectorRegistry()
old = MultiProcessCollector(registry, directory)
mpmetrics.install()
merged = {family.name for family in MultiProcessCollector.merge([directory + "/counter_7.db"])}
page = b"jobs_total 3.0" in generate_latest(registry)
before = values(old)
mark_process_dead(1)
show(before, values(MultiProcessCollector(None)), sorted(merged), page)
"""
    after = {name: value for name, value in MERGED.items() if name != "busy,1"}
    assert run(program, directory) == [MERGED, after, ["jobs"], True]


def test_taken_back(directory: Path) -> None:
    """After `uninstall` everything is prometheus_client's again, the same functions."""
    program = """
from prometheus_client import multiprocess
def parts():
    owner = multiprocess.MultiProcessCollector
    return [owner.__dict__["collect"], owner.__dict__["merge"], owner.__dict__["__init__"],
            multiprocess.mark_process_dead, multiprocess.mark_process_dead.__code__]
before, finders = parts(), list(sys.meta_path)
installation = mpmetrics.install()
during = is_installed()
installation.uninstall()
installation.uninstall()
same = all(a is b for a, b in zip(before, parts())) and finders == sys.meta_path
with mpmetrics.install() as installation:
    within = is_installed()
show(during, same, within, is_installed(), finders == sys.meta_path)
"""
    assert run(program, directory) == [True, True, True, False, True]


def test_taken_back_before_the_import(directory: Path) -> None:
    """An installation that ends before prometheus_client is imported leaves nothing."""
    program = """
finders = list(sys.meta_path)
mpmetrics.install().uninstall()
show(finders == sys.meta_path, is_installed())
"""
    assert run(program, directory) == [True, False]


@pytest.mark.parametrize("is_late", [True, False])
def test_installed_twice(directory: Path, *, is_late: bool) -> None:
    """Each installation is ended by itself; the last one takes everything back."""
    program = f"""
if {is_late}:
    import prometheus_client.multiprocess
first, second = mpmetrics.install(), mpmetrics.install()
both = is_installed()
first.uninstall()
first.uninstall()
one = is_installed()
second.uninstall()
show(both, one, is_installed())
"""
    assert run(program, directory) == [True, True, False]


def test_a_collector_made_at_every_scrape_reports_a_problem_once(directory: Path) -> None:
    """What is remembered of a directory outlives the collector of a single scrape."""
    program = """
seen = []
class Seeing(logging.Handler):
    def emit(self, record):
        seen.append(record.getMessage())
logging.getLogger("mpmetrics").addHandler(Seeing())
mpmetrics.install()
from prometheus_client.multiprocess import MultiProcessCollector
for _ in range(5):
    values(MultiProcessCollector(None, directory))
show(len(seen))
"""
    assert run(program, directory) == [1]


def test_a_directory_that_goes_away_costs_no_exception(directory: Path) -> None:
    """A collector whose directory has gone gives nothing, as prometheus_client's does."""
    program = """
import shutil
from prometheus_client.multiprocess import MultiProcessCollector
mpmetrics.install()
collector = MultiProcessCollector(None, directory)
shutil.rmtree(directory)
show(values(collector))
"""
    assert run(program, directory) == [{}]


def test_a_subclass_with_rules_of_its_own_keeps_them(directory: Path) -> None:
    """A subclass that merges in its own way is left alone; another one is not."""
    program = """
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.core import GaugeMetricFamily
class Own(MultiProcessCollector):
    def merge(self, files, accumulate=True):
        return [GaugeMetricFamily("files", "", len(list(files)))]
class Other(MultiProcessCollector):
    def collect(self):
        return list(super().collect())[:1]
mpmetrics.install()
show(values(Own(None, directory)), sorted(values(Other(None, directory)).values()))
"""
    assert run(program, directory) == [{"files": 4.0}, [1.0, 5.0]]


def test_what_another_library_has_put_on_top_stays(directory: Path) -> None:
    """`uninstall` leaves what is another's; what that wraps does as it did before."""
    program = """
from prometheus_client.multiprocess import MultiProcessCollector
installation = mpmetrics.install()
ours = MultiProcessCollector.collect
theirs = lambda self: list(ours(self))
MultiProcessCollector.collect = theirs
installation.uninstall()
show(MultiProcessCollector.collect is theirs, is_installed())
"""
    assert run(program, directory) == [True, False]


def test_threads_may_install_while_others_import(directory: Path) -> None:
    """Whatever thread imports and whatever thread installs, all end, and it is installed."""
    program = """
import threading
start = threading.Barrier(8)
def importing():
    start.wait()
    import prometheus_client.multiprocess
def installing():
    start.wait()
    for _ in range(50):
        with mpmetrics.install():
            pass
    mpmetrics.install()
threads = [threading.Thread(target=each) for each in (importing, installing) * 4]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
show(is_installed())
"""
    assert run(program, directory) == [True]


def test_a_reload_is_followed(directory: Path) -> None:
    """A class that a reload makes again gets the methods, too."""
    program = """
import importlib
from prometheus_client import multiprocess
mpmetrics.install()
importlib.reload(multiprocess)
show(is_installed())
"""
    assert run(program, directory) == [True]


def test_the_former_class_of_a_reload_is_taken_back(directory: Path) -> None:
    """What was imported before a reload is prometheus_client's again, too."""
    program = """
import importlib
from prometheus_client import multiprocess
former = multiprocess.MultiProcessCollector
collect = former.collect
with mpmetrics.install():
    importlib.reload(multiprocess)
    during = former.collect is collect
show(during, former.collect is collect, is_installed())
"""
    assert run(program, directory) == [False, True, False]


def test_a_hook_of_another_library_that_asks_the_finders(directory: Path) -> None:
    """A finder that asks all others, as those of tracing libraries do, is no obstacle."""
    program = """
from importlib.util import find_spec
class Asking:
    asks = False
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if cls.asks or not name.startswith("prometheus_client"):
            return None
        cls.asks = True
        spec = find_spec(name)
        cls.asks = False
        return spec
installation = mpmetrics.install()
sys.meta_path.append(Asking)
sys.meta_path.insert(0, sys.meta_path.pop())
mpmetrics.install().uninstall()
with mpmetrics.install():
    sys.meta_path.insert(0, sys.meta_path.pop(1))  # before the other
    during = is_installed()
installation.uninstall()
show(during, is_installed())
"""
    assert run(program, directory) == [True, False]


def test_a_spec_has_what_its_own_loader_has(directory: Path) -> None:
    """Who asks for the source before the import gets it."""
    program = """
import pkgutil
import runpy
mpmetrics.install()
name = "prometheus_client.multiprocess"
source = pkgutil.get_loader(name).get_source(name)
runpy.run_module(name)
show("MultiProcessCollector" in source, is_installed())
"""
    assert run(program, directory) == [True, True]


def test_an_import_that_is_under_way_misses_no_finder(directory: Path) -> None:
    """An installation that ends while a thread imports does not hide the finders behind it."""
    program = """
import importlib
class Ending:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "colorsys":
            installation.uninstall()
        return None
sys.meta_path.insert(len(sys.meta_path) - 1, Ending)
installation = mpmetrics.install()
show(importlib.import_module("colorsys").__name__)
"""
    assert run(program, directory) == ["colorsys"]


def test_a_path_object_is_remembered(directory: Path) -> None:
    """A collector that was given a `Path` is one with that of the same text."""
    program = """
import pathlib
from prometheus_client.multiprocess import MultiProcessCollector
seen = []
class Seeing(logging.Handler):
    def emit(self, record):
        seen.append(record.getMessage())
logging.getLogger("mpmetrics").addHandler(Seeing())
mpmetrics.install()
for path in directory, pathlib.Path(directory), pathlib.Path(directory):
    shown = values(MultiProcessCollector(None, path))
show(shown, len(seen))
"""
    assert run(program, directory) == [MERGED, 1]


def test_a_scrape_imports_nothing(directory: Path) -> None:
    """Whatever a scrape needs was imported before, so that a fork beside it cannot block it."""
    program = """
mpmetrics.install()
from prometheus_client.multiprocess import MultiProcessCollector
before = set(sys.modules)
values(MultiProcessCollector(None, directory))
show(sorted(name for name in set(sys.modules) - before if name.startswith("mpmetrics")))
"""
    assert run(program, directory) == [[]]


@pytest.mark.parametrize("is_late", [True, False])
def test_a_release_that_lacks_a_part(directory: Path, tmp_path: Path, *, is_late: bool) -> None:
    """A release without the class is an error, or if it is imported later a line in the log."""
    package = tmp_path / "packages" / "prometheus_client"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "multiprocess.py").write_text("def mark_process_dead(pid, path=None): ...\n")
    program = f"""
seen = []
class Seeing(logging.Handler):
    def emit(self, record):
        seen.append(record.getMessage())
logging.getLogger("mpmetrics").addHandler(Seeing())
finders = list(sys.meta_path)
if {is_late}:
    import prometheus_client.multiprocess
error = ""
try:
    mpmetrics.install()
except mpmetrics.MpmetricsError as caught:
    error = str(caught)
    assert isinstance(caught, ImportError)
import prometheus_client.multiprocess
show(error, seen, finders == sys.meta_path)
"""
    error, seen, is_clean = run(program, directory, PYTHONPATH=str(package.parent))
    assert is_clean == is_late
    [line] = [error] if is_late else seen
    assert "prometheus_client cannot be used: prometheus_client.multiprocess: " in line
    assert "MultiProcessCollector" in line


def test_nothing_is_replaced_that_was_not_asked_for(directory: Path) -> None:
    """Without `collector`, an installation leaves the collector alone."""
    program = """
with mpmetrics.install(collector=False):
    show(is_installed())
"""
    assert run(program, directory) == [False]
