"""What odd pages of exporters become, and what the page that has them says about them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from mpmetrics.errors import PageError
from mpmetrics.exposition import Format, render_families
from mpmetrics.pages import Contribution, join_families
from mpmetrics.parsing import PageReader
from tests.parsing.odd_pages import NEWER, ODD_PAGES, REFUSED

if TYPE_CHECKING:
    from mpmetrics.parsing import ParsedPage
    from tests.parsing.odd_pages import OddPage

NOW = 1_700_000_000
PIECE = 7
"""Bytes that are fed at once: every line is cut somewhere, and so is every character."""


def read(page: OddPage, size: int = 1 << 20) -> ParsedPage:
    """Return the *page* as it is read in pieces of *size* bytes."""
    reader = PageReader(openmetrics=page.openmetrics)
    for start in range(0, len(page.body), size):
        reader.feed(page.body[start : start + size])
    return reader.finish()


def series(page: ParsedPage) -> list[tuple[object, ...]]:
    """Return what Prometheus would store of a *page*, sorted; NaN equals NaN."""
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


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_prometheus_refuses_is_refused(name: str) -> None:
    """A page is refused as a whole for a single line, with its number and the line."""
    with pytest.raises(PageError, match=r"^line [0-9]+: ") as raised:
        read(ODD_PAGES[name].at(NOW))
    assert raised.value.why
    assert len(str(raised.value)) < 250
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("name", sorted(ODD_PAGES.keys() - REFUSED))
def test_what_prometheus_accepts_is_read(name: str) -> None:
    """A page that Prometheus accepts is read, and is the same when it is read in small pieces."""
    page = ODD_PAGES[name].at(NOW)
    assert series(read(page)) == series(read(page, PIECE))


@pytest.mark.parametrize("openmetrics", [False, True])
@pytest.mark.parametrize("name", sorted(ODD_PAGES.keys() - REFUSED))
def test_what_is_read_is_written_again(name: str, *, openmetrics: bool) -> None:
    """The page that is made of a source has all its series, names, values and times."""
    parsed = read(ODD_PAGES[name].at(NOW))
    joined = join_families([Contribution("source", in_process=False, families=parsed.families)])
    assert joined.problems == []
    form = Format(openmetrics=openmetrics, escaping="allow-utf-8")
    again = PageReader(openmetrics=openmetrics)
    again.feed(render_families(joined.families, form))
    assert series(again.finish()) == series(parsed)


def test_the_lists_are_of_pages_that_there_are() -> None:
    """No page is both refused and accepted by newer versions only, and each is there."""
    assert not REFUSED & NEWER
    assert ODD_PAGES.keys() >= REFUSED | NEWER
