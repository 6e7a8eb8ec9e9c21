"""From families to the bytes of a page: names, formats, negotiation and filters. No I/O.

`text` writes families: `lines` for their samples, with `numbers`, and with names in the `escaping`
of the format. `names` is the table of metric types and their names. `formats` describes a format,
and `negotiation` chooses one by the headers of a request. `filters` selects families.
"""

from __future__ import annotations

from mpmetrics.exposition.filters import Prefixes, PrefixFilter, check_labels
from mpmetrics.exposition.formats import Format
from mpmetrics.exposition.lines import LinePrefixes, is_native
from mpmetrics.exposition.names import (
    BUCKET,
    COUNT,
    METRIC_TYPES,
    SUM,
    TOTAL,
    NameClaims,
    exposed_name,
    exposed_names,
    registered_names,
    types_agree,
)
from mpmetrics.exposition.negotiation import accepts_gzip, choose_format, time_limit
from mpmetrics.exposition.numbers import LARGEST_TIME, format_lines, format_value
from mpmetrics.exposition.text import render_families, render_family, render_header, text_name

__all__ = [
    "BUCKET",
    "COUNT",
    "LARGEST_TIME",
    "METRIC_TYPES",
    "SUM",
    "TOTAL",
    "Format",
    "LinePrefixes",
    "NameClaims",
    "PrefixFilter",
    "Prefixes",
    "accepts_gzip",
    "check_labels",
    "choose_format",
    "exposed_name",
    "exposed_names",
    "format_lines",
    "format_value",
    "is_native",
    "registered_names",
    "render_families",
    "render_family",
    "render_header",
    "text_name",
    "time_limit",
    "types_agree",
]
