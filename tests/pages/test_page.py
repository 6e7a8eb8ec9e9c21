"""One page from several sources, none of which can spoil it for the others."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

import mpmetrics
from mpmetrics.errors import FilterError, LabelError, SourceError
from mpmetrics.pages import DirectorySource, Gathered, RegistrySource, TextSource, UrlSource
from tests.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mpmetrics.pages import SourceLike


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory in which two workers counted, which tests must not change."""
    path = tmp_path_factory.mktemp("written")
    with Worker(path) as first, Worker(path) as second:
        for worker in (first, second):
            worker.do("Counter('vllm:requests', 'Requests.', ['model']).labels('m').inc(2)")
            worker.do("Histogram('lmcache:latency', '', buckets=(1, 2)).observe(1)")
            worker.do("Gauge('busy', '', multiprocess_mode='sum').set(1)")
    return path


@pytest.fixture
def directory(written: Path, tmp_path: Path) -> Path:
    """Return a directory in which two workers counted."""
    return Path(shutil.copytree(written, tmp_path / "metrics"))


MERGED = {
    'vllm:requests_total{model="m"}': "4.0",
    'lmcache:latency_bucket{le="1.0"}': "2.0",
    'lmcache:latency_bucket{le="2.0"}': "2.0",
    'lmcache:latency_bucket{le="+Inf"}': "2.0",
    "lmcache:latency_count": "2.0",
    "lmcache:latency_sum": "2.0",
    "busy": "2.0",
}


def shown(page: mpmetrics.Page | bytes, about: str = "") -> dict[str, str]:
    """Return the values of a page by series, without its self-metrics.

    The page must be valid: it parses in both formats, and has nothing twice. With *about*, return
    those self-metrics whose name begins with it instead.
    """
    text = (page.render() if isinstance(page, mpmetrics.Page) else page).decode()
    list(text_string_to_metric_families(text))
    if isinstance(page, mpmetrics.Page):
        list(parse_openmetrics(page.render(openmetrics=True).decode()))
        names = [family.name for family in page.families()]
        assert names == sorted(set(names))
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    assert len({series for series, _, _ in lines}) == len(lines)
    for comment in ("# HELP ", "# TYPE "):
        headed = [line.split()[2] for line in text.splitlines() if line.startswith(comment)]
        assert len(set(headed)) == len(headed)
    if about:
        return {series: value for series, _, value in lines if series.startswith(about)}
    return {
        series: value
        for series, _, value in lines
        if not series.startswith("mpmetrics_") and "_created" not in series
    }


def up(page: mpmetrics.Page) -> dict[str, str]:
    """Return which sources are up according to the page, by name."""
    about = shown(page, "mpmetrics_source_up")
    return {series.partition('"')[2].rpartition('"')[0]: value for series, value in about.items()}


def registry_with(*collectors: Any) -> CollectorRegistry:
    """Return a registry that has these collectors."""
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return registry


# -- union ---------------------------------------------------------------------------------------


def test_sources_are_joined(directory: Path) -> None:
    """A page has the families of all its sources: directory, registry, text, other collectors."""
    registry = CollectorRegistry()
    Counter("own", "", registry=registry).inc()
    Info("build", "", registry=registry).info({"version": "1"})
    page = mpmetrics.Page(
        [
            directory,
            registry,
            lambda: "# TYPE told gauge\ntold 3\n",
            registry_with(Constant(GaugeMetricFamily("collected", "", 4))),
        ]
    )
    assert shown(page) == {
        **MERGED,
        "own_total": "1.0",
        'build_info{version="1"}': "1.0",
        "told": "3.0",
        "collected": "4.0",
    }


class Constant:
    """A collector that always yields the same families, and raises those that are exceptions."""

    def __init__(self, *families: Any) -> None:
        """Give these *families*."""
        self.families = families

    def describe(self) -> Iterable[Metric]:
        """Return no families, so that no names are claimed."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Yield what was given; an exception is raised."""
        for family in self.families:
            if isinstance(family, BaseException):
                raise family
            yield family


@pytest.mark.parametrize("registry_first", [True, False])
def test_the_merged_view_wins_whole_families(directory: Path, *, registry_first: bool) -> None:
    """Of a family that the directory and this process have, the process's share is not shown."""
    registry = CollectorRegistry()
    share = Counter("vllm:requests", "Other help.", ["model"], registry=registry)
    share.labels("m").inc()
    share.labels("only here").inc()
    Histogram("lmcache:latency", "", registry=registry, buckets=(5,)).observe(1)
    Gauge("own", "", registry=registry).set(7)
    sources: list[SourceLike]
    sources = [registry, directory] if registry_first else [directory, registry]
    page = mpmetrics.Page(sources)
    assert shown(page) == {**MERGED, "own": "7.0"}
    assert shown(page, "mpmetrics_families_shadowed") == {"mpmetrics_families_shadowed": "2.0"}


def test_a_collector_of_the_same_directory_is_not_read_twice(directory: Path) -> None:
    """A registry whose collector reads a directory of the page does not give it a second time."""
    registry = registry_with()
    mpmetrics.MultiProcessCollector(registry, directory)
    Gauge("own", "", registry=registry).set(7)
    link = directory.with_name("link")
    link.symlink_to(directory)
    assert shown(mpmetrics.Page([directory, registry])) == {**MERGED, "own": "7.0"}
    assert shown(mpmetrics.Page([registry, link])) == {**MERGED, "own": "7.0"}
    assert shown(mpmetrics.Page(registry)) == {**MERGED, "own": "7.0"}


def test_two_directories_are_joined(directory: Path, tmp_path: Path) -> None:
    """Series of two directories stand side by side under one HELP and TYPE."""
    other = tmp_path / "other"
    other.mkdir()
    with Worker(other) as worker:
        worker.do("Counter('vllm:requests', 'Other help.', ['model']).labels('n').inc(9)")
    page = mpmetrics.Page([directory, other])
    assert shown(page) == {**MERGED, 'vllm:requests_total{model="n"}': "9.0"}


def test_of_equal_series_the_first_is_kept() -> None:
    """A series that two exporters have is on the page once, with the value of the first."""
    first, second = "# TYPE a gauge\na 1\nb 1\n", '# TYPE a gauge\na 2\na{x="y"} 2\n'
    page = mpmetrics.Page([TextSource(lambda: first, "1"), TextSource(lambda: second, "2")])
    assert shown(page) == {"a": "1.0", 'a{x="y"}': "2.0", "b": "1.0"}
    assert set(up(page).values()) == {"1.0"}


def test_families_of_two_types_are_reported() -> None:
    """The first source decides the type of a family; series of another lose theirs."""
    first, second = "# TYPE a gauge\na 1\n", "# TYPE a summary\na_sum 2\na_count 2\n"
    page = mpmetrics.Page([TextSource(lambda: first, "1"), TextSource(lambda: second, "2")])
    assert shown(page) == {"a": "1.0", "a_sum": "2.0", "a_count": "2.0"}
    assert shown(page, "mpmetrics_problems") == {
        'mpmetrics_problems_total{reason="type_conflict"}': "1.0"
    }


def test_families_that_share_sample_names_are_reported() -> None:
    """Of a gauge `a_count` and a summary `a`, which share a name, all series are kept."""
    text = "# TYPE a summary\na_sum 2\na_count 2\n"
    gauge = GaugeMetricFamily("a_count", "", labels=["b"])
    gauge.add_metric(["c"], 5)
    page = mpmetrics.Page([lambda: text, registry_with(Constant(gauge))])
    assert shown(page) == {"a_sum": "2.0", "a_count": "2.0", 'a_count{b="c"}': "5.0"}
    assert shown(page, "mpmetrics_problems") == {
        'mpmetrics_problems_total{reason="name_clash"}': "1.0"
    }


def test_a_time_of_creation_is_there_once() -> None:
    """The family that the text format makes of `_created` is not there a second time."""
    registry = CollectorRegistry()
    Counter("a", "", registry=registry).inc()
    text = '# TYPE a counter\na_total{b="c"} 1\n# TYPE a_created gauge\na_created 7\n'
    page = mpmetrics.Page([registry, lambda: text])
    assert shown(page) == {"a_total": "1.0", 'a_total{b="c"}': "1.0"}
    assert page.render().count(b"\n# TYPE a_created") == 1
    text = text.replace("a counter", "a_total counter")
    assert shown(page) == {"a_total": "1.0", 'a_total{b="c"}': "1.0"}
    assert b"\na_created 7.0\n" in mpmetrics.Page(lambda: text).render()


def test_families_without_samples_are_not_exposed() -> None:
    """A family without a value has no header either."""
    registry = CollectorRegistry()
    Counter("unused", "", ["label"], registry=registry)
    page = mpmetrics.Page(registry)
    assert b"unused" not in page.render()
    assert b"unused" not in page.render(openmetrics=True)


def test_nothing_at_all_is_a_page(tmp_path: Path) -> None:
    """A page without sources, or of an empty directory, has its self-metrics only."""
    assert shown(mpmetrics.Page([])) == {}
    page = mpmetrics.Page(tmp_path)
    assert shown(page) == {}
    assert up(page) == {str(tmp_path): "1.0"}
    assert mpmetrics.Page([], include="none").render() == b""
    assert mpmetrics.Page([], include="none").render(openmetrics=True) == b"# EOF\n"


# -- filters and labels --------------------------------------------------------------------------


class Filter(NamedTuple):
    """Filters and the families that pass them."""

    include: Any
    exclude: Any
    passed: set[str]


FAMILIES = {"busy", "lmcache:latency", "vllm:requests"}


@pytest.mark.parametrize(
    "each",
    [
        Filter((), "mpmetrics_", FAMILIES),
        Filter("vllm:", (), {"vllm:requests"}),
        Filter(["vllm:"], None, {"vllm:requests"}),
        Filter(("vllm:", "lmcache:"), [], {"vllm:requests", "lmcache:latency"}),
        Filter({"vllm:", "bus"}, "vllm:", {"busy"}),
        Filter("vllm:requests_total", "busy", {"vllm:requests"}),
        Filter("lmcache:latency_bucket", (), set()),
        Filter("lmcache:latency", "lmcache:latency_sum", {"lmcache:latency"}),
        Filter((), ["vllm:", "lmcache:", "mpmetrics_"], {"busy"}),
        Filter("vllm:", "vllm:", set()),
        Filter("VLLM:", (), set()),
        Filter((each for each in ["busy", "nothing"]), (), {"busy"}),
    ],
)
def test_families_pass_by_prefix(directory: Path, each: Filter) -> None:
    """Prefixes are a string or several, exclude beats include, and no family is cut in two."""
    page = mpmetrics.Page(directory, each.include, each.exclude)
    assert {family.name for family in page.families()} == each.passed
    expected = {
        series: value
        for series, value in MERGED.items()
        if any(series.startswith(name) for name in each.passed)
    }
    assert shown(page.render()) == expected


@pytest.mark.parametrize("wrong", ["", [""], [None], [b"vllm:"], 1])
def test_a_filter_that_cannot_be_meant_is_refused(wrong: Any) -> None:
    """A page refuses an empty prefix, which would match everything, before any scrape."""
    with pytest.raises((FilterError, TypeError)):
        mpmetrics.Page([], include=wrong)
    with pytest.raises((FilterError, TypeError)):
        mpmetrics.Page([], exclude=wrong)


def test_labels_are_added_to_every_series(directory: Path) -> None:
    """Labels of a page are added to every series that has no label of that name."""
    registry = CollectorRegistry()
    Gauge("own", "", registry=registry).set(7)
    page = mpmetrics.Page([directory, registry], "vllm:", labels={"model": "x", "host": 'a"b'})
    assert shown(page) == {'vllm:requests_total{host="a\\"b",model="m"}': "4.0"}
    page = mpmetrics.Page([directory, registry], ["lmcache:", "own"], labels={"zone": "x"})
    assert shown(page) == {
        'lmcache:latency_bucket{le="1.0",zone="x"}': "2.0",
        'lmcache:latency_bucket{le="2.0",zone="x"}': "2.0",
        'lmcache:latency_bucket{le="+Inf",zone="x"}': "2.0",
        'lmcache:latency_count{zone="x"}': "2.0",
        'lmcache:latency_sum{zone="x"}': "2.0",
        'own{zone="x"}': "7.0",
    }


def test_families_and_text_agree(directory: Path) -> None:
    """The families of a page have the labels and values of its text."""
    page = mpmetrics.Page(directory, exclude="mpmetrics_", labels={"zone": "x"})
    parsed = text_string_to_metric_families(page.render().decode())

    def plain(families: Iterable[Metric]) -> set[tuple[Any, ...]]:
        return {
            (family.name, family.type, sample.name, *sorted(sample.labels.items()), sample.value)
            for family in families
            for sample in family.samples
        }

    assert plain(page.families()) == plain(parsed)


@pytest.mark.parametrize(
    "wrong", ["le", "quantile", "__name__", "__x", "", "a-b", "1a", "ä", "a b", None]
)
def test_labels_that_may_not_be_added_are_refused(wrong: Any) -> None:
    """A page refuses label names that are reserved or invalid, before any scrape."""
    with pytest.raises(LabelError):
        mpmetrics.Page([], labels={wrong: "x"})


@pytest.mark.parametrize("wrong", [None, 1, b"x"])
def test_label_values_must_be_text(wrong: Any) -> None:
    """A page refuses a label value that is no string, before any scrape."""
    with pytest.raises(LabelError):
        mpmetrics.Page([], labels={"zone": wrong})


# -- fault isolation -----------------------------------------------------------------------------


class Broken:
    """A source that always fails."""

    name = "broken"
    in_process = False

    def __init__(self, error: Exception) -> None:
        """Fail with *error*."""
        self.error = error

    def gather(self) -> Gathered:
        """Fail."""
        raise self.error


@pytest.mark.parametrize(
    "error", [RuntimeError("no"), OSError(5, "no"), RecursionError(), MemoryError(), KeyError(1)]
)
def test_a_source_that_raises_costs_itself_only(directory: Path, error: Exception) -> None:
    """A page without a failed source is served and reports it, every time in the same way."""
    source = Broken(error)
    page = mpmetrics.Page([source, directory])
    for _ in range(3):
        assert shown(page) == MERGED
    assert up(page) == {"broken": "0.0", str(directory): "1.0"}
    # One trouble, however often it was met.
    assert shown(page, "mpmetrics_problems") == {
        'mpmetrics_problems_total{reason="source_failed"}': "1.0"
    }


def gauge(**wrong: Any) -> Metric:
    """Return a gauge that has something *wrong* with it."""
    family = GaugeMetricFamily("wrong", "", 1)
    for name, value in wrong.items():
        setattr(family, name, value)
    return family


NONSENSE: dict[str, Any] = {
    "nothing": None,
    "a number": 7,
    "text": "family",
    "no name": gauge(name=None),
    "a name of another type": gauge(name=["x"]),
    "an unknown type": gauge(type="teapot"),
    "a type of another type": gauge(type=["gauge"]),
    "no help": gauge(documentation=None),
    "samples that are none": gauge(samples=7),
    "a sample that is none": gauge(samples=[None]),
    "no name of a sample": gauge(samples=[Sample(None, {}, 1)]),  # type: ignore[arg-type]
    "no labels": gauge(samples=[Sample("wrong", None, 1)]),  # type: ignore[arg-type]
    "no name of a label": gauge(samples=[Sample("wrong", {None: "x"}, 1)]),  # type: ignore[dict-item]
    "a value that is text": gauge(samples=[Sample("wrong", {}, "much")]),  # type: ignore[arg-type]
    "no value": gauge(samples=[Sample("wrong", {}, None)]),  # type: ignore[arg-type]
    "a time that is text": gauge(samples=[Sample("wrong", {}, 1, "now")]),  # type: ignore[arg-type]
    "an exemplar that is text": gauge(
        name="wrong_total",
        type="counter",
        samples=[Sample("wrong_total", {}, 1, None, "x")],  # type: ignore[arg-type]
    ),
}


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_a_collector_that_gives_nonsense_costs_itself_only(directory: Path, nonsense: str) -> None:
    """An object that is no family, or a broken one, is left out and reported."""
    first, last = GaugeMetricFamily("aaa", "", 1), GaugeMetricFamily("zzz", "", 1)
    broken = registry_with(Constant(last, NONSENSE[nonsense], first))
    page = mpmetrics.Page([directory, RegistrySource(broken, "broken")])
    for _ in range(2):
        assert shown(page) == {**MERGED, "aaa": "1.0", "zzz": "1.0"}
    problems = shown(page, "mpmetrics_problems")
    assert problems == {'mpmetrics_problems_total{reason="source_failed"}': "1.0"}
    assert up(page) == {str(directory): "1.0", "broken": "0.0"}


def test_a_registry_with_one_broken_collector_keeps_the_rest(directory: Path) -> None:
    """Families before the broken collector are served; the page reports that some are missing."""
    first = Constant(GaugeMetricFamily("first", "", 1))
    broken = Constant(GaugeMetricFamily("second", "", 2), RuntimeError("no"))
    last = Constant(GaugeMetricFamily("third", "", 3))
    registry = registry_with(first, broken, last)
    page = mpmetrics.Page([directory, registry])
    assert shown(page) == {**MERGED, "first": "1.0", "second": "2.0"}
    assert up(page) == {str(directory): "1.0", "registry": "0.0"}


@pytest.mark.parametrize(
    "text",
    [
        "no metrics here",
        "<html><body>Not found</body></html>",
        b"\xff\xfe",
        b"# TYPE a gauge\na \xff\n",
        None,
        7,
        ["a 1"],
        "a{ 1\n",
        "a one\n",
        '{"json": true}',
        '{"json": 1}',
        "# TYPE a gauge\na 1\n# EOF\nb 2\n# EOF\n",
        "# TYPE a teapot\na 1\n",
        "\x00",
        "a\x00 1\n",
    ],
    ids=repr,
)
def test_a_text_that_is_none_costs_itself_only(directory: Path, text: Any) -> None:
    """A callback that returns garbage has failed; the rest of the page is served."""
    page = mpmetrics.Page([TextSource(lambda: text, "text"), directory])
    assert shown(page) == MERGED
    assert up(page) == {"text": "0.0", str(directory): "1.0"}


@pytest.mark.parametrize(
    "text", ["", "\n\n", "# a comment\n", b"", "# EOF\n", "# TYPE a gauge\n"], ids=repr
)
def test_an_empty_text_is_no_failure(text: str | bytes) -> None:
    """A source whose text has no families is up."""
    page = mpmetrics.Page(TextSource(lambda: text, "text"))
    assert shown(page) == {}
    assert up(page) == {"text": "1.0"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"# TYPE a counter\na_total 1\n", {"a_total": "1.0"}),
        ("# TYPE a_total counter\r\na_total 1\r\n", {"a_total": "1.0"}),
        ("# TYPE a counter\na_total 1\n# EOF\n", {"a_total": "1.0"}),
        ('# TYPE a counter\na_total 1.0 # {t="x"} 1\n# EOF', {"a_total": "1.0"}),
        ("a 1", {"a": "1.0"}),
        ('a{b="\\"\\\\\\n"} NaN\n', {'a{b="\\"\\\\\\n"}': "NaN"}),
        ("# TYPE a untyped\na +Inf\n", {"a": "+Inf"}),
        ("a 1 1700000000000\n", {"a 1.0": "1700000000000"}),
        (
            '# TYPE a summary\na{quantile="0.5"} 1\na_sum 1\na_count 1\n',
            {'a{quantile="0.5"}': "1.0", "a_sum": "1.0", "a_count": "1.0"},
        ),
        (
            '# TYPE a histogram\na_bucket{le="1"} 1\na_bucket{le="+Inf"} 2\na_sum 3\na_count 2\n',
            {
                'a_bucket{le="1"}': "1.0",
                'a_bucket{le="+Inf"}': "2.0",
                "a_sum": "3.0",
                "a_count": "2.0",
            },
        ),
    ],
)
def test_a_text_in_either_format_is_a_source(text: str | bytes, expected: dict[str, str]) -> None:
    """A text source takes text or bytes, in both formats, with or without a last line end."""
    page = mpmetrics.Page(TextSource(lambda: text, "text"), exclude="mpmetrics_")
    assert shown(page.render()) == expected


def test_a_missing_directory_is_a_failed_source(tmp_path: Path) -> None:
    """The source of a missing directory is down until the directory is there."""
    missing = tmp_path / "missing"
    page = mpmetrics.Page([missing, lambda: "a 1\n"])
    assert shown(page) == {"a": "1.0"}
    assert up(page)[str(missing)] == "0.0"
    missing.mkdir()
    assert up(page)[str(missing)] == "1.0"


def test_a_failed_source_is_seen_among_others_of_its_name() -> None:
    """Of two registries with one name, the second has a number: the page says which has failed."""
    broken, sound = registry_with(Constant(ValueError())), registry_with()
    assert up(mpmetrics.Page([broken, sound])) == {"registry": "0.0", "registry-2": "1.0"}
    assert up(mpmetrics.Page([sound, broken])) == {"registry": "1.0", "registry-2": "0.0"}


@pytest.mark.parametrize("wrong", [None, 7, "ftp://host/metrics", "file:///etc/passwd", object()])
def test_what_is_no_source_is_refused(wrong: Any) -> None:
    """A page refuses an object that stands for no source, before any scrape."""
    with pytest.raises(SourceError):
        mpmetrics.Page([wrong])


def test_only_http_urls_are_fetched() -> None:
    """A URL source refuses other schemes, which could read files of this machine."""
    with pytest.raises(SourceError):
        UrlSource("file:///etc/passwd")


# -- self-metrics -------------------------------------------------------------------------------


def test_self_metrics(directory: Path) -> None:
    """A page reports its files, processes, bytes, sources, duration and problems."""
    (directory / "stranger.db").touch()
    (directory / "counter_damaged.db").write_bytes(b"\1")
    page = mpmetrics.Page([directory, lambda: "a 1\n"])
    about = shown(page, "mpmetrics_")
    duration = float(about.pop("mpmetrics_scrape_duration_seconds"))
    assert 0 < duration < 10
    on_disk = sum(path.stat().st_blocks * 512 for path in directory.glob("*_[0-9]*.db"))
    assert float(about.pop("mpmetrics_directory_bytes")) == on_disk
    assert float(about.pop("mpmetrics_directory_free_bytes")) > 0
    assert float(about.pop("mpmetrics_directory_free_inodes", "1")) > 0
    assert about == {
        'mpmetrics_files{kind="counter"}': "2.0",
        'mpmetrics_files{kind="gauge"}': "2.0",
        'mpmetrics_files{kind="histogram"}': "2.0",
        'mpmetrics_processes{state="unknown"}': "2.0",
        "mpmetrics_families_shadowed": "0.0",
        'mpmetrics_problems_total{reason="damaged"}': "1.0",
        'mpmetrics_problems_total{reason="stranger"}': "1.0",
        f'mpmetrics_source_up{{source="{directory}"}}': "1.0",
        'mpmetrics_source_up{source="<lambda>"}': "1.0",
    }


def test_problems_are_counted_when_they_come_up(directory: Path) -> None:
    """A problem that lasts counts once; one that comes back counts again."""
    page = mpmetrics.Page(directory)
    stranger = directory / "stranger.db"

    def count() -> str | None:
        return shown(page, "mpmetrics_problems").get('mpmetrics_problems_total{reason="stranger"}')

    assert count() is None
    stranger.touch()
    assert [count(), count()] == ["1.0", "1.0"]
    stranger.unlink()
    assert count() == "1.0"
    stranger.touch()
    assert count() == "2.0"


def test_a_page_may_have_another_page_as_a_source(directory: Path) -> None:
    """A page of a page has each family and series once, the self-metrics of both included."""
    inner = mpmetrics.Page(directory)
    outer = mpmetrics.Page([TextSource(inner.render, "inner"), lambda: "a 1\n"])
    assert shown(outer) == {**MERGED, "a": "1.0"}
    assert up(outer) == {"inner": "1.0", "<lambda>": "1.0", str(directory): "1.0"}


def test_the_directory_source_is_not_needed_to_exist(tmp_path: Path) -> None:
    """A `DirectorySource` can be made before its directory, and is down until then."""
    source = DirectorySource(tmp_path / "later")
    page = mpmetrics.Page(source)
    assert up(page) == {source.name: "0.0"}


FORMATS: list[Callable[[mpmetrics.Page], bytes]] = [
    lambda page: page.render(),
    lambda page: page.render(openmetrics=True),
]


@pytest.mark.parametrize("render", FORMATS, ids=["text", "openmetrics"])
def test_colons_are_kept(directory: Path, render: Callable[[mpmetrics.Page], bytes]) -> None:
    """HELP, TYPE and samples of `vllm:` names agree in both formats."""
    text = render(mpmetrics.Page(directory, "vllm:")).decode()
    name = "vllm:requests" if text.endswith("# EOF\n") else "vllm:requests_total"
    assert text.removesuffix("# EOF\n") == (
        f'# HELP {name} Requests.\n# TYPE {name} counter\nvllm:requests_total{{model="m"}} 4.0\n'
    )
