"""The behaviour that users of prometheus_client's collector rely on, of theirs and of ours.

Several "processes" are simulated in this one: prometheus_client takes any function as the identity
of a process. Real processes are in `test_directories` and in the integration tests.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlencode

import pytest
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Summary,
    generate_latest,
    make_wsgi_app,
    multiprocess,
    values,
)

import mpmetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from prometheus_client import Metric

    from tests.conformance.program import Mode as ModeName

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
OLD_VARIABLE: Final = "prometheus_multiproc_dir"


class Implementation(NamedTuple):
    """One implementation of the multiprocess module."""

    collector: type[Any]
    mark_process_dead: Callable[..., None]


IMPLEMENTATIONS: Final = {
    "theirs": Implementation(multiprocess.MultiProcessCollector, multiprocess.mark_process_dead),
    "ours": Implementation(mpmetrics.MultiProcessCollector, mpmetrics.mark_process_dead),
}


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request: pytest.FixtureRequest) -> Implementation:
    """Return the implementation under test."""
    return IMPLEMENTATIONS[request.param]


class Identity:
    """A fake of `os.getpid`."""

    def __init__(self, pid: int) -> None:
        """Start as the process *pid*."""
        self.pid = pid

    def __call__(self) -> int:
        """Return the pid."""
        return self.pid


class Processes:
    """Several processes, one after the other, simulated in this one."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Start as the process 123; all of them write to *directory*."""
        self.directory = directory
        self._monkeypatch = monkeypatch
        self.start(123)

    def start(self, pid: int) -> None:
        """Become a new process *pid*, which has just imported prometheus_client."""
        self._identity = Identity(pid)
        value_class = values.MultiProcessValue(self._identity)
        # Metrics look their class up in this module, and nowhere else.
        self._monkeypatch.setattr(values, "ValueClass", value_class)

    def fork(self, pid: int) -> None:
        """Become a child *pid*, which has inherited the metrics."""
        self._identity.pid = pid


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory that is named by the environment."""
    monkeypatch.delenv(OLD_VARIABLE, raising=False)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return tmp_path


@pytest.fixture
def processes(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Processes]:
    """Return the simulated processes."""
    yield Processes(directory, monkeypatch)
    values.close_all_multiprocess_files()


class Served(CollectorRegistry):
    """A registry with the collector in it, and methods that return values."""

    def __init__(self, implementation: Implementation, directory: Path) -> None:
        """Register the implementation's collector of *directory*."""
        super().__init__(support_collectors_without_names=True)
        self.collector = implementation.collector(self, str(directory))

    def samples(self, name: str) -> dict[str, float]:
        """Return the values of all samples *name* by their labels, written `a=1 b=2`."""
        return {
            " ".join(f"{key}={value}" for key, value in sorted(sample.labels.items())): sample.value
            for family in self.collect()
            for sample in family.samples
            if sample.name == name
        }

    def value(self, name: str) -> float:
        """Return the value of the only sample *name*."""
        ((labels, value),) = self.samples(name).items()
        assert labels == ""
        return value


@pytest.fixture
def served(implementation: Implementation, processes: Processes) -> Served:
    """Return a registry that serves what the processes write."""
    return Served(implementation, processes.directory)


def family_named(name: str, families: Iterable[Metric]) -> Metric:
    """Return the one family of that name."""
    (found,) = [family for family in families if family.name == name]
    return found


# -- types ---------------------------------------------------------------------------------------


def test_counters_add_up(served: Served, processes: Processes) -> None:
    """A counter is 0 as soon as it is made, and later the sum over all processes."""
    first = Counter("c", "help", registry=None)
    processes.start(456)
    second = Counter("c", "help", registry=None)
    assert served.value("c_total") == 0
    first.inc()
    second.inc(2.5)
    assert served.value("c_total") == 3.5


def test_summaries_add_up(served: Served, processes: Processes) -> None:
    """Count and sum of a summary are added up over all processes."""
    first = Summary("s", "help", registry=None)
    processes.start(456)
    second = Summary("s", "help", registry=None)
    assert (served.value("s_count"), served.value("s_sum")) == (0, 0)
    first.observe(1)
    second.observe(2)
    assert (served.value("s_count"), served.value("s_sum")) == (2, 3)


def test_histograms_add_up(served: Served, processes: Processes) -> None:
    """Buckets of a histogram are added up and cumulative; `_count` is the last of them."""
    first = Histogram("h", "help", registry=None, buckets=(1, 2.5, 5))
    processes.start(456)
    second = Histogram("h", "help", registry=None, buckets=(1, 2.5, 5))
    assert served.samples("h_bucket") == {"le=1.0": 0, "le=2.5": 0, "le=5.0": 0, "le=+Inf": 0}
    for histogram, value in ((first, 1), (first, 2), (second, 2), (second, 99)):
        histogram.observe(value)
    assert served.samples("h_bucket") == {"le=1.0": 1, "le=2.5": 3, "le=5.0": 3, "le=+Inf": 4}
    assert (served.value("h_count"), served.value("h_sum")) == (4, 104)


class Mode(NamedTuple):
    """A gauge mode: the *values* that two processes set, and the samples that follow.

    *fresh* are the samples before any process has set the gauge, *both* those after both have,
    the first one last, and *left* those after the first is marked dead.
    """

    name: ModeName
    values: tuple[float, float]
    fresh: dict[str, float]
    both: dict[str, float]
    left: dict[str, float]


ZERO: Final = {"": 0.0}
EACH_ZERO: Final = {"pid=123": 0.0, "pid=456": 0.0}

MODES: Final = (
    Mode("all", (7, 2), EACH_ZERO, {"pid=123": 7, "pid=456": 2}, {"pid=123": 7, "pid=456": 2}),
    Mode("liveall", (7, 2), EACH_ZERO, {"pid=123": 7, "pid=456": 2}, {"pid=456": 2}),
    Mode("min", (-7, 2), ZERO, {"": -7}, {"": -7}),
    Mode("livemin", (-7, 2), ZERO, {"": -7}, {"": 2}),
    Mode("max", (7, 2), ZERO, {"": 7}, {"": 7}),
    Mode("livemax", (7, 2), ZERO, {"": 7}, {"": 2}),
    Mode("sum", (7, 2), ZERO, {"": 9}, {"": 9}),
    Mode("livesum", (7, 2), ZERO, {"": 9}, {"": 2}),
    Mode("mostrecent", (7, 2), {}, {"": 7}, {"": 7}),
    Mode("livemostrecent", (7, 2), {}, {"": 7}, {"": 2}),
)


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_gauges_follow_their_mode(
    served: Served,
    processes: Processes,
    directory: Path,
    implementation: Implementation,
    mode: Mode,
) -> None:
    """Each mode merges by its rule, and `live` modes drop a process that is marked dead."""
    first = Gauge("g", "help", registry=None, multiprocess_mode=mode.name)
    processes.start(456)
    second = Gauge("g", "help", registry=None, multiprocess_mode=mode.name)
    assert served.samples("g") == mode.fresh
    second.set(mode.values[1])
    first.set(mode.values[0])
    assert served.samples("g") == mode.both
    implementation.mark_process_dead(123, str(directory))
    assert served.samples("g") == mode.left


def test_every_mode_is_tested() -> None:
    """The tests above cover every mode of prometheus_client."""
    assert {mode.name for mode in MODES} == Gauge._MULTIPROC_MODES


def test_marking_as_dead_defaults_to_the_directory_of_the_environment(
    served: Served, implementation: Implementation
) -> None:
    """`mark_process_dead` without a path removes files in the directory of the environment."""
    Gauge("g", "help", registry=None, multiprocess_mode="livesum").set(1)
    Gauge("kept", "help", registry=None, multiprocess_mode="sum").set(1)
    implementation.mark_process_dead(123)
    assert (served.samples("g"), served.samples("kept")) == ({}, {"": 1})


def test_marking_a_process_without_files_changes_nothing(
    served: Served, implementation: Implementation, directory: Path
) -> None:
    """Marking a process without files as dead neither raises nor removes anything."""
    Gauge("g", "help", registry=None, multiprocess_mode="livesum").set(1)
    for pid in (12, 23, 1234):
        implementation.mark_process_dead(pid, str(directory))
    assert served.samples("g") == {"": 1}


# -- names, labels, help -------------------------------------------------------------------------


def test_names_have_their_namespace_and_unit(served: Served) -> None:
    """Namespace, subsystem and unit are in the name once, also in that of children."""
    Counter("c", "help", registry=None, namespace="ns", subsystem="ss").inc()
    labelled = Gauge("g", "help", ["l"], "ns", "ss", "bytes", None, multiprocess_mode="sum")
    labelled.labels("x").set(1)
    assert served.value("ns_ss_c_total") == 1
    assert served.samples("ns_ss_g_bytes") == {"l=x": 1}


def test_labels_are_kept_whatever_their_order(served: Served, processes: Processes) -> None:
    """Children with the same labels are the same, in whatever order these were declared."""
    Counter("c", "help", ["a", "b"], registry=None).labels(a="1", b='"2"').inc()
    processes.start(456)
    Counter("c", "help", ["b", "a"], registry=None).labels(a="1", b='"2"').inc()
    assert served.samples("c_total") == {'a=1 b="2"': 2}


def test_help_is_kept(served: Served, processes: Processes) -> None:
    """The family of every type has the help text of its metric."""
    for process in (123, 456):
        processes.start(process)
        Counter("c", "c \\ help", registry=None).inc()
        Gauge("g", "g\nhelp", registry=None).set(1)
        Summary("s", "s help", registry=None).observe(1)
        Histogram("h", 'h "help"', registry=None).observe(1)
    expected = {"c": "c \\ help", "g": "g\nhelp", "s": "s help", "h": 'h "help"'}
    assert {family.name: family.documentation for family in served.collect()} == expected


def test_types_are_kept(served: Served) -> None:
    """The family of every metric has the type of its metric."""
    Counter("c", "", registry=None)
    Gauge("g", "", registry=None)
    Summary("s", "", registry=None)
    Histogram("h", "", registry=None)
    types = {"c": "counter", "g": "gauge", "s": "summary", "h": "histogram"}
    assert {family.name: family.type for family in served.collect()} == types


# -- forks ---------------------------------------------------------------------------------------


def test_counters_survive_a_fork(served: Served, processes: Processes) -> None:
    """A child counts in its own file, from zero, and the collector returns the sum."""
    processes.start(0)
    counter = Counter("c", "help", registry=None)
    counter.inc(2)
    processes.fork(1)
    counter.inc(1)
    assert served.value("c_total") == 3
    assert counter._value.get() == 1


def test_a_child_writes_its_own_file(served: Served, processes: Processes, directory: Path) -> None:
    """The first metric of a process makes a file, which all its metrics of a type share."""
    processes.start(0)
    first = Counter("c1", "", registry=None)
    Counter("c2", "", registry=None).inc(1)
    assert {path.name for path in directory.iterdir()} == {"counter_0.db"}
    processes.fork(1)
    Counter("c3", "", registry=None).inc(1)
    assert {path.name for path in directory.iterdir()} == {"counter_0.db", "counter_1.db"}
    first.inc(5)
    totals = [served.value(name) for name in ("c1_total", "c2_total", "c3_total")]
    assert totals == [5, 1, 1]


# -- collecting ----------------------------------------------------------------------------------


def observe_in_two_processes(processes: Processes) -> None:
    """Make a labelled metric of each type and use it before and after a fork."""
    counter = Counter("c", "help", ["x", "y"], registry=None)
    gauge = Gauge("g", "help", ["x", "y"], registry=None)
    histogram = Histogram("h", "help", ["x", "y"], registry=None, buckets=(1, 2.5, 5))
    for pid, observation in ((0, 1), (1, 5)):
        processes.fork(pid)
        counter.labels("1", "2").inc()
        gauge.labels("1", "2").set(observation)
        histogram.labels("1", "2").observe(observation)


def format_samples(family: Metric) -> list[str]:
    """Return the samples of a family, in order, one line each."""
    return [
        f"{sample.name} {' '.join(map('='.join, sorted(sample.labels.items())))} {sample.value}"
        for sample in family.samples
    ]


def test_collecting_returns_every_family_once(served: Served, processes: Processes) -> None:
    """A collection has every family once, and every series once, merged over processes."""
    observe_in_two_processes(processes)
    families = list(served.collector.collect())
    assert sorted(family.name for family in families) == ["c", "g", "h"]
    assert format_samples(family_named("c", families)) == ["c_total x=1 y=2 2.0"]
    assert sorted(format_samples(family_named("g", families))) == [
        "g pid=0 x=1 y=2 1.0",
        "g pid=1 x=1 y=2 5.0",
    ]


def test_histograms_are_in_order(served: Served, processes: Processes) -> None:
    """Each child has its `_sum`, its buckets by ascending bound and its `_count`, in this order."""
    histogram = Histogram("h", "help", ["x"], registry=None, buckets=(5, 10.5, 250))
    for pid in (0, 1):
        processes.fork(pid)
        for label in ("b", "a"):
            histogram.labels(label).observe(7)
    lines = format_samples(family_named("h", served.collector.collect()))
    for label in ("a", "b"):
        assert [line for line in lines if f"x={label}" in line] == [
            f"h_sum x={label} 14.0",
            f"h_bucket le=5.0 x={label} 0.0",
            f"h_bucket le=10.5 x={label} 2.0",
            f"h_bucket le=250.0 x={label} 2.0",
            f"h_bucket le=+Inf x={label} 2.0",
            f"h_count x={label} 2.0",
        ]
    children = [line.partition("x=")[2][0] for line in lines]
    assert children in (["a"] * 6 + ["b"] * 6, ["b"] * 6 + ["a"] * 6)


def test_merging_without_accumulation(
    implementation: Implementation, processes: Processes, directory: Path
) -> None:
    """`merge(files, accumulate=False)` leaves buckets as they are in files, without `_count`."""
    observe_in_two_processes(processes)
    files = [str(path) for path in directory.iterdir()]
    family = family_named("h", implementation.collector.merge(files, accumulate=False))
    assert format_samples(family) == [
        "h_sum x=1 y=2 6.0",
        "h_bucket le=1.0 x=1 y=2 1.0",
        "h_bucket le=2.5 x=1 y=2 0.0",
        "h_bucket le=5.0 x=1 y=2 1.0",
        "h_bucket le=+Inf x=1 y=2 0.0",
    ]


def test_live_gauge_files_may_go_while_they_are_merged(
    implementation: Implementation, directory: Path
) -> None:
    """A live gauge's file that was removed after the listing is no error."""
    names = ("gauge_liveall_9.db", "gauge_livesum_9.db", "gauge_livemostrecent_9.db")
    assert not implementation.collector.merge([str(directory / name) for name in names])


def test_a_removed_child_stays_on_the_page(served: Served) -> None:
    """A child that was removed from a metric stays in the file, and so on the page."""
    counter = Counter("c", "help", ["l"], registry=None)
    counter.labels("x").inc()
    with pytest.warns(UserWarning, match="multi-process"):
        counter.remove("x")
    assert served.samples("c_total") == {"l=x": 1}


# -- arguments and registries --------------------------------------------------------------------


@pytest.mark.parametrize("path", ["file", "missing", ""])
def test_a_path_that_is_no_directory_is_refused(
    implementation: Implementation, directory: Path, path: str
) -> None:
    """The constructor raises `ValueError` and leaves the registry alone."""
    (directory / "file").touch()
    registry = CollectorRegistry()
    with pytest.raises(ValueError, match=r"."):
        implementation.collector(registry, str(directory / path) if path else path)
    assert list(registry.collect()) == []


@pytest.mark.usefixtures("processes")
def test_the_directory_of_the_environment_is_the_default(implementation: Implementation) -> None:
    """A collector without a path reads the directory that the variable names."""
    Counter("c", "help", registry=None).inc()
    registry = CollectorRegistry()
    implementation.collector(registry)
    assert registry.get_sample_value("c_total") == 1


@pytest.mark.parametrize("value", [None, "", "/no/such/directory", __file__])
def test_a_variable_without_a_directory_is_refused(
    implementation: Implementation, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    """The constructor raises `ValueError` when the variable names no directory."""
    monkeypatch.delenv(OLD_VARIABLE, raising=False)
    monkeypatch.delenv(VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(ValueError, match=r"."):
        implementation.collector(CollectorRegistry())


def test_the_lower_case_variable_counts_and_warns(
    implementation: Implementation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable of old releases is copied to the new one, with one `DeprecationWarning`."""
    # First set, then deleted, so that it is restored whatever is set meanwhile.
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv(OLD_VARIABLE, str(tmp_path))
    with pytest.warns(DeprecationWarning, match=OLD_VARIABLE) as caught:
        implementation.collector(CollectorRegistry())
    assert len(caught) == 1
    assert os.environ[VARIABLE] == str(tmp_path)


def test_without_a_registry_there_is_just_a_collector(
    implementation: Implementation, processes: Processes
) -> None:
    """A collector without a registry still collects."""
    Counter("c", "help", registry=None).inc()
    collector = implementation.collector(None, str(processes.directory))
    assert [family.name for family in collector.collect()] == ["c"]


def test_a_registry_restricted_by_name_has_only_those_samples(served: Served) -> None:
    """A restricted registry has exactly the samples that are named, of whatever family."""
    Counter("c", "help", registry=None).inc()
    Counter("other", "help", registry=None).inc()
    Histogram("h", "help", registry=None, buckets=(1, 2)).observe(1)
    text = generate_latest(served.restricted_registry(["c_total", "h_sum"])).decode()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert sorted(lines) == ["c_total 1.0", "h_sum 1.0"]


def test_a_request_restricted_by_name_has_only_those_samples(served: Served) -> None:
    """A request with `?name[]=` to prometheus_client's application has exactly those samples."""
    Counter("c", "help", registry=None).inc()
    Counter("other", "help", registry=None).inc()
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/metrics",
        "QUERY_STRING": urlencode({"name[]": "c_total"}),
    }
    body = b"".join(make_wsgi_app(served)(environ, lambda *_: None)).decode()
    assert [line for line in body.splitlines() if not line.startswith("#")] == ["c_total 1.0"]


def test_no_names_are_claimed(implementation: Implementation, processes: Processes) -> None:
    """A registry accepts the collector beside metrics of the same names, and has both."""
    registry = CollectorRegistry()
    Counter("c", "help", registry=registry).inc()
    implementation.collector(registry, str(processes.directory))
    names = [family.name for family in registry.collect()]
    assert names == ["c", "c"]
