"""The text of a page: formats, their negotiation, and filters. No I/O."""

from __future__ import annotations

from mpmetrics.exposition.filters import Prefixes, PrefixFilter, check_labels
from mpmetrics.exposition.negotiation import accepts_gzip, choose_format, time_limit
from mpmetrics.exposition.text import (
    Format,
    LinePrefixes,
    exposed_name,
    is_native,
    render_families,
    render_family,
    render_header,
)

__all__ = [
    "Format",
    "LinePrefixes",
    "PrefixFilter",
    "Prefixes",
    "accepts_gzip",
    "check_labels",
    "choose_format",
    "exposed_name",
    "is_native",
    "render_families",
    "render_family",
    "render_header",
    "time_limit",
]
