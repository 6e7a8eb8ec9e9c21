"""From the text of another exporter's page to families, as Prometheus reads it. No I/O.

`tokens` has what both formats share, `text_lines` and `openmetrics_lines` read one line of a
format. `page_reader` reads a page piece by piece, within limits, and `assignment` says to which
family a sample belongs.
"""

from __future__ import annotations

from mpmetrics.parsing.assignment import PageFamily
from mpmetrics.parsing.page_reader import Limits, PageReader, ParsedPage, parse_page

__all__ = ["Limits", "PageFamily", "PageReader", "ParsedPage", "parse_page"]
