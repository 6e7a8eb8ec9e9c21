"""The lines of OpenMetrics, as Prometheus' reader takes them: stricter than text in blanks only."""

from __future__ import annotations

import math
import re
from typing import Final

from prometheus_client.samples import Exemplar

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

PLAIN: Final = re.compile(rf"({NAME})(?:\{{({LABELS})?\}})? ({DECIMAL})()")
"""A sample as almost all are written; what does not match may still be one."""

TYPES: Final = {
    name: name
    for name in (
        *("counter", "gauge", "histogram", "gaugehistogram"),
        *("summary", "info", "stateset", "unknown"),
    )
}

_QUOTED: Final = r'"([^"\\\n]*(?:\\[^\n][^"\\\n]*)*)"'
_QUOTING: Final = Quoting(re.compile(_QUOTED), re.compile(""), commas=True, continued=False)
_META: Final = re.compile(rf"# (HELP|TYPE|UNIT) (?:({NAME})|{_QUOTED}) (.*)", re.DOTALL)
_VALUE: Final = re.compile(r" ([^ \n]+)(?: (?!#)([^ \n]+))?")
_EXEMPLAR: Final = " # {"


def scan_line(line: str) -> SampleLine | MetaLine:
    """Return what a *line* says. Raises `LineError`; OpenMetrics has no comments or blank lines."""
    if line[:1] == "#":
        return _scan_meta(line)
    name = scan_name(line)
    position = len(name)
    labels: dict[str, str] = {}
    if line[position : position + 1] == "{":
        name, pairs, position = scan_labels(line, position + 1, _QUOTING, name)
        labels = as_labels(pairs)
    if not name:
        refuse("no name at the beginning")
    value, time, position = _scan_value(line, position)
    exemplar = None
    if line.startswith(_EXEMPLAR, position):
        exemplar, position = _scan_exemplar(line, position + len(_EXEMPLAR))
    if position < len(line):
        refuse("something behind the value that is neither a time nor an exemplar")
    return SampleLine(name, labels, value, time, exemplar)


def _scan_meta(line: str) -> MetaLine:
    """Return a HELP, TYPE or UNIT line."""
    match = _META.fullmatch(line)
    if match is None:
        refuse("not HELP, TYPE or UNIT with a name and a text, which OpenMetrics asks for")
    kind, text = match[1], match[4]
    name = match[2] or unescape(match[3])
    if kind == "TYPE" and text not in TYPES:
        refuse("no type that OpenMetrics has")
    if kind == "UNIT" and text and not name.endswith(f"_{text}"):
        refuse("a unit that is not the end of the name")
    return MetaLine(kind, require_text(name), require_text(text))


def _scan_exemplar(line: str, start: int) -> tuple[Exemplar, int]:
    """Return the exemplar whose labels begin at *start*, and its end."""
    name, pairs, position = scan_labels(line, start, _QUOTING, "")
    if name:
        refuse("a name in an exemplar")
    value, time, end = _scan_value(line, position)
    return Exemplar(dict(pairs), value, time), end


def _scan_value(line: str, start: int) -> tuple[float, float | None, int]:
    """Return the value at *start*, the time behind it, and the end of both."""
    match = _VALUE.match(line, start)
    if match is None:
        refuse("no value behind one blank")
    time = None if match[2] is None else parse_number(match[2])
    if time is not None and not math.isfinite(time):
        refuse("a time that is no finite number")
    return parse_number(match[1]), time, match.end()
