"""Any text: it is refused, or what is made of it can be written and read again."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mpmetrics.errors import PageError
from mpmetrics.exposition import Format, render_families
from mpmetrics.pages import Contribution, join_families
from mpmetrics.parsing import PageReader, ParsedPage

_PARTS = st.sampled_from(
    [
        *("a", "b", "a_total", "a_count", "a_sum", "a_bucket", "a_created", "a_info", "_total"),
        *("{", "}", '"', ",", "=", "\\", " ", "\t", "\n", "#", "# ", "\r", "\0", "\udcff", "ä"),
        *(" 1\n", " NaN\n", " -Inf 5\n", " 1e5 17\n", 'x="y"', '{x="z"} 2\n', '{le="1"} 3\n'),
        *(f"# TYPE {name} {kind}\n" for name in ("a", "a_total") for kind in ("counter", "gauge")),
        *("# TYPE a histogram\n", "# TYPE a summary\n", "# TYPE a info\n", "# HELP a Help.\n"),
        *("# UNIT a_s s\n", "# EOF\n", ' # {t="u"} 1\n', '{"a.b"} 1\n'),
    ]
)


def read(page: str | bytes, *, openmetrics: bool) -> ParsedPage:
    """Return the *page*."""
    reader = PageReader(openmetrics=openmetrics)
    reader.feed(page)
    return reader.finish()


def series(page: ParsedPage) -> list[tuple[object, ...]]:
    """Return all samples of a *page*, sorted; NaN equals NaN."""
    return sorted(
        (
            sample.name,
            sorted(sample.labels.items()),
            "NaN" if math.isnan(sample.value) else repr(sample.value),
            -1 if sample.timestamp is None else int(float(sample.timestamp) * 1000),
        )
        for family in page.families
        for sample in family.samples
    )


@pytest.mark.parametrize("openmetrics", [False, True])
@given(parts=st.lists(_PARTS, max_size=30))
@example(parts=["# TYPE a counter\n", "a 1\n", "a_total 1\n", "# TYPE a gauge\n"])
def test_any_text_is_refused_or_written_again(parts: list[str], *, openmetrics: bool) -> None:
    """Whatever a source sends, no other error comes of it, and no series is lost on the page."""
    text = "".join(parts) + ("# EOF\n" if openmetrics else "")
    try:
        parsed = read(text.encode("utf-8", "surrogateescape"), openmetrics=openmetrics)
    except PageError:
        return
    joined = join_families([Contribution("source", in_process=False, families=parsed.families)])
    assert joined.problems == []
    for written_openmetrics in (False, True):
        form = Format(openmetrics=written_openmetrics, escaping="allow-utf-8")
        page = render_families(joined.families, form)
        assert series(read(page, openmetrics=written_openmetrics)) == series(parsed)
