"""The private parts of prometheus_client that `mpmetrics._client` relies on, version by version."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any

import pytest

from mpmetrics import _client
from tests.conformance.conftest import CLIENTS
from tests.workers import environment, run_python

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

BEGIN = """
import json
import sys

from mpmetrics import _client

before = _client.values_in_memory()

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector

directory = sys.argv[1]
registry = CollectorRegistry()
"""

USES: dict[str, tuple[str, Any]] = {
    "values_in_memory": (
        "[before, _client.values_in_memory()]",
        {"memory": [False, True], "files": [False, False]},
    ),
    "new_registry": (
        (
            "[sample.value for family in restricted_to_g(_client.new_registry()).collect()"
            " for sample in family.samples]"
        ),
        {"oldest": [], "newest": [1.0]},
    ),
    "collectors_by_name": (
        (
            "[_client.collectors_by_name(registry)[name] is counter for name in ('c', 'c_total')]"
            " + [_client.collectors_by_name(object())]"
        ),
        [True, True, {}],
    ),
    "names_by_collector": (
        (
            "[sorted(_client.names_by_collector(registry)[counter]),"
            " _client.names_by_collector(registry)[unnamed],"
            " _client.names_by_collector(object())]"
        ),
        [["c", "c_created", "c_total"], [], {}],
    ),
    "names_of_metrics": ("_client.names_of_metrics(registry)", ["c", "g", "h", "i"]),
    "merged_directories": (
        (
            "[_client.merged_directories(registry) == [directory],"
            " _client.merged_directories(merged) == [directory],"
            " _client.merged_directories(object())]"
        ),
        [True, True, []],
    ),
    "definition_of": (
        "[_client.definition_of(each) for each in (counter, gauge, histogram, object())]",
        [
            ["c", "counter", ["a", "b"], [], ""],
            ["g", "gauge", [], [], "livesum"],
            ["h", "histogram", [], [1.0, 2.0], ""],
            ["", "object", [], [], ""],
        ],
    ),
    "replace_collector": (
        "try_replacing()",
        [["theirs", "theirs", 7], True, None],
    ),
    "metric_class": (
        (
            "[_client.metric_class(name) for name in ('counter', 'gauge', 'histogram')]"
            " == [Counter, Gauge, Histogram]"
        ),
        True,
    ),
    "add_observations": (
        (
            "[_client.add_observations(histogram, [1, 2, 4], 9.5)] + [sample.value"
            " for family in histogram.collect() for sample in family.samples"
            " if not sample.name.endswith('_created')]"
        ),
        [None, 1.0, 3.0, 7.0, 7.0, 9.5],
    ),
}
"""An expression for each function, and its value: for all, by version, or by where values are."""

WITH_METRICS = """
class Unnamed:
    def describe(self):
        return []

    def collect(self):
        yield GaugeMetricFamily("g", "", 1)


def restricted_to_g(registry):
    registry.register(Unnamed())
    return registry.restricted_registry(["g"])


def answer(*arguments):
    return "theirs"


def answer_seven(pid, path=None):
    return 7


def try_replacing():
    from prometheus_client import multiprocess

    name = "prometheus_client.multiprocess"
    parts = ("collect", "merge")
    former = [multiprocess.MultiProcessCollector.__dict__[part] for part in parts]
    code = multiprocess.mark_process_dead.__code__
    methods = _client.CollectorMethods(answer, answer, answer_seven)
    restore = _client.replace_collector(lambda _: methods)
    answers = [merged.collect(), merged.merge([]), multiprocess.mark_process_dead(7)]
    restore()
    after = [multiprocess.MultiProcessCollector.__dict__[part] for part in parts]
    module = sys.modules.pop(name)
    nothing = _client.replace_collector(lambda _: methods)
    sys.modules[name] = module
    return [answers, after == former and multiprocess.mark_process_dead.__code__ is code, nothing]


unnamed = Unnamed()
registry.register(unnamed)
counter = Counter("c", "", ["a", "b"], registry=registry)
gauge = Gauge("g", "", registry=registry, multiprocess_mode="livesum")
histogram = Histogram("h", "", registry=registry, buckets=(1, 2))
if _client.values_in_memory():  # an Info has no place in a file
    Info("i", "", registry=registry)
merged = MultiProcessCollector(registry, directory)
"""


@pytest.mark.parametrize("version", CLIENTS)
@pytest.mark.parametrize("function", USES)
def test_the_private_parts_are_as_expected(
    clients: Mapping[str, Path | None], tmp_path: Path, version: str, function: str
) -> None:
    """Each function of `mpmetrics._client` works under the oldest and the newest version."""
    expression, expected = USES[function]
    if isinstance(expected, dict):
        expected = expected.get(version, expected.get("memory"))
    program = f"{BEGIN}{WITH_METRICS}print(json.dumps({expression}))"
    environ = environment(None, client=clients[version])
    seen = json.loads(run_python(program, str(tmp_path), env=environ))
    assert seen == expected, (
        f"prometheus_client ({version}) no longer has what mpmetrics._client.{function} relies on"
    )


@pytest.mark.parametrize("version", CLIENTS)
def test_values_in_files_are_recognized(
    clients: Mapping[str, Path | None], tmp_path: Path, version: str
) -> None:
    """Where the environment names a directory, no version keeps values in memory."""
    expression, expected = USES["values_in_memory"]
    program = f"{BEGIN}print(json.dumps({expression}))"
    environ = environment(tmp_path, client=clients[version])
    assert json.loads(run_python(program, str(tmp_path), env=environ)) == expected["files"]


@pytest.mark.parametrize("version", CLIENTS)
def test_a_histogram_in_files_takes_observations(
    clients: Mapping[str, Path | None], tmp_path: Path, version: str
) -> None:
    """`add_observations` fills the buckets and the sum of a histogram that is in a file, too."""
    expression = USES["add_observations"][0]
    values = "[sample.value for family in merged.collect() for sample in family.samples]"
    program = f"{BEGIN}{WITH_METRICS}{expression}\nprint(json.dumps(sorted({values})))"
    environ = environment(tmp_path, client=clients[version])
    seen = json.loads(run_python(program, str(tmp_path), env=environ))
    # The gauge, and of the histogram three buckets, the sum and the count.
    assert seen == [0.0, 1.0, 3.0, 7.0, 7.0, 9.5]


def test_every_function_is_tried() -> None:
    """No function of `mpmetrics._client` is missing in the table above."""
    functions = {
        name
        for name, each in inspect.getmembers(_client, inspect.isfunction)
        if each.__module__ == _client.__name__
    }
    assert functions == set(USES)
