"""A source that is a page of text: what a callback returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpmetrics._text import plural
from mpmetrics.errors import Problem
from mpmetrics.pages.source import Gathered
from mpmetrics.parsing import parse_page

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpmetrics.parsing import ParsedPage


class TextSource:
    """A callback that returns a page of text, in either format."""

    in_process = False

    def __init__(self, callback: Callable[[], str | bytes], name: str = "text") -> None:
        """Configure only; *callback* is not called yet."""
        self.name = name
        self._callback = callback

    def gather(self) -> Gathered:
        """Call and parse. Raises whatever the callback raises, or `PageError`."""
        return as_gathered(self.name, parse_page(self._callback()))


def as_gathered(source: str, page: ParsedPage) -> Gathered:
    """Return the families of a *page* of *source*, and a problem if series are there again."""
    if not page.repeated:
        return Gathered(page.families)
    detail = f"a series of {page.repeated[0]} is there again"
    others = len(page.repeated) - 1
    more = f", and of {plural(others, 'other name')}" if others else ""
    problem = Problem(source, "repeated_series", f"{detail}{more}; the first is kept")
    return Gathered(page.families, [problem])
