"""`mpmetrics dump`: its formats, options and messages."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser

import mpmetrics
from tests.cli.directories import fill
from tests.cli.processes import Ending, command, invoke, run
from tests.database import Entry, counter, gauge, histogram, summary

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from prometheus_client import Metric

FORMATS = ("text", "openmetrics", "json", "table")
BOUNDS = {"0.1": 1.0, "1.0": 2.0, "+Inf": 1.0}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory that two processes wrote to, with a family of each type."""
    files: dict[str, Entry | list[Entry]] = {}
    for pid in 7, 12:
        files |= {
            f"counter_{pid}.db": [
                counter("requests", pid, {"path": "/ünï"}),
                counter("requests", pid, {"path": '/a "b"\\\n'}),
            ],
            f"histogram_{pid}.db": histogram("latency_seconds", BOUNDS, 6.0),
            f"summary_{pid}.db": summary("vllm:size_bytes", 2, 2048.0 * pid),
            f"gauge_livesum_{pid}.db": gauge("busy_ratio", pid / 100),
            f"gauge_all_{pid}.db": gauge("odd", math.nan if pid == 7 else -math.inf),
            f"gauge_max_{pid}.db": gauge("top", math.inf if pid == 7 else 1.0),
        }
    return fill(tmp_path, files)


def parsed(form: str, text: str) -> list[Metric]:
    """Parse a page as strictly as prometheus_client can."""
    if form == "openmetrics":
        return list(openmetrics_parser.text_string_to_metric_families(text))
    return list(parser.text_string_to_metric_families(text))


def numbers(families: Iterable[Metric]) -> dict[tuple[str, frozenset[tuple[str, str]]], str]:
    """Return the value of every series, as text because of NaN; check that none is there twice."""
    samples = [sample for family in families for sample in family.samples]
    values = {
        (sample.name, frozenset(sample.labels.items())): repr(sample.value) for sample in samples
    }
    assert len(values) == len(samples)
    return values


# -- formats --------------------------------------------------------------------------------------


def test_text_is_the_page(directory: Path) -> None:
    """Without options the output is the page of the library, byte for byte."""
    expected = mpmetrics.collect(directory).render().decode()
    assert invoke("dump", directory) == Ending(0, expected)
    assert invoke("dump", directory, "--format", "text") == Ending(0, expected)
    assert numbers(parsed("text", expected)) == numbers(mpmetrics.collect(directory).families)


def test_openmetrics_is_the_page(directory: Path) -> None:
    """The OpenMetrics format is the library's page, and a strict parser reads it."""
    expected = mpmetrics.collect(directory).render(openmetrics=True).decode()
    assert invoke("dump", directory, "--format", "openmetrics") == Ending(0, expected)
    families = parsed("openmetrics", expected)
    assert numbers(families) == numbers(mpmetrics.collect(directory).families)


def test_json_has_families_and_problems(tmp_path: Path) -> None:
    """JSON has the families and the problems; NaN and infinities are strings."""
    fill(
        tmp_path,
        {
            "counter_7.db": counter("requests", 3, {"path": "/ü"}),
            "gauge_max_7.db": [
                *(gauge("top", 0.5, {"is": "number"}), gauge("top", math.nan, {"is": "nan"})),
                *(gauge("top", math.inf, {"is": "inf"}), gauge("top", -math.inf, {"is": "-inf"})),
            ],
        },
    )
    (tmp_path / "stranger").touch()
    status, stdout, _ = invoke("dump", tmp_path, "--format", "json")
    assert status == 0
    assert json.loads(stdout, parse_constant=pytest.fail) == {
        "families": [
            {
                "name": "requests",
                "type": "counter",
                "help": "help",
                "samples": [{"name": "requests_total", "labels": {"path": "/ü"}, "value": 3.0}],
            },
            {
                "name": "top",
                "type": "gauge",
                "help": "help",
                "samples": [
                    {"name": "top", "labels": {"is": "-inf"}, "value": "-Inf"},
                    {"name": "top", "labels": {"is": "inf"}, "value": "+Inf"},
                    {"name": "top", "labels": {"is": "nan"}, "value": "NaN"},
                    {"name": "top", "labels": {"is": "number"}, "value": 0.5},
                ],
            },
        ],
        "problems": [
            {
                "path": str(tmp_path / "stranger"),
                "reason": "stranger",
                "detail": "the name is not that of a multiprocess metrics file",
            }
        ],
    }


def test_the_table_is_for_people(directory: Path) -> None:
    """The table is aligned, has units, and shows histograms and summaries in a few numbers."""
    ending = invoke("dump", directory, "--format", "table")
    assert ending == Ending(
        0,
        """\
busy_ratio (gauge)  help
    19 %

latency_seconds (histogram)  help
    count   mean     p50   p90   p99
        8  1.5 s  550 ms  >1 s  >1 s

odd (gauge)  help
  pid="12"  -Inf
  pid="7"    NaN

requests (counter)  help
  path="/a \\"b\\"\\\\\\n"  19
  path="/ünï"          19

top (gauge)  help
    +Inf

vllm:size_bytes (summary)  help
    count     mean
        4  9.5 KiB
""",
    )


@pytest.mark.parametrize("form", ["text", "openmetrics", "table"])
def test_an_empty_directory_gives_an_empty_page(tmp_path: Path, form: str) -> None:
    """An empty directory gives an empty page; that of OpenMetrics has its end mark."""
    expected = "# EOF\n" if form == "openmetrics" else ""
    assert invoke("dump", tmp_path, "--format", form) == Ending(0, expected)


# -- choosing and labelling -----------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("options", "names"),
    [
        pytest.param([], "busy_ratio latency_seconds odd requests top vllm:size_bytes", id="all"),
        pytest.param(["--include", "vllm:"], "vllm:size_bytes", id="prefix"),
        pytest.param(["--include", "requests_total"], "requests", id="name-on-the-page"),
        pytest.param(["--include", "o", "--include", "to"], "odd top", id="prefixes"),
        pytest.param(
            ["--exclude", "o", "--exclude", "v"],
            "busy_ratio latency_seconds requests top",
            id="excludes",
        ),
        pytest.param(["--include", "o", "--exclude", "o"], "", id="exclude-beats-prefix"),
        pytest.param(["--include", "latency_seconds_b"], "", id="histograms-are-never-cut"),
    ],
)
def test_prefixes_choose_families(
    directory: Path, form: str, options: list[str], names: str
) -> None:
    """Prefix filters choose whole families, the same in every format."""
    status, stdout, stderr = invoke("dump", directory, *options, "--format", form)
    assert (status, stderr) == (0, "")
    if form == "json":
        found = [family["name"] for family in json.loads(stdout)["families"]]
    elif form == "table":
        found = [line.split()[0] for line in stdout.splitlines() if line[:1].strip()]
    else:
        found = [family.name for family in parsed(form, stdout)]
    assert found == names.split()


LABELLED_PAGE = """\
# HELP g help
# TYPE g gauge
g{env="x",host="a=b"} 2.0
g{env="own",host="a=b"} 1.0
"""


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("text", LABELLED_PAGE),
        ("openmetrics", f"{LABELLED_PAGE}# EOF\n"),
        ("table", 'g (gauge)  help\n  env="x" host="a=b"    2\n  env="own" host="a=b"  1\n'),
    ],
)
def test_labels_are_added(tmp_path: Path, form: str, expected: str) -> None:
    """A label is added to every series without it; its value may be any text."""
    fill(tmp_path, {"gauge_max_7.db": [gauge("g", 2.0), gauge("g", 1.0, {"env": "own"})]})
    options = ["--label", "env=x", "--label", "host=a=b", "--format", form]
    assert invoke("dump", tmp_path, *options) == Ending(0, expected)


def test_labels_are_added_to_json(tmp_path: Path) -> None:
    """JSON has the added labels in merged samples and in those of processes."""
    fill(tmp_path, {"gauge_max_7.db": [gauge("g", 2.0), gauge("g", 1.0, {"env": "own"})]})
    options = ["--label", "env=x", "--by-process", "--format", "json"]
    (family,) = json.loads(invoke("dump", tmp_path, *options).stdout)["families"]
    samples = [
        {"name": "g", "labels": {"env": "x"}, "value": 2.0},
        {"name": "g", "labels": {"env": "own"}, "value": 1.0},
    ]
    assert (family["samples"], family["processes"]) == (samples, {"7": samples})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(["--include", ""], "not a prefix to filter by: ''", id="prefix"),
        pytest.param(["--exclude", ""], "not a prefix to filter by: ''", id="exclude"),
        pytest.param(
            ["--label", "a"],
            "Invalid value for '--label': 'a' is not of the form NAME=VALUE",
            id="no-equals-sign",
        ),
        pytest.param(["--label", "1a=b"], "label '1a': not a valid label name", id="bad-name"),
        pytest.param(["--label", "=b"], "label '': not a valid label name", id="no-name"),
        pytest.param(
            ["--label", "__x=b"],
            "label '__x': names that begin with __ are for Prometheus itself",
            id="reserved",
        ),
        pytest.param(
            ["--label", "le=1"], "label 'le': it names the bounds of histogram buckets", id="le"
        ),
        pytest.param(
            ["--label", "ok=1", "--label", "quantile=1"],
            "label 'quantile': it names the quantiles of summaries",
            id="quantile",
        ),
    ],
)
def test_an_option_that_makes_an_invalid_page_is_refused(
    directory: Path, options: list[str], message: str
) -> None:
    """An option that would make an invalid page is refused, and nothing is written."""
    assert invoke("dump", directory, *options) == Ending(2, "", f"mpmetrics: {message}\n")


# -- single processes -----------------------------------------------------------------------------


@pytest.fixture
def two_processes(tmp_path: Path) -> Path:
    """Return a directory in which several processes wrote to the same families."""
    return fill(
        tmp_path,
        {
            "counter_7.db": counter("requests", 1),
            "counter_12.db": counter("requests", 2),
            "counter_rust-a.db": counter("requests", 4),
            "histogram_7.db": histogram("wait", {"1.0": 1, "+Inf": 1}, 3.0, {"q": "a"}),
            "histogram_12.db": histogram("wait", {"1.0": 2, "+Inf": 0}, 0.5, {"q": "a"}),
        },
    )


def test_text_has_single_processes_beside_the_merged_values(two_processes: Path) -> None:
    """Each family comes once; a label tells processes apart, which are sorted by id."""
    ending = invoke("dump", two_processes, "--by-process")
    assert ending == Ending(
        0,
        """\
# HELP requests_total help
# TYPE requests_total counter
requests_total 7.0
requests_total{mpmetrics_process="7"} 1.0
requests_total{mpmetrics_process="12"} 2.0
requests_total{mpmetrics_process="rust-a"} 4.0
# HELP wait help
# TYPE wait histogram
wait_sum{q="a"} 3.5
wait_bucket{le="1.0",q="a"} 3.0
wait_bucket{le="+Inf",q="a"} 4.0
wait_count{q="a"} 4.0
wait_sum{mpmetrics_process="7",q="a"} 3.0
wait_bucket{le="1.0",mpmetrics_process="7",q="a"} 1.0
wait_bucket{le="+Inf",mpmetrics_process="7",q="a"} 2.0
wait_count{mpmetrics_process="7",q="a"} 2.0
wait_sum{mpmetrics_process="12",q="a"} 0.5
wait_bucket{le="1.0",mpmetrics_process="12",q="a"} 2.0
wait_bucket{le="+Inf",mpmetrics_process="12",q="a"} 2.0
wait_count{mpmetrics_process="12",q="a"} 2.0
""",
    )


@pytest.mark.parametrize("form", ["text", "openmetrics"])
def test_a_page_with_single_processes_is_valid(directory: Path, form: str) -> None:
    """A page with single processes is valid; without their series it is the merged page."""
    ending = invoke("dump", directory, "--by-process", "--format", form)
    assert (ending.status, ending.stderr) == (0, "")
    merged, own = [], defaultdict(list)
    for family in parsed(form, ending.stdout):
        for sample in family.samples:
            own[sample.labels.get("mpmetrics_process")].append(sample)
        family.samples = [each for each in family.samples if "mpmetrics_process" not in each.labels]
        merged.append(family)
    assert numbers(merged) == numbers(mpmetrics.collect(directory).families)
    assert {process: len(samples) for process, samples in own.items()} == {
        None: 13,
        "7": 12,
        "12": 12,
    }


def test_json_has_single_processes_beside_the_merged_values(two_processes: Path) -> None:
    """JSON has the samples of each process by its id."""
    options = ["--by-process", "--include", "requests", "--format", "json"]
    document = json.loads(invoke("dump", two_processes, *options).stdout)

    def samples(value: float) -> list[dict[str, Any]]:
        return [{"name": "requests_total", "labels": {}, "value": value}]

    assert document == {
        "families": [
            {
                "name": "requests",
                "type": "counter",
                "help": "help",
                "samples": samples(7.0),
                "processes": {"7": samples(1.0), "12": samples(2.0), "rust-a": samples(4.0)},
            }
        ],
        "problems": [],
    }


def test_the_table_has_single_processes_below_the_merged_values(two_processes: Path) -> None:
    """The rows of processes stand, indented, below the merged row."""
    ending = invoke("dump", two_processes, "--by-process", "--format", "table")
    assert ending == Ending(
        0,
        """\
requests (counter)  help
                    7
    process 7       1
    process 12      2
    process rust-a  4

wait (histogram)  help
                count   mean       p50  p90   p99
  q="a"             4  0.875  0.666667   >1    >1
    process 7       2    1.5         1   >1    >1
    process 12      2   0.25       0.5  0.9  0.99
""",
    )


@pytest.mark.parametrize("form", FORMATS)
def test_an_unmerged_family_is_not_shown_for_its_process(tmp_path: Path, form: str) -> None:
    """A family of another type, which is not merged, is not shown for its process either."""
    fill(tmp_path, {"counter_7.db": counter("x", 7.25), "gauge_max_12.db": gauge("x", 12.25)})
    status, stdout, stderr = invoke("dump", tmp_path, "--by-process", "--format", form)
    assert (status, stderr.count("\n")) == (0, 1)
    assert "type_conflict" in stderr
    assert ("7.25" in stdout, "12.25" in stdout) == (True, False)


def test_odd_line_breaks_in_labels_survive(tmp_path: Path) -> None:
    """Unicode's line breaks in a label do not break a line of the page."""
    value = "a\u2028# b\x85# c\x0bd"
    fill(tmp_path, {"counter_7.db": counter("requests", 1, {"path": value})})
    for options in [], ["--by-process"]:
        (family,) = parsed("text", invoke("dump", tmp_path, *options).stdout)
        assert {sample.labels["path"] for sample in family.samples} == {value}


@pytest.mark.parametrize("form", ["text", "openmetrics"])
def test_names_that_prometheus_client_refuses_are_escaped(tmp_path: Path, form: str) -> None:
    """Names that old releases of prometheus_client refuse are escaped on the page."""
    fill(tmp_path, {"counter_7.db": counter("my.metric", 2), "gauge_max_7.db": gauge("1 ü", 1)})
    line = command("dump", tmp_path, "--by-process", "--format", form)
    ending = run(line, env={"PROMETHEUS_LEGACY_NAME_VALIDATION": "true"})
    assert (ending.status, ending.stderr) == (0, "")
    families = parsed(form, ending.stdout)
    found = [(family.name, len(family.samples)) for family in families]
    assert found == [("___", 2), ("my_metric", 2)]


# -- problems -------------------------------------------------------------------------------------


@pytest.fixture
def broken_directory(tmp_path: Path) -> Path:
    """Return a directory with line breaks in its path, file names and keys."""
    directory = tmp_path / "a\nb"
    directory.mkdir()
    fill(
        directory,
        {
            "counter_7.db": counter("requests", 1),
            "counter_8\n.db": b"\n" * 24,
            "gauge_max_9.db": gauge("requests\n", 1),
            "gauge_min_9.db": gauge("requests\n", 1),
        },
    )
    (directory / "str\u2028anger\x1b[2J").touch()
    return directory


@pytest.mark.parametrize("form", FORMATS)
def test_every_problem_is_one_line(broken_directory: Path, form: str) -> None:
    """Each problem is one printable line, whatever file names and keys contain."""
    status, stdout, stderr = invoke("dump", broken_directory, "--format", form)
    assert status == 0
    assert "requests" in stdout
    lines = stderr.splitlines()
    path = str(broken_directory).replace("\n", "\\n")
    assert len(lines) == 3
    assert all(line.startswith(f"mpmetrics: {path}/") for line in lines)
    assert stderr.replace("\n", "").isprintable()
    assert sorted(line.split(": ")[2] for line in lines) == ["damaged", "mode_conflict", "stranger"]


def test_strict_makes_problems_a_status(directory: Path) -> None:
    """With --strict the output is the same, and the status is 1 if there are problems."""
    before = invoke("dump", directory)
    assert invoke("dump", directory, "--strict") == before
    (directory / "stranger").touch()
    expected = (
        f"mpmetrics: {directory / 'stranger'}: stranger: the name is not that of a multiprocess "
        "metrics file\n"
    )
    assert invoke("dump", directory) == Ending(0, before.stdout, expected)
    assert invoke("dump", directory, "--strict") == Ending(1, before.stdout, expected)


# -- the directory --------------------------------------------------------------------------------


def test_the_environment_names_the_directory(directory: Path, tmp_path: Path) -> None:
    """The environment names the directory unless DIR is given."""
    expected = invoke("dump", directory)
    elsewhere = str(tmp_path / "elsewhere")
    assert invoke("dump", PROMETHEUS_MULTIPROC_DIR=str(directory)) == expected
    assert invoke("dump", directory, PROMETHEUS_MULTIPROC_DIR=elsewhere) == expected


def test_no_directory_is_a_mistake(tmp_path: Path) -> None:
    """A missing directory is a mistake, and the message names it."""
    missing, file = tmp_path / "missing", tmp_path / "file"
    file.touch()
    unset = "no directory given and PROMETHEUS_MULTIPROC_DIR is not set"
    assert invoke("dump") == Ending(2, "", f"mpmetrics: {unset}\n")
    assert invoke("dump", missing) == Ending(2, "", f"mpmetrics: {missing}: no such directory\n")
    assert invoke("dump", file) == Ending(2, "", f"mpmetrics: {file}: not a directory\n")
    assert invoke("dump", "") == Ending(2, "", "mpmetrics: the path is empty\n")
    assert invoke("dump", PROMETHEUS_MULTIPROC_DIR=str(file)) == invoke("dump", file)


def test_an_empty_variable_is_a_mistake() -> None:
    """An empty variable is a mistake."""
    status, stdout, stderr = invoke("dump", PROMETHEUS_MULTIPROC_DIR="")
    assert (status, stdout, stderr.count("\n")) == (2, "", 1)
