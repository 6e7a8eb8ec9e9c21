"""The bytes of a `.db` file: entries, their layout, and what their keys mean. No I/O.

`codec` scans keys and reads values, `layout` remembers where the values of a file are, and `keys`
parses the keys.
"""

from __future__ import annotations

from mpmetrics.format.codec import (
    HEADER_SIZE,
    LARGEST_FILE,
    LARGEST_KEY,
    MOST_ENTRIES,
    Data,
    check_entries,
    key_offset,
    read_used,
)
from mpmetrics.format.keys import (
    BUCKET_LABEL,
    Key,
    KeyTable,
    Labels,
    SeriesName,
    clean_text,
    format_key,
    with_bound,
)
from mpmetrics.format.layout import Layout, encode

__all__ = [
    "BUCKET_LABEL",
    "HEADER_SIZE",
    "LARGEST_FILE",
    "LARGEST_KEY",
    "MOST_ENTRIES",
    "Data",
    "Key",
    "KeyTable",
    "Labels",
    "Layout",
    "SeriesName",
    "check_entries",
    "clean_text",
    "encode",
    "format_key",
    "key_offset",
    "read_used",
    "with_bound",
]
