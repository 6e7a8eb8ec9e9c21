"""The lines of Prometheus' text format, as its own reader takes them."""

from __future__ import annotations

import math
import re
from typing import Final

from mpmetrics.parsing.tokens import (
    DECIMAL,
    LABELS,
    NAME,
    MetaLine,
    Quoting,
    SampleLine,
    as_labels,
    parse_number,
    refuse,
    require_text,
    scan_labels,
    scan_name,
    unescape,
)

PLAIN: Final = re.compile(rf"({NAME})(?:\{{({LABELS})?\}})? ({DECIMAL})(?: ([0-9]{{1,15}}))?")
"""A sample as almost all are written; what does not match may still be one."""

TYPES: Final = {name: name for name in ("counter", "gauge", "histogram", "summary")} | {
    "untyped": "unknown"
}

_BLANKS: Final = re.compile(r"[ \t]*")
_QUOTING: Final = Quoting(
    re.compile(r'"([^"\\]*(?:\\[^\n][^"\\]*)*)"'), _BLANKS, commas=False, continued=True
)
_META: Final = re.compile(r"[ \t]*#[ \t]+(HELP|TYPE)[ \t]+")
_VALUE: Final = re.compile(r"([^{ \t\n]+)[ \t]*(?:([0-9]+)[ \t]*)?")
_LARGEST_TIME: Final = 2**63 - 1


def scan_line(line: str) -> SampleLine | MetaLine | None:
    """Return what a *line* says, None for a comment or a blank line. Raises `LineError`."""
    content = line.lstrip(" \t")
    if not content:
        return None
    if content[0] == "#":
        meta = _META.match(line)
        return _scan_meta(line, meta[1], meta.end()) if meta else None
    if content is not line and content != line:
        refuse("a blank before the name")
    return _scan_sample(line)


def seconds(milliseconds: int) -> float:
    """Return a time in seconds that, times 1000 and cut off, is the same number of milliseconds.

    That is how a page writes it, and how Prometheus reads it.
    """
    time = milliseconds / 1000
    if int(time * 1000) < milliseconds:
        return math.nextafter(time, math.inf)
    return time


def _scan_meta(line: str, kind: str, start: int) -> MetaLine:
    """Return a HELP or TYPE line; its name begins at *start*."""
    name = scan_name(line, start)
    end = start + len(name)
    quoted = _QUOTING.quoted.match(line, start) if not name else None
    if quoted:
        name, end = unescape(quoted[1]), quoted.end()
    if not name:
        refuse(f"no name behind {kind}")
    rest = line[end:]
    text = rest[1:] if rest.strip(" \t") else ""
    if kind == "TYPE" and text not in TYPES:
        refuse("no type that the text format has")
    return MetaLine(kind, require_text(name), require_text(text))


def _scan_sample(line: str) -> SampleLine:
    """Return the sample that *line* is."""
    name = scan_name(line)
    if not name and line[0] != "{":
        refuse("no name at the beginning")
    position = _skip(line, len(name))
    labels: dict[str, str] = {}
    if line[position : position + 1] == "{":
        name, pairs, position = scan_labels(line, position + 1, _QUOTING, name)
        labels = as_labels(pairs)
        position = _skip(line, position)
    if not name:
        refuse("no name of the metric")
    match = _VALUE.fullmatch(line, position)
    if match is None:
        refuse("no value, or something behind it that is no time")
    value = parse_number(match[1])
    return SampleLine(name, labels, value, None if match[2] is None else _time(match[2]))


def _time(digits: str) -> float:
    """Return the time that *digits* say, in seconds."""
    digits = digits.lstrip("0") or "0"
    if len(digits) > len(str(_LARGEST_TIME)) or int(digits) > _LARGEST_TIME:
        refuse("a time beyond the largest")
    return seconds(int(digits))


def _skip(line: str, start: int) -> int:
    """Return the position of the first character at or behind *start* that is no blank."""
    match = _BLANKS.match(line, start)
    return match.end() if match else start
