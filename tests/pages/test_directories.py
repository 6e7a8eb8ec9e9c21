"""Several directories on one page: the segments of all of them, merged as those of one."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

import mpmetrics
from mpmetrics.directory.files import GAUGE_MODES
from mpmetrics.scrape import unique_names
from tests.database import Entry, counter, gauge, histogram, write
from tests.strategies import entries_of_kind
from tests.workers import PATIENCE, Worker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Samples = set[tuple[str, frozenset[tuple[str, str]], float]]

KINDS = ["counter", "summary", "histogram", *(f"gauge_{mode}" for mode in GAUGE_MODES)]
PER_PROCESS = ["gauge_all", "gauge_liveall"]


def write_directories(parent: Path, files: Mapping[str, Mapping[str, Sequence[Entry]]]) -> None:
    """Write *files*, by the name of their directory below *parent* and their own."""
    for name, own in files.items():
        (parent / name).mkdir(exist_ok=True)
        for file, entries in own.items():
            write(parent / name / file, entries, size=0)


def lines_of(page: mpmetrics.Page) -> list[str]:
    """Return the lines of *page* that are series, without self-metrics."""
    lines = page.render().decode().splitlines()
    return [line for line in lines if not line.startswith(("#", "mpmetrics_"))]


def up(page: mpmetrics.Page) -> dict[str, float]:
    """Return which sources are up according to the page, by name."""
    families = {family.name: family for family in page.families()}
    return {
        sample.labels["source"]: sample.value for sample in families["mpmetrics_source_up"].samples
    }


# -- equal to one directory ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in PER_PROCESS])
@given(data=st.data())
def test_several_directories_are_merged_as_one(kind: str, data: st.DataObject) -> None:
    """In both formats, the page is that of one directory with all files under other ids."""
    files = data.draw(st.lists(st.lists(entries_of_kind(kind), max_size=3), min_size=2, max_size=3))
    with tempfile.TemporaryDirectory() as parent:
        names = [f"d{number}" for number in range(len(files))]
        one: dict[str, list[Entry]] = {}
        several: dict[str, dict[str, list[Entry]]] = {}
        for name, each in zip(names, files, strict=True):
            several[name] = {f"{kind}_{pid}.db": entries for pid, entries in enumerate(each)}
            one |= {f"{kind}_{name}-{pid}.db": entries for pid, entries in enumerate(each)}
        write_directories(Path(parent), {"one": one, **several})
        page = mpmetrics.Page([Path(parent, name) for name in names], exclude="mpmetrics_")
        expected = mpmetrics.Page(Path(parent, "one"), exclude="mpmetrics_")
        for openmetrics in (False, True):
            assert page.render(openmetrics) == expected.render(openmetrics)


@pytest.mark.parametrize("kind", PER_PROCESS)
@given(data=st.data())
def test_processes_with_one_pid_stay_apart(kind: str, data: st.DataObject) -> None:
    """Series of single processes are those of one directory, with a label instead of other ids."""
    files = data.draw(st.lists(st.lists(entries_of_kind(kind), max_size=3), min_size=2, max_size=3))
    expected: set[tuple[str, frozenset[tuple[str, str]], float]] = set()
    with tempfile.TemporaryDirectory() as parent:
        for number, each in enumerate(files):
            own = {f"{kind}_{pid}.db": entries for pid, entries in enumerate(each)}
            write_directories(Path(parent), {f"d{number}": own})
            for pid, entries in enumerate(each):
                labels = {"pid": str(pid), "directory": str(number)}
                for entry in entries:
                    pairs = frozenset({**labels, **entry.labels}.items())
                    expected.add((entry.sample, pairs, entry.value))
        sources = [
            mpmetrics.DirectorySource(Path(parent, f"d{number}"), name=str(number))
            for number in range(len(files))
        ]
        families = mpmetrics.Page(sources, exclude="mpmetrics_").families()
    samples = [sample for family in families for sample in family.samples]
    found = {(each.name, frozenset(each.labels.items()), each.value) for each in samples}
    assert found == expected
    assert len(samples) == len(expected)


def test_workers_of_two_directories_add_up(tmp_path: Path) -> None:
    """Real workers of two directories are on the page as those of one are."""
    web, celery = tmp_path / "web", tmp_path / "celery"
    web.mkdir()
    celery.mkdir()
    define = """
jobs = Counter("jobs", "", ["q"])
busy = Gauge("busy", "", multiprocess_mode="livesum")
level = Gauge("level", "", multiprocess_mode="all")
last = Gauge("last", "", multiprocess_mode="mostrecent")
took = Histogram("took", "", buckets=(1.0,))
"""
    with Worker(web) as first, Worker(celery) as second:
        for worker, count in ((first, 3), (second, 4)):
            worker.do(define)
            worker.do(f"jobs.labels('a').inc({count}); busy.set({count}); level.set({count})")
            worker.do(f"last.set({count}); took.observe({count})")
        page = mpmetrics.Page([web, celery], include=("jobs", "busy", "level", "last", "took_sum"))
        assert sorted(lines_of(page)) == sorted(
            [
                'jobs_total{q="a"} 7.0',
                "busy 7.0",
                "last 4.0",
                f'level{{directory="{web}",pid="{first.pid}"}} 3.0',
                f'level{{directory="{celery}",pid="{second.pid}"}} 4.0',
            ]
        )
        first.do("jobs.labels('a').inc(10)")
        assert 'jobs_total{q="a"} 17.0' in lines_of(page)


def test_archives_of_each_directory_count(tmp_path: Path) -> None:
    """What was folded in one directory is added to what is in the other, folded or not."""
    for name, value in (("a", 0.1), ("b", 0.2)):
        write_directories(tmp_path, {name: {"counter_1.db": [counter("c", value)]}})
    page = mpmetrics.Page([tmp_path / "a", tmp_path / "b"])
    before = lines_of(page)
    for name in "ab":
        assert mpmetrics.compact(tmp_path / name).outcome == "folded"
        assert lines_of(page) == before == ["c_total 0.30000000000000004"]


def test_gauges_of_dead_processes_keep_their_directory(tmp_path: Path) -> None:
    """A gauge of mode `all` that compaction keeps has the same labels after it."""
    for name in "ab":
        write_directories(tmp_path, {name: {"gauge_all_1.db": [gauge("g", 1)]}})
    page = mpmetrics.Page([tmp_path / "a", tmp_path / "b"])
    before = lines_of(page)
    assert len(before) == 2
    for name in "ab":
        mpmetrics.compact(tmp_path / name, keep_dead_gauges=True)
    assert lines_of(page) == before


# -- conflicts -----------------------------------------------------------------------------------


def problems_of(page: mpmetrics.Page) -> dict[str, float]:
    """Return how many problems of each reason *page* counts."""
    families = {family.name: family for family in page.families()}
    problems = families.get("mpmetrics_problems")
    return {each.labels["reason"]: each.value for each in problems.samples} if problems else {}


@pytest.mark.parametrize(
    ("first", "second", "expected", "reasons"),
    [
        pytest.param(
            {"counter_1.db": [counter("c", 1)._replace(help="one")]},
            {"counter_1.db": [counter("c", 2)._replace(help="two")]},
            ["c_total 3.0"],
            {},
            id="two HELP texts",
        ),
        pytest.param(
            {"gauge_max_1.db": [gauge("c", 1)]},
            {"counter_1.db": [counter("c", 2)]},
            ["c_total 2.0"],
            {"type_conflict": 1.0},
            id="two types",
        ),
        pytest.param(
            {"gauge_max_1.db": [gauge("g", 1)]},
            {"gauge_min_1.db": [gauge("g", 2)]},
            ["g 1.0"],
            {"mode_conflict": 1.0},
            id="two modes",
        ),
        pytest.param(
            {"histogram_1.db": histogram("h", {"1.0": 1, "+Inf": 0}, 1)},
            {"histogram_1.db": histogram("h", {"2.0": 2, "+Inf": 0}, 1)},
            ["h_sum 2.0", 'h_bucket{le="+Inf"} 3.0', "h_count 3.0"],
            {"bucket_conflict": 1.0},
            id="two bucket layouts",
        ),
        pytest.param(
            {
                "counter_1.db": [counter("c", 1)],
                "counter_2.db": [counter("c", 1)._replace(value=2)],
            },
            {"counter_x.db": [Entry("", "", raw_key=b"no JSON")]},
            ["c_total 3.0"],
            {"damaged": 1.0},
            id="a damaged file",
        ),
        pytest.param(
            {"gauge_all_1.db": [gauge("g", 1, {"pid": "7", "directory": "x"})]},
            {"gauge_all_1.db": [gauge("g", 2, {"pid": "7", "directory": "x"})]},
            ['g{directory="x",pid="7"} 2.0'],
            {"duplicate_series": 1.0},
            id="labels of the series' own win",
        ),
    ],
)
def test_conflicts_are_those_between_workers(
    tmp_path: Path,
    first: dict[str, list[Entry]],
    second: dict[str, list[Entry]],
    expected: list[str],
    reasons: dict[str, float],
) -> None:
    """What contradicts itself in two directories is settled and reported as in one."""
    write_directories(tmp_path, {"a": first, "b": second})
    page = mpmetrics.Page([tmp_path / "a", tmp_path / "b"])
    assert lines_of(page) == expected
    assert problems_of(page) == reasons


# -- which directories ---------------------------------------------------------------------------


def test_a_directory_with_two_names_counts_once(tmp_path: Path) -> None:
    """A directory that is named twice, by a link or from within, is merged once."""
    write_directories(tmp_path, {"a": {"counter_1.db": [counter("c", 1)]}, "b": {}})
    (tmp_path / "link").symlink_to(tmp_path / "a")
    names = ["a", "link", "a", "b", "b/../a"]
    page = mpmetrics.Page([tmp_path / name for name in names])
    assert lines_of(page) == ["c_total 1.0"]
    assert list(up(page).values()) == [1.0] * 4
    files = [each for each in page.families() if each.name == "mpmetrics_files"]
    assert [sample.value for sample in files[0].samples] == [1.0]


def test_a_directory_may_contain_another(tmp_path: Path) -> None:
    """Each is read once, and the inner one is no stranger in the outer one."""
    write_directories(
        tmp_path,
        {
            "a": {"counter_1.db": [counter("c", 1)]},
            "a/b": {"counter_1.db": [counter("c", 2)]},
            "a/c": {"counter_1.db": [counter("c", 4)]},
        },
    )
    page = mpmetrics.Page([tmp_path / "a", tmp_path / "a" / "b"])
    assert lines_of(page) == ["c_total 3.0"]
    assert problems_of(page) == {"stranger": 1.0}


@pytest.mark.parametrize("timeout", [None, PATIENCE])
def test_a_missing_directory_costs_its_own_metrics_only(
    tmp_path: Path, timeout: float | None
) -> None:
    """The page has what the others hold, and shows which directory is down."""
    write_directories(tmp_path, {"b": {"counter_1.db": [counter("c", 1)]}})
    page = mpmetrics.Page([tmp_path / "a", tmp_path / "b"], timeout=timeout)
    assert lines_of(page) == ["c_total 1.0"]
    assert up(page) == {str(tmp_path / "a"): 0.0, str(tmp_path / "b"): 1.0}
    write_directories(tmp_path, {"a": {"counter_1.db": [counter("c", 2)]}})
    assert lines_of(page) == ["c_total 3.0"]
    assert up(page) == {str(tmp_path / "a"): 1.0, str(tmp_path / "b"): 1.0}


def test_a_merged_family_beats_that_of_this_process(tmp_path: Path) -> None:
    """The values of several directories shadow a registry, as those of one do."""
    from prometheus_client import Counter

    registry = CollectorRegistry()
    Counter("c", "", registry=registry).inc(100)
    for name in "ab":
        write_directories(tmp_path, {name: {"counter_1.db": [counter("c", 1)]}})
    page = mpmetrics.Page([registry, tmp_path / "a", tmp_path / "b"])
    assert lines_of(page) == ["c_total 2.0"]


@pytest.mark.parametrize("path", ["/no\0where", "/no/\udcff", "x" * 5000])
def test_an_impossible_path_is_a_failed_source(path: str) -> None:
    """A path that no directory can have costs no page."""
    page = mpmetrics.Page([path, lambda: "a 1\n"])
    assert lines_of(page) == ["a 1.0"]
    assert sorted(up(page).values()) == [0.0, 1.0]


# -- the label -----------------------------------------------------------------------------------


LABELS: dict[str, tuple[list[str], str | None, str]] = {
    "one directory": (["a"], None, 'g{pid="1"}'),
    "one directory that is named twice": (["a", "a"], None, 'g{pid="1"}'),
    "several": (["a", "b"], None, 'g{directory="A",pid="1"}'),
    "one with a label": (["a"], "app", 'g{app="A",pid="1"}'),
    "several with a label of one's own": (["a", "b"], "app", 'g{app="A",pid="1"}'),
}


@pytest.mark.parametrize(("names", "label", "expected"), LABELS.values(), ids=LABELS.keys())
def test_the_label_depends_on_the_configuration(
    tmp_path: Path, names: list[str], label: str | None, expected: str
) -> None:
    """A page with several directories, or a label that was asked for, has the label, always."""
    write_directories(tmp_path, {"a": {"gauge_all_1.db": [gauge("g", 1)]}})
    sources = [mpmetrics.DirectorySource(tmp_path / name, name=name.upper()) for name in names]
    page = mpmetrics.Page(sources, directory_label=label)
    assert lines_of(page) == [f"{expected} 1.0"]
    (tmp_path / "b").mkdir()
    assert lines_of(page) == [f"{expected} 1.0"]


@pytest.mark.parametrize("label", ["pid", "mpmetrics_process", "le", "__name__", "a-b", ""])
def test_a_label_that_is_taken_is_refused(tmp_path: Path, label: str) -> None:
    """The label may be none that a series of a process has already, or that is reserved."""
    with pytest.raises(mpmetrics.LabelError):
        mpmetrics.Page([tmp_path], directory_label=label)


def test_names_are_unique(tmp_path: Path) -> None:
    """Two directories of one name stay apart: the second gets a number, on the page, too."""
    for name in "ab":
        write_directories(tmp_path, {name: {"gauge_all_1.db": [gauge("g", 1)]}})
    page = mpmetrics.Page([mpmetrics.DirectorySource(tmp_path / name, name="x") for name in "ab"])
    assert lines_of(page) == ['g{directory="x",pid="1"} 1.0', 'g{directory="x-2",pid="1"} 1.0']
    assert up(page) == {"x": 1.0, "x-2": 1.0}


def test_a_number_that_is_taken_is_skipped() -> None:
    """The first to have a name keeps it, whatever the others are called."""
    assert unique_names(["a", "a", "a-2", "a", "b"]) == ["a", "a-2", "a-2-2", "a-3", "b"]


def test_a_sub_directory_keeps_its_name(tmp_path: Path) -> None:
    """Of two with one name, the second keeps its number when the first has gone or fails."""
    files = {"gauge_all_1.db": [gauge("g", 1)]}
    for name in ("named", "first", "second"):
        (tmp_path / name).mkdir()
        write_directories(tmp_path / name, {"web": files})
    page = mpmetrics.Page(
        [
            mpmetrics.DirectorySource(tmp_path / "named" / "web", name="web"),
            mpmetrics.SubdirectoriesSource(tmp_path / "first"),
            mpmetrics.SubdirectoriesSource(tmp_path / "second"),
        ],
        include="g",
    )

    def line(name: str) -> str:
        return f'g{{directory="{name}",pid="1"}} 1.0'

    assert sorted(lines_of(page)) == [line("web"), line("web-2"), line("web-3")]
    shutil.rmtree(tmp_path / "named" / "web")
    assert sorted(lines_of(page)) == [line("web-2"), line("web-3")]
    shutil.rmtree(tmp_path / "first" / "web")
    assert lines_of(page) == [line("web-3")]
    write_directories(tmp_path / "named", {"web": files})
    assert sorted(lines_of(page)) == [line("web"), line("web-3")]


def test_the_lost_and_found_of_a_file_system_is_no_container(tmp_path: Path) -> None:
    """A volume may have a directory at its top that only root can list."""
    write_directories(tmp_path, {"web": {"counter_1.db": [counter("c", 1)]}, "lost+found": {}})
    page = mpmetrics.Page(mpmetrics.SubdirectoriesSource(tmp_path, name="m"))
    assert up(page) == {"m": 1.0, "m/web": 1.0}


def test_a_name_is_stable(tmp_path: Path) -> None:
    """A directory that vanishes takes the name of no other one."""
    for name in "ab":
        write_directories(tmp_path, {name: {"gauge_all_1.db": [gauge("g", 1)]}})
    page = mpmetrics.Page([mpmetrics.DirectorySource(tmp_path / name, name="x") for name in "ab"])
    lines_of(page)
    shutil.rmtree(tmp_path / "a")
    assert lines_of(page) == ['g{directory="x-2",pid="1"} 1.0']
    assert os.listdir(tmp_path) == ["b"]
