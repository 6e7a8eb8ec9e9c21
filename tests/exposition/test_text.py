"""Families become text: whole pages in both formats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import Metric
from prometheus_client.samples import Exemplar, Sample

from mpmetrics.exposition import Format, render_families, render_family, render_header

if TYPE_CHECKING:
    from collections.abc import Sequence

TEXT, OPENMETRICS = Format(), Format(openmetrics=True)


def family(name: str, kind: str, samples: Sequence[Sample], unit: str = "") -> Metric:
    """Return a family with these samples."""
    metric = Metric(name, "Help.", kind, unit)
    metric.samples = list(samples)
    return metric


NUMBERED: Any = {"of": 1}  # prometheus_client does not check that values are text

PAGES = {
    "counter": (
        family(
            "c", "counter", [Sample("c_total", {"b": "2", "a": "1"}, 1), Sample("c_total", {}, 2)]
        ),
        '# HELP c_total Help.\n# TYPE c_total counter\nc_total{a="1",b="2"} 1.0\nc_total 2.0\n',
        '# HELP c Help.\n# TYPE c counter\nc_total{a="1",b="2"} 1.0\nc_total 2.0\n',
    ),
    "counter without a suffix": (
        family("c", "counter", [Sample("c", {}, 2)]),
        "# HELP c Help.\n# TYPE c counter\nc 2.0\n",
        "# HELP c Help.\n# TYPE c unknown\nc 2.0\n",
    ),
    "gauge": (
        family("g", "gauge", [Sample("g", NUMBERED, 2_000_000)]),
        '# HELP g Help.\n# TYPE g gauge\ng{of="1"} 2e+06\n',
        '# HELP g Help.\n# TYPE g gauge\ng{of="1"} 2e+06\n',
    ),
    "unknown": (
        family("u", "unknown", [Sample("u", {}, 1)]),
        "# HELP u Help.\n# TYPE u untyped\nu 1.0\n",
        "# HELP u Help.\n# TYPE u unknown\nu 1.0\n",
    ),
    "info": (
        family("i", "info", [Sample("i_info", {"v": "1"}, 1)]),
        '# HELP i_info Help.\n# TYPE i_info gauge\ni_info{v="1"} 1.0\n',
        '# HELP i Help.\n# TYPE i info\ni_info{v="1"} 1.0\n',
    ),
    "state set": (
        family("s", "stateset", [Sample("s", {"s": "on"}, 1)]),
        '# HELP s Help.\n# TYPE s gauge\ns{s="on"} 1.0\n',
        '# HELP s Help.\n# TYPE s stateset\ns{s="on"} 1.0\n',
    ),
    "samples that are gauges of their own in text": (
        family(
            "h",
            "gaugehistogram",
            [
                Sample("h_bucket", {"le": "+Inf"}, 1),
                Sample("h_gsum", {}, 2),
                Sample("h_gcount", {}, 3),
                Sample("h_created", {}, 4),
            ],
        ),
        (
            '# HELP h Help.\n# TYPE h histogram\nh_bucket{le="+Inf"} 1.0\n'
            "# HELP h_created Help.\n# TYPE h_created gauge\nh_created 4.0\n"
            "# HELP h_gcount Help.\n# TYPE h_gcount gauge\nh_gcount 3.0\n"
            "# HELP h_gsum Help.\n# TYPE h_gsum gauge\nh_gsum 2.0\n"
        ),
        (
            '# HELP h Help.\n# TYPE h gaugehistogram\nh_bucket{le="+Inf"} 1.0\n'
            "h_gsum 2.0\nh_gcount 3.0\nh_created 4.0\n"
        ),
    ),
    "unit": (
        family("x_seconds", "gauge", [Sample("x_seconds", {}, 1)], "seconds"),
        "# HELP x_seconds Help.\n# TYPE x_seconds gauge\nx_seconds 1.0\n",
        "# HELP x_seconds Help.\n# TYPE x_seconds gauge\n# UNIT x_seconds seconds\nx_seconds 1.0\n",
    ),
    "timestamps": (
        family("g", "gauge", [Sample("g", {}, 1, 1.5)]),
        "# HELP g Help.\n# TYPE g gauge\ng 1.0 1500\n",
        "# HELP g Help.\n# TYPE g gauge\ng 1.0 1.5\n",
    ),
    "exemplars": (
        family(
            "c",
            "counter",
            [
                Sample("c_total", {}, 1, None, Exemplar({"b": 'q"', "a": "1"}, 0.5, 9.5)),
                Sample("c_created", {}, 2, None, Exemplar({"a": "1"}, 0.5)),
            ],
        ),
        (
            "# HELP c_total Help.\n# TYPE c_total counter\nc_total 1.0\n"
            "# HELP c_created Help.\n# TYPE c_created gauge\nc_created 2.0\n"
        ),
        '# HELP c Help.\n# TYPE c counter\nc_total 1.0 # {a="1",b="q\\""} 0.5 9.5\nc_created 2.0\n',
    ),
    "no samples": (family("g", "gauge", []), "", ""),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_family_is_written_in_both_formats(name: str) -> None:
    """A family has its header and its samples in the order in which they come."""
    metric, text, openmetrics = PAGES[name]
    assert render_family(metric, TEXT) == text
    assert render_family(metric, OPENMETRICS) == openmetrics
    assert render_families([metric], TEXT) == text.encode()
    assert render_families([metric], OPENMETRICS) == openmetrics.encode() + b"# EOF\n"


@pytest.mark.parametrize(
    ("form", "header"),
    [
        (TEXT, '# HELP a_b one\\ntwo \\\\ "three"\n# TYPE a_b gauge\n'),
        (OPENMETRICS, '# HELP a_b one\\ntwo \\\\ \\"three\\"\n# TYPE a_b gauge\n'),
        (Format(escaping="allow-utf-8"), None),
    ],
)
def test_a_header_is_escaped(form: Format, header: str | None) -> None:
    """HELP has escapes for line breaks, backslashes and, in OpenMetrics, quotes."""
    expected = header or '# HELP "a.b" one\\ntwo \\\\ "three"\n# TYPE "a.b" gauge\n'
    assert render_header("a.b", "gauge", 'one\ntwo \\ "three"', form) == expected


def test_a_unit_that_is_not_in_the_name_is_left_out() -> None:
    """UNIT is written only if the name ends in the unit."""
    assert "# UNIT" not in render_header("x", "gauge", "", OPENMETRICS, "seconds")


def test_a_unit_that_is_not_in_the_name_as_it_is_written_is_left_out() -> None:
    """UNIT is left out where the escaping of the name has changed its end."""
    dots = Format(openmetrics=True, escaping="dots")
    assert "# UNIT" not in render_header("x_a_b", "gauge", "", dots, "a_b")
    assert "# UNIT x__a a\n" in render_header("x_a", "gauge", "", dots, "a")


def test_a_counter_whose_name_another_family_has_is_written_without_its_type() -> None:
    """In OpenMetrics a counter `a_total` is called `a`; beside a gauge `a` it has no type."""
    counter = family("a", "counter", [Sample("a_total", {}, 2), Sample("a_created", {}, 3)])
    families = [family("a", "gauge", [Sample("a", {}, 1)]), counter]
    assert render_families(families, OPENMETRICS).decode() == (
        "# HELP a Help.\n# TYPE a gauge\na 1.0\n"
        "# HELP a_total Help.\n# TYPE a_total unknown\na_total 2.0\n"
        "# HELP a_created Help.\n# TYPE a_created unknown\na_created 3.0\n"
        "# EOF\n"
    )
    assert b"# TYPE a gauge\na 1.0\n# HELP a_total" in render_families(families, TEXT)


def test_a_name_that_is_written_without_its_type_is_taken() -> None:
    """In OpenMetrics no later family has a name that stands on the page without its type."""
    families = [
        family(name.removesuffix("_total"), kind, [Sample(name, {}, 1)])
        for name, kind in (("a", "gauge"), ("a_total", "counter"), ("a_total_total", "counter"))
    ]
    page = render_families(families, OPENMETRICS).decode().splitlines()
    assert page[1::3] == [
        *("# TYPE a gauge", "# TYPE a_total unknown", "# TYPE a_total_total unknown"),
    ]


def test_of_names_that_become_equal_the_first_is_written() -> None:
    """A page has each name once, also if escaping makes two names equal."""
    families = [family(name, "gauge", [Sample(name, {}, 1)]) for name in ("a.b", "a_b", "c")]
    assert render_families(families, TEXT).decode().splitlines()[2::3] == [
        *("a_b 1.0", "c 1.0"),
    ]
    assert render_families(families, Format(escaping="allow-utf-8")).count(b"# TYPE") == 3


def test_a_native_histogram_has_no_text() -> None:
    """A sample that is a native histogram is left out, and a family of such samples altogether."""

    class Native(Sample):
        """A sample of a newer prometheus_client, under any version."""

        native_histogram: Any = "anything"

    native, plain = Native("h", {}, 1), Sample("h_sum", {}, 2)
    assert render_family(family("h", "histogram", [native]), TEXT) == ""
    lines = render_family(family("h", "histogram", [native, plain]), TEXT).splitlines()
    assert lines[2:] == ["h_sum 2.0"]


def test_a_family_that_writes_itself_is_asked_to() -> None:
    """A family with a method `text` is written by that."""

    class Own(Metric):
        """A family with a text of its own."""

        def text(self, form: Format) -> str:
            """Return the name of the escaping scheme."""
            return f"{form.escaping}\n"

    assert render_families([Own("g", "", "gauge")], TEXT) == b"underscores\n"


def test_a_page_is_utf_8() -> None:
    """A lone surrogate in a label value becomes a question mark; all else is UTF-8."""
    metric = family("g", "gauge", [Sample("g", {"a": "ä\udcff"}, 1)])
    assert render_families([metric], TEXT).splitlines()[2] == 'g{a="ä?"} 1.0'.encode()


@pytest.mark.parametrize(
    ("form", "content_type"),
    [
        (TEXT, "text/plain; version=0.0.4; charset=utf-8"),
        (OPENMETRICS, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (
            Format(escaping="allow-utf-8"),
            "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
        ),
        (
            Format(openmetrics=True, escaping="dots"),
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=dots",
        ),
    ],
)
def test_a_format_has_a_content_type(form: Format, content_type: str) -> None:
    """The content type names format, version and, unless it is the default, the escaping."""
    assert form.content_type == content_type
