"""Every intended difference from prometheus_client, with both sides.

`DIFFERENCES` are those of the merged values. Those of what the functions do to the process and to
the directory are tests of their own, below. Those of the text are in `test_directories`.
"""

from __future__ import annotations

import json
import logging
import math
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
from prometheus_client import (
    CollectorRegistry,
    Counter,
    generate_latest,
    make_wsgi_app,
    multiprocess,
)

import mpmetrics
from mpmetrics.exposition import Format, render_families
from tests import database
from tests.database import Entry, counter, gauge, histogram

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from prometheus_client import Metric

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
OLD_VARIABLE: Final = "prometheus_multiproc_dir"


class Difference(NamedTuple):
    """Files with entries, or with any bytes, and the pages of both sides.

    *theirs* and *ours* are the lines of the page without HELP; an exception stands for the whole
    page. *problems* are ours: names of files or families, and reasons.
    """

    files: Mapping[str, Sequence[Entry] | bytes]
    theirs: Sequence[str] | type[Exception]
    ours: Sequence[str]
    problems: Mapping[str, str]


GOOD: Final = [counter("good", 1)]
GOOD_LINES: Final = ["# TYPE good_total counter", "good_total 1.0"]

DIFFERENCES: Final = {
    # Theirs adds up counts at bounds that not every process has, which gives too small numbers.
    "bucket layouts that differ": Difference(
        {
            "histogram_1.db": histogram("h", {"1.0": 1, "5.0": 2, "+Inf": 3}, 10),
            "histogram_2.db": histogram("h", {"2.0": 10, "5.0": 20, "+Inf": 30}, 20),
        },
        [
            "# TYPE h histogram",
            'h_bucket{le="+Inf"} 66.0',
            'h_bucket{le="1.0"} 1.0',
            'h_bucket{le="2.0"} 11.0',
            'h_bucket{le="5.0"} 33.0',
            "h_count 66.0",
            "h_sum 30.0",
        ],
        [
            "# TYPE h histogram",
            'h_bucket{le="+Inf"} 66.0',
            'h_bucket{le="5.0"} 33.0',
            "h_count 66.0",
            "h_sum 30.0",
        ],
        {"histogram_2.db": "bucket_conflict"},
    ),
    # The buckets are made one by one: a reader may come when there are only some of them.
    "a histogram that is being made": Difference(
        {"histogram_1.db": histogram("h", {"1.0": 0})},
        ["# TYPE h histogram", 'h_bucket{le="1.0"} 0.0', "h_count 0.0", "h_sum 0.0"],
        [
            "# TYPE h histogram",
            'h_bucket{le="+Inf"} 0.0',
            'h_bucket{le="1.0"} 0.0',
            "h_count 0.0",
            "h_sum 0.0",
        ],
        {},
    ),
    "a histogram with a count and no bucket": Difference(
        {"histogram_1.db": [Entry("h", "h_sum", value=3), Entry("h", "h_count", value=2)]},
        ["# TYPE h histogram", "h_count 2.0", "h_sum 3.0"],
        ["# TYPE h histogram", 'h_bucket{le="+Inf"} 2.0', "h_count 2.0", "h_sum 3.0"],
        {},
    ),
    "a histogram with a sum and no bucket": Difference(
        {"histogram_1.db": [Entry("h", "h_sum", value=3)], "counter_1.db": GOOD},
        ["# TYPE h histogram", "h_sum 3.0", *GOOD_LINES],
        GOOD_LINES,
        {},
    ),
    # A sum that can fall is not to be exposed; theirs does not do so in a single process either.
    "a negative first bucket": Difference(
        {"histogram_1.db": histogram("h", {"-1.0": 2, "+Inf": 1}, -7)},
        [
            "# TYPE h histogram",
            'h_bucket{le="+Inf"} 3.0',
            'h_bucket{le="-1.0"} 2.0',
            "h_count 3.0",
            "h_sum -7.0",
        ],
        ["# TYPE h histogram", 'h_bucket{le="+Inf"} 3.0', 'h_bucket{le="-1.0"} 2.0', "h_count 3.0"],
        {},
    ),
    "a bucket bound that is no number": Difference(
        {"histogram_1.db": histogram("h", {"many": 1, "+Inf": 1}, 1), "counter_1.db": GOOD},
        ValueError,
        [
            *("# TYPE h histogram", 'h_bucket{le="+Inf"} 1.0', "h_count 1.0", "h_sum 1.0"),
            *GOOD_LINES,
        ],
        {"histogram_1.db": "odd_sample"},
    ),
    # Theirs puts the pid of the process in the place of the user's label ...
    "a label `pid` of the user's own": Difference(
        {
            "gauge_all_1.db": [
                gauge("g", 1, {"pid": "a"}),
                gauge("g", 2, {"pid": "b"}),
                gauge("g", 3),
            ]
        },
        ["# TYPE g gauge", 'g{pid="1"} 1.0', 'g{pid="1"} 2.0', 'g{pid="1"} 3.0'],
        ["# TYPE g gauge", 'g{pid="1"} 3.0', 'g{pid="a"} 1.0', 'g{pid="b"} 2.0'],
        {},
    ),
    # ... or takes it away, which makes one series of several.
    "a label `pid` where processes are merged": Difference(
        {"gauge_sum_1.db": [gauge("g", 1, {"pid": "a"}), gauge("g", 2, {"pid": "b"})]},
        ["# TYPE g gauge", "g 3.0"],
        ["# TYPE g gauge", 'g{pid="a"} 1.0', 'g{pid="b"} 2.0'],
        {},
    ),
    "a label `pid` with one value in two processes": Difference(
        {
            "gauge_all_1.db": [gauge("g", 1, {"pid": "a"})],
            "gauge_all_2.db": [gauge("g", 2, {"pid": "a"})],
        },
        ["# TYPE g gauge", 'g{pid="1"} 1.0', 'g{pid="2"} 2.0'],
        ["# TYPE g gauge", 'g{pid="a"} 2.0'],
        {"gauge_all_2.db": "duplicate_series"},
    ),
    # Theirs takes the id for what stands between the second underscore and the third, less ".db".
    "ids with underscores": Difference(
        {
            "gauge_all_worker_1.db": [gauge("g", 1)],
            "gauge_all_worker_2.db": [gauge("g", 2)],
        },
        ["# TYPE g gauge", 'g{pid="wor"} 2.0'],
        ["# TYPE g gauge", 'g{pid="worker_1"} 1.0', 'g{pid="worker_2"} 2.0'],
        {},
    ),
    "a mostrecent gauge that was never set": Difference(
        {"gauge_mostrecent_1.db": [gauge("g", 0)], "counter_1.db": GOOD},
        ["# TYPE g gauge", *GOOD_LINES],
        GOOD_LINES,
        {},
    ),
    "two mostrecent values of one time": Difference(
        {
            "gauge_mostrecent_1.db": [gauge("g", 1, timestamp=7)],
            "gauge_mostrecent_2.db": [gauge("g", 2, timestamp=7)],
        },
        ["# TYPE g gauge", "g 1.0"],
        ["# TYPE g gauge", "g 2.0"],
        {},
    ),
    # Theirs merges all of them by the mode of the file that it happens to read last.
    "two modes of one gauge": Difference(
        {"gauge_max_1.db": [gauge("g", 5)], "gauge_min_2.db": [gauge("g", 2)]},
        ["# TYPE g gauge", "g 2.0"],
        ["# TYPE g gauge", "g 5.0"],
        {"gauge_min_2.db": "mode_conflict"},
    ),
    "two types of one family": Difference(
        {"counter_1.db": [counter("x", 1)], "gauge_sum_1.db": [gauge("x", 2)]},
        ["# TYPE x_total counter", 'x{pid="1"} 2.0', "x_total 1.0"],
        ["# TYPE x_total counter", "x_total 1.0"],
        {"gauge_sum_1.db": "type_conflict"},
    ),
    "two families with the same sample": Difference(
        {"counter_1.db": [counter("x", 1)], "gauge_sum_1.db": [gauge("x_total", 2)]},
        ["# TYPE x_total counter", "# TYPE x_total gauge", "x_total 1.0", "x_total 2.0"],
        ["# TYPE x_total counter", "x_total 1.0"],
        {"x_total": "name_clash"},
    ),
    # A comparison with NaN is false, so that theirs depends on the order of the files.
    "NaN first in a minimum": Difference(
        {"gauge_min_1.db": [gauge("g", math.nan)], "gauge_min_2.db": [gauge("g", 2)]},
        ["# TYPE g gauge", "g NaN"],
        ["# TYPE g gauge", "g 2.0"],
        {},
    ),
    "NaN first in a maximum": Difference(
        {"gauge_max_1.db": [gauge("g", math.nan)], "gauge_max_2.db": [gauge("g", 2)]},
        ["# TYPE g gauge", "g NaN"],
        ["# TYPE g gauge", "g 2.0"],
        {},
    ),
    # Other writers leave out the suffix; theirs exposes another name than its header.
    "a counter's sample without its suffix": Difference(
        {"counter_1.db": [Entry("c", "c", value=1)]},
        ["# TYPE c_total counter", "c 1.0"],
        ["# TYPE c_total counter", "c_total 1.0"],
        {},
    ),
    "a counter's family with the suffix": Difference(
        {"counter_1.db": [Entry("c_total", "c_total", value=1)]},
        ["# TYPE c_total_total counter", "c_total 1.0"],
        ["# TYPE c_total counter", "c_total 1.0"],
        {},
    ),
    "a sample that its type does not have": Difference(
        {"counter_1.db": [*GOOD, Entry("good", "good_seconds", value=2)]},
        [*GOOD_LINES, "good_seconds 2.0"],
        GOOD_LINES,
        {"counter_1.db": "odd_sample"},
    ),
    # JSON can spell half of a character, UTF-8 cannot.
    "a label that is no text": Difference(
        {"counter_1.db": [*GOOD, counter("c", 1, {"of": "\udcff"})]},
        UnicodeEncodeError,
        ["# TYPE c_total counter", 'c_total{of="�"} 1.0', *GOOD_LINES],
        {},
    ),
    # -- files with other content than their names say, or with strange names -------------------
    "a stray file": Difference(
        {"backup.db": [counter("c", 1)], "counter_1.db": GOOD},
        ValueError,
        GOOD_LINES,
        {"backup.db": "stranger"},
    ),
    "a gauge without a mode": Difference(
        {"gauge_1.db": [gauge("g", 1)], "counter_1.db": GOOD},
        IndexError,
        GOOD_LINES,
        {"gauge_1.db": "stranger"},
    ),
    "a gauge of an unknown mode": Difference(
        {"gauge_median_1.db": [gauge("g", 1)], "counter_1.db": GOOD},
        ["# TYPE g gauge", 'g{pid="1"} 1.0', *GOOD_LINES],
        GOOD_LINES,
        {"gauge_median_1.db": "stranger"},
    ),
    "a file of a type that is not written": Difference(
        {"info_1.db": [Entry("i", "i_info", value=1)], "counter_1.db": GOOD},
        ["# TYPE i_info gauge", "i_info 1.0", *GOOD_LINES],
        GOOD_LINES,
        {"info_1.db": "stranger"},
    ),
    "a file without an id": Difference(
        {"counter.db": b"", "counter_.db": [counter("c", 1)], "counter_1.db": GOOD},
        struct.error,
        GOOD_LINES,
        {"counter.db": "stranger", "counter_.db": "stranger"},
    ),
    "a file with an empty id": Difference(
        {"counter_.db": [counter("c", 1)], "counter_1.db": GOOD},
        ["# TYPE c_total counter", "c_total 1.0", *GOOD_LINES],
        GOOD_LINES,
        {"counter_.db": "stranger"},
    ),
    "an SQLite file": Difference(
        {"app.db": b"SQLite format 3\0" + bytes(4080), "counter_1.db": GOOD},
        struct.error,
        GOOD_LINES,
        {"app.db": "stranger"},
    ),
    "an empty file": Difference(
        {"counter_1.db": b"", "counter_2.db": GOOD}, struct.error, GOOD_LINES, {}
    ),
    "a file that is cut short": Difference(
        {"counter_1.db": struct.pack("ii", 64, 0), "counter_2.db": GOOD},
        struct.error,
        GOOD_LINES,
        {"counter_1.db": "damaged"},
    ),
    "a length beyond the file": Difference(
        {"counter_1.db": struct.pack("iiii", 16, 0, 99, 0), "counter_2.db": GOOD},
        RuntimeError,
        GOOD_LINES,
        {"counter_1.db": "damaged"},
    ),
    "a key that is not UTF-8": Difference(
        {"counter_1.db": [Entry("", "", raw_key=b"\xff\xfe")], "counter_2.db": GOOD},
        UnicodeDecodeError,
        GOOD_LINES,
        {"counter_1.db": "damaged"},
    ),
    "a key that is not JSON": Difference(
        {"counter_1.db": [Entry("", "", raw_key=b"no")], "counter_2.db": GOOD},
        json.JSONDecodeError,
        GOOD_LINES,
        {"counter_1.db": "damaged"},
    ),
    "a label value that is no text": Difference(
        {
            "counter_1.db": [Entry("", "", raw_key=b'["c", "c_total", {"a": 1}, ""]')],
            "counter_2.db": GOOD,
        },
        AttributeError,
        GOOD_LINES,
        {"counter_1.db": "damaged"},
    ),
    "a label name that is reserved": Difference(
        {"counter_1.db": [counter("c", 1, {"__name__": "x"})], "counter_2.db": GOOD},
        ["# TYPE c_total counter", 'c_total{__name__="x"} 1.0', *GOOD_LINES],
        GOOD_LINES,
        {"counter_1.db": "damaged"},
    ),
    "an empty name": Difference(
        {"counter_1.db": [Entry("", "")], "counter_2.db": GOOD},
        ValueError,
        GOOD_LINES,
        {"counter_1.db": "damaged"},
    ),
    "a key of another shape": Difference(
        {"counter_1.db": [Entry("", "", raw_key=b"{}")], "counter_2.db": GOOD},
        ValueError,
        GOOD_LINES,
        {"counter_1.db": "damaged"},
    ),
}


class Families:
    """A collector that returns the families that it was made with."""

    def __init__(self, families: Iterable[Metric]) -> None:
        """Take the *families*."""
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Return the families."""
        return self._families


def lines_of(page: bytes) -> list[str]:
    """Return the sorted lines of a page without HELP."""
    return sorted(line for line in page.decode().splitlines() if not line.startswith("# HELP "))


def their_page(paths: Sequence[Path]) -> list[str]:
    """Return the lines of prometheus_client's page of these files, read in this order."""
    families = multiprocess.MultiProcessCollector.merge([str(path) for path in paths])
    return lines_of(generate_latest(Families(families)))


def our_page(paths: Sequence[Path]) -> list[str]:
    """Return the lines of our page of these files."""
    return lines_of(render_families(mpmetrics.MultiProcessCollector.merge(paths), Format()))


@pytest.mark.parametrize("name", DIFFERENCES)
def test_a_difference_is_as_listed(name: str, tmp_path: Path) -> None:
    """Both sides of a difference are as listed, and so are the problems that ours reports."""
    difference = DIFFERENCES[name]
    for file, content in difference.files.items():
        if isinstance(content, bytes):
            (tmp_path / file).write_bytes(content)
        else:
            database.write(tmp_path / file, content)
    paths = sorted(tmp_path.iterdir())
    theirs = difference.theirs
    if isinstance(theirs, type):
        with pytest.raises(theirs):
            their_page(paths)
    else:
        assert their_page(paths) == sorted(theirs)
    assert our_page(paths) == sorted(difference.ours)
    collection = mpmetrics.collect(tmp_path)
    assert lines_of(collection.render()) == sorted(difference.ours)
    reported = {Path(each.path).name: each.reason for each in collection.problems}
    assert reported == difference.problems


# -- the order of files --------------------------------------------------------------------------

SENSITIVE: Final = (
    "two modes of one gauge",
    "two types of one family",
    "two mostrecent values of one time",
    "NaN first in a minimum",
    "NaN first in a maximum",
)


@pytest.mark.parametrize("name", SENSITIVE)
def test_the_order_of_files_does_not_matter(name: str, tmp_path: Path) -> None:
    """Ours gives the same page for any order of files; theirs does not."""
    for file, content in DIFFERENCES[name].files.items():
        assert not isinstance(content, bytes)
        database.write(tmp_path / file, content)
    paths = sorted(tmp_path.iterdir())
    assert their_page(paths) != their_page(paths[::-1])
    assert our_page(paths) == our_page(paths[::-1])


def test_of_several_helps_the_first_by_file_name_is_kept(tmp_path: Path) -> None:
    """Ours keeps the HELP of the first file by name, theirs that of the first in the list."""
    for number, text in ((1, "One."), (2, "Two.")):
        entry = counter("c", number)._replace(help=text)
        database.write(tmp_path / f"counter_{number}.db", [entry])
    paths = sorted(tmp_path.iterdir())
    for files, theirs in ((paths, "One."), (paths[::-1], "Two.")):
        (family,) = multiprocess.MultiProcessCollector.merge([str(path) for path in files])
        assert (family.documentation, family.samples[0].value) == (theirs, 3)
        (family,) = mpmetrics.MultiProcessCollector.merge(files)
        assert (family.documentation, family.samples[0].value) == ("One.", 3)


# -- what the functions do to the process and to the directory -----------------------------------


def test_a_file_that_vanishes_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Ours leaves out any file that has vanished, with a warning; theirs only a live gauge's."""
    path = tmp_path / "counter_1.db"
    with pytest.raises(FileNotFoundError):
        multiprocess.MultiProcessCollector.merge([str(path)])
    assert mpmetrics.MultiProcessCollector.merge([path, tmp_path / "gauge_livesum_1.db"]) == []
    [record] = caplog.records
    assert record.getMessage().startswith(f"{path}: vanished: ")


def test_problems_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A collector in a registry logs each problem once, as a warning; theirs raises."""
    database.write(tmp_path / "counter_1.db", GOOD)
    (tmp_path / "backup.db").write_bytes(b"anything")
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    multiprocess.MultiProcessCollector(theirs, str(tmp_path))
    mpmetrics.MultiProcessCollector(ours, tmp_path)
    with pytest.raises(struct.error):
        generate_latest(theirs)
    for _ in range(2):
        assert lines_of(generate_latest(ours)) == GOOD_LINES
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("mpmetrics", logging.WARNING)
    assert "backup.db: stranger: " in record.getMessage()


def test_a_directory_that_vanishes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Both return an empty page if the directory vanishes later; ours logs why."""
    directory = tmp_path / "metrics"
    directory.mkdir()
    theirs = multiprocess.MultiProcessCollector(None, str(directory))
    ours = mpmetrics.MultiProcessCollector(None, directory)
    directory.rmdir()
    assert not list(theirs.collect())
    assert not list(ours.collect())
    assert [record.getMessage() for record in caplog.records] == [
        f"{directory}: unreadable: No such file or directory"
    ]


def test_the_name_of_the_directory_is_no_pattern(tmp_path: Path) -> None:
    """Brackets in the directory's name are ordinary characters to ours, a pattern to theirs."""
    directory = tmp_path / "[metrics]"
    directory.mkdir()
    file = database.write(directory / "gauge_livesum_1.db", [gauge("g", 1)])
    assert not list(multiprocess.MultiProcessCollector(None, str(directory)).collect())
    assert list(mpmetrics.MultiProcessCollector(None, directory).collect())
    multiprocess.mark_process_dead(1, str(directory))
    assert file.exists()
    mpmetrics.mark_process_dead(1, directory)
    assert not file.exists()


def test_the_id_of_the_dead_is_no_pattern(tmp_path: Path) -> None:
    """A star in an id is an ordinary character to ours; theirs removes files of live workers."""
    file = database.write(tmp_path / "gauge_livesum_worker-1.db", [gauge("g", 1)])
    mpmetrics.mark_process_dead("worker-*", tmp_path)
    assert file.exists()
    multiprocess.mark_process_dead("worker-*", str(tmp_path))
    assert not file.exists()


@pytest.fixture
def old_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory that is named by the lower-case variable only."""
    # First set, then deleted, so that it is restored whatever is set meanwhile.
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv(OLD_VARIABLE, str(tmp_path))
    return tmp_path


def test_the_deprecated_variable_always_gives_a_warning(
    old_variable: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """Marking a process as dead by the old variable gives a warning with ours only."""
    multiprocess.mark_process_dead(1)
    assert len(recwarn) == 0
    with pytest.warns(DeprecationWarning, match=OLD_VARIABLE):
        mpmetrics.mark_process_dead(1)
    assert old_variable.exists()


def test_without_any_directory_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a directory ours raises `ValueError` with the variable's name, theirs `TypeError`."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.delenv(OLD_VARIABLE, raising=False)
    with pytest.raises(TypeError):
        multiprocess.mark_process_dead(1)
    with pytest.raises(ValueError, match=VARIABLE):
        mpmetrics.mark_process_dead(1)


def test_no_names_are_claimed_at_registration(tmp_path: Path) -> None:
    """A registry that describes claims the directory's names with theirs, none with ours."""
    database.write(tmp_path / "counter_1.db", [counter("c", 1)])
    for collector, refused in (
        (multiprocess.MultiProcessCollector, True),
        (mpmetrics.MultiProcessCollector, False),
    ):
        registry = CollectorRegistry(auto_describe=True)
        collector(registry, str(tmp_path))
        if refused:
            with pytest.raises(ValueError, match="Duplicated"):
                Counter("c", "", registry=registry)
        else:
            Counter("c", "", registry=registry)


def test_merged_families_can_be_counted(tmp_path: Path) -> None:
    """Merging returns a list sorted by name with ours, a view of a dictionary with theirs."""
    database.write(tmp_path / "counter_1.db", [counter("b", 1), counter("a", 1)])
    paths = [str(path) for path in tmp_path.iterdir()]
    theirs: Any = multiprocess.MultiProcessCollector.merge(paths)
    assert [family.name for family in theirs] == ["b", "a"]
    ours = mpmetrics.MultiProcessCollector.merge(paths)
    assert [family.name for family in ours] == ["a", "b"]
    assert ours[0].samples[0].name == "a_total"


def request(application: Any, method: str, query: str = "") -> tuple[str, bytes]:
    """Request a page of a WSGI application; return status and body."""
    statuses: list[str] = []
    environ = {"REQUEST_METHOD": method, "PATH_INFO": "/metrics", "QUERY_STRING": query}
    body = b"".join(application(environ, lambda status, _headers: statuses.append(status)))
    return statuses[0][:3], body


def test_the_applications_differ(tmp_path: Path) -> None:
    """Ours serves HEAD, answers OPTIONS without content, and filters by names of families."""
    database.write(tmp_path / "counter_1.db", GOOD)
    registry = CollectorRegistry(support_collectors_without_names=True)
    multiprocess.MultiProcessCollector(registry, str(tmp_path))
    theirs = make_wsgi_app(registry)
    ours = mpmetrics.make_wsgi_app(mpmetrics.Page(tmp_path, exclude="mpmetrics_"))
    assert request(theirs, "GET") == request(ours, "GET")
    assert request(theirs, "GET", "name[]=good_total") == request(ours, "GET", "name[]=good_total")
    assert request(theirs, "HEAD")[0] == "405"
    assert request(ours, "HEAD") == ("200", b"")
    assert request(theirs, "OPTIONS")[0] == "200"
    assert request(ours, "OPTIONS")[0] == "204"
    assert request(theirs, "GET", "name[]=good") == ("200", b"")
    assert request(ours, "GET", "name[]=good") == request(ours, "GET")
