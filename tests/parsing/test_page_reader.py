"""Families that are made of a page, with the names that the page has, and its limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.samples import Exemplar, Sample

from mpmetrics.errors import PageError
from mpmetrics.parsing import Limits, PageReader, parse_page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpmetrics.parsing import ParsedPage

TEXT, OPENMETRICS = False, True


def read(*pieces: str | bytes, openmetrics: bool = False, limits: Any = None) -> ParsedPage:
    """Return the page of all *pieces*."""
    reader = PageReader(openmetrics=openmetrics, limits=limits)
    for piece in pieces:
        reader.feed(piece)
    return reader.finish()


def shape(page: ParsedPage) -> dict[str, tuple[str, str, Sequence[str]]]:
    """Return name, type and the names of the samples of each family, by its first sample."""
    return {
        family.samples[0].name: (family.name, family.type, [each.name for each in family.samples])
        for family in page.families
    }


FAMILIES: dict[str, tuple[bool, str, dict[str, tuple[str, str, Sequence[str]]]]] = {
    "a counter of text": (
        TEXT,
        "# TYPE a_total counter\na_total 1\n",
        {"a_total": ("a", "counter", ["a_total"])},
    ),
    "a counter of text without a suffix": (
        TEXT,
        "# TYPE hits counter\nhits 5\nhits_total 7\n",
        {
            "hits": ("hits", "counter", ["hits"]),
            "hits_total": ("hits_total", "unknown", ["hits_total"]),
        },
    ),
    "a counter that is only a suffix": (
        TEXT,
        "# TYPE _total counter\n_total 1\n",
        {"_total": ("_total", "counter", ["_total"])},
    ),
    "a histogram in pieces, declared at the end": (
        TEXT,
        "h_sum 1\nx 1\nh_count 1\nh_bucket 1\n# TYPE h histogram\n",
        {
            "h_sum": ("h", "histogram", ["h_sum", "h_count", "h_bucket"]),
            "x": ("x", "unknown", ["x"]),
        },
    ),
    "a sample that its type does not have": (
        TEXT,
        "# TYPE h histogram\nh_sum 1\nh 2\n",
        {"h_sum": ("h", "histogram", ["h_sum", "h"])},
    ),
    "an own declaration beats a suffix": (
        TEXT,
        "# TYPE s summary\ns_sum 1\ns_count 2\n# TYPE s_count gauge\n",
        {"s_sum": ("s", "summary", ["s_sum"]), "s_count": ("s_count", "gauge", ["s_count"])},
    ),
    "of two types the first": (
        TEXT,
        '# TYPE a gauge\na 1\n# TYPE a counter\na{b="c"} 2\n',
        {"a": ("a", "gauge", ["a", "a"])},
    ),
    "a counter of OpenMetrics": (
        OPENMETRICS,
        "# TYPE a counter\na_total 1\na_created 2\n# EOF",
        {"a_total": ("a", "counter", ["a_total", "a_created"])},
    ),
    "a counter called with its suffix": (
        OPENMETRICS,
        "# TYPE bar_total counter\nbar_total 1\n# EOF\n",
        {"bar_total": ("bar", "counter", ["bar_total"])},
    ),
    "a gauge and a counter of one name": (
        OPENMETRICS,
        "# TYPE a gauge\na 1\n# TYPE a counter\na_total 2\n# EOF\n",
        {"a": ("a", "gauge", ["a"]), "a_total": ("a", "counter", ["a_total"])},
    ),
    "an info with and without its suffix": (
        OPENMETRICS,
        "# TYPE a info\na_info 1\n# TYPE b_info info\nb_info 1\n# TYPE c info\nc 1\n# EOF\n",
        {
            "a_info": ("a", "info", ["a_info"]),
            "b_info": ("b", "info", ["b_info"]),
            "c": ("c", "unknown", ["c"]),
        },
    ),
    "a gauge histogram and a state set": (
        OPENMETRICS,
        "# TYPE g gaugehistogram\ng_bucket 1\ng_gsum 1\n# TYPE s stateset\ns 1\n# EOF\n",
        {
            "g_bucket": ("g", "gaugehistogram", ["g_bucket", "g_gsum"]),
            "s": ("s", "stateset", ["s"]),
        },
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_samples_are_in_the_family_that_declares_them(name: str) -> None:
    """Each sample is in one family and keeps its name, wherever its TYPE line stands."""
    openmetrics, text, expected = FAMILIES[name]
    assert shape(read(text, openmetrics=openmetrics)) == expected


def test_everything_of_a_sample_is_read() -> None:
    """Labels, value, time, exemplar, help and unit come out as they were meant."""
    text = (
        '# HELP a_s One\\n"two"\\\\\n# TYPE a_s counter\n# UNIT a_s s\n'
        'a_s_total{x="\\"",y="\\n"} 1.5 9.25 # {t="\\\\"} -Inf 8\n# EOF\n'
    )
    (family,) = read(text, openmetrics=True).families
    assert (family.documentation, family.unit) == ('One\n"two"\\', "s")
    exemplar = Exemplar({"t": "\\"}, float("-inf"), 8.0)
    assert family.samples == [Sample("a_s_total", {"x": '"', "y": "\n"}, 1.5, 9.25, exemplar)]


@pytest.mark.parametrize("milliseconds", [0, 1, 1001, 1700000000001, 1700000000999, 1796059803333])
def test_times_keep_their_milliseconds(milliseconds: int) -> None:
    """A time of the text format is the same number of milliseconds when it is written again."""
    ((sample,),) = [family.samples for family in read(f"a 1 {milliseconds}\n").families]
    assert int(float(sample.timestamp) * 1000) == milliseconds  # type: ignore[arg-type]


@pytest.mark.parametrize("time", ["-5", "1e300", "-0.001"])
def test_a_time_that_no_page_can_have_costs_its_sample(time: str) -> None:
    """Prometheus drops samples with such times; in the text format they would cost the page."""
    assert read(f"a 1 {time}\nb 1\n# EOF\n", openmetrics=True).families[0].name == "b"


@pytest.mark.parametrize(("end", "text"), [("", 'a\\"b\\c\nd'), ("# EOF\n", 'a"b\\c\nd')])
def test_quotes_in_a_help_text_have_escapes_in_openmetrics_only(end: str, text: str) -> None:
    """The text format has no escape for a quote in a HELP text, OpenMetrics has one."""
    page = parse_page('# HELP g a\\"b\\\\c\\nd\n# TYPE g gauge\ng 1\n' + end)
    assert page.families[0].documentation == text


def test_the_first_of_equal_series_is_kept_and_the_others_reported() -> None:
    """A series is there again whatever the order of its labels, and an empty label is none."""
    page = read('a{x="1",y="2"} 1\na{y="2",x="1"} 2\nb 1\nb{x=""} 2\nc 1\nb 1 5\n')
    assert {each.name: len(each.samples) for each in page.families} == {"a": 1, "b": 2, "c": 1}
    assert page.families[0].samples[0].value == 1
    assert page.repeated == ["a", "b"]


def test_the_line_that_is_refused_is_named() -> None:
    """The error has number, reason and line, shortened and without control characters."""
    with pytest.raises(PageError) as raised:
        read("a 1\n# x\n", "b 2\n\x1b[2J" + "c" * 200 + "\n")
    assert raised.value.number == 4
    shown = "\\x1b[2J" + "c" * 76 + "…"
    assert str(raised.value) == f"line 4: no name at the beginning: {shown}"


LIMITS = Limits(samples=3, labels=4, line=40)


@pytest.mark.parametrize(
    ("page", "why"),
    [
        ("a 1\na 1\na 1\na 1\n", "the page has more than 3 samples"),
        ("a 1\nb 1\nc 1 \nd 1 \n", "the page has more than 3 samples"),
        ("".join(f"# TYPE a{each} gauge\n" for each in range(4)), "more than 3 families"),
        ("".join(f"# HELP a{each} Help.\n" for each in range(4)), "more than 3 families"),
        ('a{b="1",c="2"} 1\na{b="1",c="3",d="4"} 1\n', "the page has more than 4 labels"),
        (f'a{{b="{"x" * 40}"}} 1\n', "more than 40 characters"),
        (f"# {'x' * 40}\n", "more than 40 characters"),
        ("\n" * 31, "the page has more than 30 lines"),
        (f'a{{b="{"x" * 20}\n{"x" * 20}"}} 1\n', "more than 40 characters"),
        ('a{b="' + "x" * 41, "more than 40 characters"),
    ],
)
def test_a_page_beyond_a_limit_is_refused(page: str, why: str) -> None:
    """What a page can make us keep has limits, and the error says which."""
    with pytest.raises(PageError, match=why):
        read(page, limits=LIMITS)


@pytest.mark.parametrize(
    "line",
    [
        f"{'n' * 30} 1\n",
        f'a{{b="{"x" * 30}"}} 1\n',
        f'a{{b="{"日" * 10}"}} 1\n',
        f"# HELP a {'x' * 30}\n",
    ],
)
def test_the_text_that_is_kept_has_a_limit(line: str) -> None:
    """Names, label values and help texts of all lines together have a limit, comments have none."""
    limits = Limits(samples=100, text=300)
    comments = f"# {'x' * 30}\n" * 100
    assert read(comments, line, limits=limits)
    with pytest.raises(PageError, match="more than 300 characters to keep"):
        read(*(line.replace("b=", f"b{at}=") for at in range(10)), limits=limits)


def test_limits_follow_the_samples_that_are_allowed() -> None:
    """A page that may have more samples may have more labels and text; fewer take no text."""
    assert Limits.for_samples(100_000) == Limits()
    assert Limits.for_samples(200_000) == Limits(200_000, 2_000_000, text=1 << 25)
    assert Limits.for_samples(10) == Limits(10, 100)


def test_a_line_without_end_is_refused_before_it_ends() -> None:
    """The limit of a line holds while it is still coming."""
    with pytest.raises(PageError, match="line 2: it has more than 40"):
        read("a 1\n", *["x" * 10] * 100, limits=LIMITS)


@pytest.mark.parametrize(
    "line",
    [
        "a" + " " * 500_000 + "x",
        'a{x="' + "\\\\" * 250_000 + "\\",
        "a " + "1" * 500_000 + "x",
        "a{" + 'x="y",' * 80_000 + "!",
        "a{" + 'x="y" ' * 80_000 + "!",
        "# TYPE a" + " " * 500_000 + "x",
        'a{x="' + '\n",y="' * 70_000,
        "{" + '"a"' * 100_000,
    ],
    ids=lambda line: line[:9],
)
def test_a_hostile_line_takes_no_more_time_than_its_length(line: str) -> None:
    """No line makes the reader go back and forth: the test would take hours."""
    with pytest.raises(PageError):
        read(line)


@pytest.mark.parametrize("page", ["a 1\n", "# TYPE a gauge\r\na 1\r\n", b"a 1\n# EOF \n\n"])
def test_the_end_of_a_page_tells_its_format(page: str | bytes) -> None:
    """A text is OpenMetrics if it ends in # EOF, and its lines may end as on Windows."""
    assert [family.name for family in parse_page(page).families] == ["a"]
