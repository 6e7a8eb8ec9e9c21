"""`register()` in every state that a process can be in, each in a process of its own."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.workers import Worker, environment, run_python

if TYPE_CHECKING:
    from pathlib import Path

SHOW = """
import json
def show(registration, registry):
    from prometheus_client import generate_latest
    def lines(text):
        ours = [line for line in text.decode().splitlines() if "python" not in line]
        return sorted(line for line in ours if not line.startswith(("#", "process_", "mpmetrics_")))
    print(json.dumps({
        "mode": registration.mode,
        "reason": registration.reason,
        "isolated": registration.registry is not registry,
        "path": registration.path,
        "served": lines(generate_latest(registration.registry)),
        "given": lines(generate_latest(registry)),
        "page": lines(registration.page().render()),
    }))
"""


class Outcome(NamedTuple):
    """The outcome of a program that registers."""

    mode: str
    reason: str
    isolated: bool
    path: str | None
    served: list[str]
    given: list[str]
    page: list[str]


def run_registration(program: str, directory: Path | str | None, **more: str) -> Outcome:
    """Run *program*, which ends with a call of `show`, and return its outcome."""
    output = run_python(SHOW + program, env={**environment(directory), **more})
    shown: dict[str, Any] = json.loads(output)
    return Outcome(**shown)


PLAIN = """
import mpmetrics
from prometheus_client import REGISTRY, Counter
Counter("own", "").inc()
registration = mpmetrics.register()
show(registration, REGISTRY)
"""

OWN = ["own_created", "own_total 1.0"]
"""What a process has of its own; the time stands behind the first one's name."""


def without_times(lines: list[str]) -> list[str]:
    """Return *lines* without the values of `_created`, which are times."""
    return [line.split()[0] if "_created" in line else line for line in lines]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """Return a directory in which another process counted two."""
    with Worker(tmp_path) as worker:
        worker.do("Counter('own', '').inc(2); Counter('theirs', '').inc(2)")
    return tmp_path


MERGED = ["own_total 2.0", "theirs_total 2.0"]


def test_variable_unset() -> None:
    """Without the variable, `register` reports that only this process's values are served."""
    outcome = run_registration(PLAIN, None)
    assert outcome.reason == (
        "PROMETHEUS_MULTIPROC_DIR is not set; only the values of this process are served"
    )
    assert outcome._replace(reason="", served=[], given=[], page=[]) == Outcome(
        "in_process", "", isolated=False, path=None, served=[], given=[], page=[]
    )
    for lines in (outcome.served, outcome.given, outcome.page):
        assert without_times(lines) == OWN


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("empty", "the path is empty"),
        ("missing", "no such directory"),
        ("file", "not a directory"),
        (
            "dangling",
            "no such directory: it is a symbolic link to nothing, where there is nothing",
        ),
    ],
)
def test_variable_useless(tmp_path: Path, kind: str, why: str) -> None:
    """A variable that names no directory has a reason of its own, not that of an unset one."""
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nothing")
    value = "" if kind == "empty" else str(tmp_path / kind)
    # With such a variable from the start prometheus_client cannot make a metric at all.
    program = """
import os, sys
import mpmetrics
from prometheus_client import REGISTRY, Counter
Counter("own", "").inc()
os.environ["PROMETHEUS_MULTIPROC_DIR"] = os.environ["WRONG"]
show(mpmetrics.register(), REGISTRY)
"""
    outcome = run_registration(program, None, WRONG=value)
    assert (outcome.mode, outcome.isolated, outcome.path) == ("in_process", False, None)
    assert outcome.reason == (
        f"PROMETHEUS_MULTIPROC_DIR is of no use: {value!r}: {why}; "
        "only the values of this process are served"
    )
    assert without_times(outcome.page) == OWN


def test_path_missing(tmp_path: Path) -> None:
    """The reason for a missing *path* does not blame the variable."""
    program = f"""
import mpmetrics
from prometheus_client import REGISTRY
show(mpmetrics.register(path={str(tmp_path / "missing")!r}), REGISTRY)
"""
    outcome = run_registration(program, None)
    assert outcome.mode == "in_process"
    assert outcome.reason.startswith("the directory is of no use: ")
    assert outcome.reason.endswith("no such directory; only the values of this process are served")


def test_a_directory_that_goes_away_meanwhile(tmp_path: Path) -> None:
    """A directory that goes away while it is registered is "in_process", and not an error."""
    directory = tmp_path / "metrics"
    directory.mkdir()
    program = f"""
import shutil
import mpmetrics
from prometheus_client import CollectorRegistry
class Wiping(CollectorRegistry):
    def register(self, collector):
        shutil.rmtree({str(directory)!r}, ignore_errors=True)
        super().register(collector)
registry = Wiping()
show(mpmetrics.register(registry), registry)
"""
    outcome = run_registration(program, directory)
    assert (outcome.mode, outcome.path) == ("in_process", None)
    assert "no such directory; only the values of this process are served" in outcome.reason


def test_empty_directory(tmp_path: Path) -> None:
    """A registry accepts the view of a directory in which no worker has written yet."""
    program = """
import mpmetrics
from prometheus_client import REGISTRY
registration = mpmetrics.register()
first = json.dumps([registration.mode, registration.reason])
# A metric that is made after the registration is in the merged view at once.
from prometheus_client import Counter
Counter("own", "", registry=None).inc()
show(registration, REGISTRY)
"""
    outcome = run_registration(program, tmp_path)
    assert outcome.mode == "shared"
    assert outcome.reason == f"the registry accepted the merged view of {tmp_path}"
    assert outcome.page == outcome.served == ["own_total 1.0"]


def test_accepted(written: Path) -> None:
    """A registry without those timeseries takes the merged view, and serves it."""
    program = """
import mpmetrics
from prometheus_client import CollectorRegistry
registry = CollectorRegistry()
show(mpmetrics.register(registry), registry)
"""
    outcome = run_registration(program, written)
    assert (outcome.mode, outcome.isolated, outcome.path) == ("shared", False, str(written))
    assert outcome.reason == f"the registry accepted the merged view of {written}"
    assert outcome.given == outcome.served == outcome.page == MERGED


def test_accepted_under_the_deprecated_variable(written: Path) -> None:
    """The lower-case variable still names the directory; the warning points to the caller."""
    program = """
import warnings
import mpmetrics
from prometheus_client import CollectorRegistry
registry = CollectorRegistry()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    registration = mpmetrics.register(registry)
assert [(each.category, each.filename) for each in caught] == [(DeprecationWarning, "<string>")]
show(registration, registry)
"""
    outcome = run_registration(program, None, prometheus_multiproc_dir=str(written))
    assert (outcome.mode, outcome.page) == ("shared", MERGED)


def test_duplicate_timeseries(written: Path) -> None:
    """A registry that has the same timeseries stays unchanged; the merged view is isolated."""
    outcome = run_registration(PLAIN, written)
    assert (outcome.mode, outcome.isolated, outcome.path) == ("isolated", True, str(written))
    assert outcome.reason.startswith(
        f"the registry already has timeseries that {written} has, too: "
    )
    assert "own_total" in outcome.reason
    assert without_times(outcome.given) == OWN
    assert outcome.served == ["own_total 3.0", "theirs_total 2.0"]
    assert outcome.page == outcome.served


def test_many_duplicate_timeseries(tmp_path: Path) -> None:
    """However many timeseries are duplicates, the reason is a short line; `details` has all."""
    make = "for each in range(200): Counter(f'a_long_name_of_a_metric_{each:03}', '').inc()\n"
    program = (
        "import mpmetrics\nfrom prometheus_client import REGISTRY, Counter\n"
        f"{make}registration = mpmetrics.register()\n"
        "import json; print(json.dumps([registration.mode, registration.reason, "
        "registration.details]))"
    )
    mode, reason, details = json.loads(run_python(program, env=environment(tmp_path)))
    stem = "a_long_name_of_a_metric_"
    assert (mode, details) == (
        "isolated",
        [f"{stem}{each:03}{end}" for each in range(200) for end in ("", "_created", "_total")],
    )
    assert reason == (
        f"the registry already has timeseries that {tmp_path} has, too: "
        f"{stem}000, {stem}000_created, {stem}000_total and 597 more"
    )


def test_values_in_memory(tmp_path: Path) -> None:
    """An empty directory and values in memory are "in_process": nothing is merged."""
    program = """
import os
import prometheus_client
os.environ["PROMETHEUS_MULTIPROC_DIR"] = os.environ["LATE"]
import mpmetrics
from prometheus_client import REGISTRY, Counter
Counter("own", "").inc()
show(mpmetrics.register(), REGISTRY)
"""
    outcome = run_registration(program, None, LATE=str(tmp_path))
    assert (outcome.mode, outcome.isolated, outcome.path) == ("in_process", False, str(tmp_path))
    assert outcome.reason == (
        "PROMETHEUS_MULTIPROC_DIR was not set when prometheus_client was imported, so this "
        "process keeps its own values in memory, where no other process sees them, and "
        f"{tmp_path} is empty"
    )
    assert without_times(outcome.page) == OWN


def test_values_in_memory_beside_workers(written: Path) -> None:
    """Values of other processes are served; the reason names those that stay in memory."""
    program = f"""
import mpmetrics
from prometheus_client import CollectorRegistry, Counter
registry = CollectorRegistry()
show(mpmetrics.register(registry, {str(written)!r}), registry)
"""
    outcome = run_registration(program, None)
    assert (outcome.mode, outcome.page) == ("shared", MERGED)
    assert outcome.reason == (
        f"the registry accepted the merged view of {written}; but PROMETHEUS_MULTIPROC_DIR was "
        "not set when prometheus_client was imported, so this process keeps its own values in "
        "memory, where no other process sees them"
    )


def test_families_that_are_registered_later(tmp_path: Path) -> None:
    """A page has a family that the registry gets later once, with the merged value."""
    program = """
import mpmetrics
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Summary
registry = CollectorRegistry()
registration = mpmetrics.register(registry)
Counter("own", "", registry=registry).inc()
Gauge("busy", "", registry=registry, multiprocess_mode="livesum").set(1)
Summary("size", "", registry=registry).observe(1)
Histogram("latency", "", registry=registry, buckets=(1, 2)).observe(1)
Info("build", "", registry=registry).info({"version": "1"})
show(registration, registry)
"""
    with Worker(tmp_path) as worker:
        worker.do("Counter('own', '').inc(10)")
        worker.do("Gauge('busy', '', multiprocess_mode='livesum').set(10)")
        worker.do("Summary('size', '').observe(10)")
        worker.do("Histogram('latency', '', buckets=(1, 2)).observe(10)")
    outcome = run_registration(program, tmp_path)
    assert outcome.mode == "shared"
    page = [
        'build_info{version="1"} 1.0',
        "busy 11.0",
        'latency_bucket{le="+Inf"} 2.0',
        'latency_bucket{le="1.0"} 1.0',
        'latency_bucket{le="2.0"} 1.0',
        "latency_count 2.0",
        "latency_sum 11.0",
        "own_total 11.0",
        "size_count 2.0",
        "size_sum 11.0",
    ]
    assert outcome.page == page
    assert {"own_total 1.0", "own_total 11.0", "busy 1.0", "busy 11.0"} < set(outcome.given)


def test_registering_twice(written: Path) -> None:
    """A second `register` changes nothing: registry and page have every family once."""
    program = """
import mpmetrics
from prometheus_client import CollectorRegistry
registry = CollectorRegistry()
mpmetrics.register(registry)
show(mpmetrics.register(registry), registry)
"""
    outcome = run_registration(program, written)
    assert outcome.mode == "shared"
    assert outcome.reason.startswith(f"the registry has the merged view of {written} already")
    assert (outcome.page, outcome.given) == (MERGED, MERGED)


def test_page_takes_filters_and_labels(written: Path) -> None:
    """`Registration.page` passes filters and labels to `Page`."""
    program = """
import mpmetrics
from prometheus_client import CollectorRegistry
page = mpmetrics.register(CollectorRegistry()).page("own", ["theirs"], {"host": "a"})
print(page.render().decode().splitlines()[-1])
"""
    assert run_python(program, env=environment(written)) == 'own_total{host="a"} 2.0\n'


def test_page_takes_a_timeout(written: Path) -> None:
    """A page of a registration with a timeout reports the age of each source's answer."""
    program = """
import mpmetrics
from prometheus_client import CollectorRegistry
registration = mpmetrics.register(CollectorRegistry())
for timeout in (None, 40.0):
    page = registration.page("mpmetrics_source_age", timeout=timeout)
    print([sorted(sample.labels.values()) for each in page.families() for sample in each.samples])
"""
    names = sorted([[str(written)], ["registry"]])
    assert run_python(program, env=environment(written)).splitlines() == ["[]", str(names)]


def test_page_takes_all_that_a_page_takes() -> None:
    """`Registration.page` has every parameter of `Page` but the sources."""
    import mpmetrics

    of_page = inspect.signature(mpmetrics.Page).parameters
    of_method = inspect.signature(mpmetrics.Registration.page).parameters
    assert list(of_page.items())[1:] == list(of_method.items())[1:]
