"""The parts of a line that both formats share: names, labels, numbers, escapes.

The grammar is that of Prometheus' own readers (model/textparse in its sources), which differ from
the specifications here and there. Of two versions of Prometheus, the one that accepts more counts.
No pattern here has two ways to match one text, so each takes time in proportion to the line.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prometheus_client.samples import Exemplar

NAME: Final = "[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL_NAME: Final = "[a-zA-Z_][a-zA-Z0-9_]*"
DECIMAL: Final = r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_VALUE: Final = r'[^"\\]*(?:\\.[^"\\]*)*'
LABELS: Final = rf'{LABEL_NAME}="{_VALUE}"(?:,{LABEL_NAME}="{_VALUE}")*'
"""Labels without blanks, as almost all are written."""

PAIRS: Final = re.compile(rf'({LABEL_NAME})="({_VALUE})"')

_NAME: Final = re.compile(NAME)
_LABEL_NAME: Final = re.compile(LABEL_NAME)
_DECIMAL: Final = re.compile(DECIMAL)
_ESCAPE: Final = re.compile(r'\\([\\n"])')
HELP_ESCAPE: Final = re.compile(r"\\([\\n])")
"""The escapes of a HELP text in the text format, where quotes have none."""
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_NUMBERS: Final = {
    "inf": math.inf,
    "+inf": math.inf,
    "-inf": -math.inf,
    "infinity": math.inf,
    "+infinity": math.inf,
    "-infinity": -math.inf,
    "nan": math.nan,
}
"""What Go takes for a number beside digits, in any case."""


class LineError(Exception):
    """A line that Prometheus would refuse; the message says why."""


class OpenValueError(LineError):
    """A line that ends within a label value, which the next line may continue."""


class SampleLine(NamedTuple):
    """The parts of a sample; *timestamp* is in seconds."""

    name: str
    labels: dict[str, str]
    value: float
    timestamp: float | None = None
    exemplar: Exemplar | None = None


class MetaLine(NamedTuple):
    """A HELP, TYPE or UNIT line (*kind*) of the family *name*, and its *text*."""

    kind: str
    name: str
    text: str


def refuse(why: str) -> NoReturn:
    """Raise `LineError`."""
    raise LineError(why)


class Quoting(NamedTuple):
    """How a format writes a *quoted* text, and what may stand between the parts of labels.

    Without *commas*, the comma between two labels may be missing. With *continued*, a value may
    have line breaks.
    """

    quoted: re.Pattern[str]
    blanks: re.Pattern[str]
    commas: bool
    continued: bool


class Labels(NamedTuple):
    """Labels in braces: the *name* of the metric if it stands there, *pairs*, and their *end*."""

    name: str
    pairs: Sequence[tuple[str, str]]
    end: int


def scan_name(line: str, start: int = 0) -> str:
    """Return the name at *start* of *line*, "" if there is none."""
    match = _NAME.match(line, start)
    return match[0] if match else ""


def scan_labels(line: str, start: int, quoting: Quoting, name: str) -> Labels:
    """Scan the labels behind the brace that ends before *start*.

    *name* is the name that stands before the brace, if any. Raises `LineError`.
    """
    pairs: list[tuple[str, str]] = []
    skip = quoting.blanks.match
    position = _end(skip(line, start))
    while line[position : position + 1] != "}":
        label, is_quoted, position = _scan_label_name(line, position, quoting)
        position = _end(skip(line, position))
        following = line[position : position + 1]
        if is_quoted and following in {",", "}"}:
            if name or not label:
                refuse("a second name of the metric")
            name = label
            if following == "}":
                break
            position = _end(skip(line, position + 1))
            continue
        if following != "=":
            refuse(f"no equals sign behind the label {label!r}")
        value, position = _scan_quoted(line, _end(skip(line, position + 1)), quoting)
        pairs.append((label, value))
        position = _end(skip(line, position))
        if line[position : position + 1] == ",":
            position = _end(skip(line, position + 1))
        elif quoting.commas and line[position : position + 1] != "}":
            refuse("neither a comma nor a closing brace behind a label")
    return Labels(name, pairs, position + 1)


def as_labels(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return labels as Prometheus stores them: one with an empty value is one that is not there.

    Raises `LineError` for a name that is there twice.
    """
    empty = {name for name, value in pairs if not value}
    kept = [pair for pair in pairs if pair[0] not in empty] if empty else pairs
    labels = dict(kept)
    if len(labels) < len(kept):
        refuse("a label name is there twice")
    if "__name__" in labels or "__name__" in empty:
        refuse("a label with the name '__name__'")
    return labels


def require_text(text: str) -> str:
    """Return *text*. Raises `LineError` if it was made of bytes that are not UTF-8."""
    if not text.isascii() and _SURROGATE.search(text):
        refuse("bytes that are not UTF-8")
    return text


def unescape(text: str, escapes: re.Pattern[str] = _ESCAPE) -> str:
    """Return *text* with the characters that its *escapes* stand for; others stay as they are."""
    if "\\" not in text:
        return text
    return escapes.sub(lambda match: "\n" if match[1] == "n" else match[1], text)


def parse_number(text: str) -> float:
    """Return the number that Go reads from *text*. Raises `LineError`.

    Hexadecimal numbers, underscores and numbers beyond the largest float are refused.
    """
    if _DECIMAL.fullmatch(text):
        value = float(text)
        if math.isinf(value):
            refuse("a number beyond the largest float")
        return value
    value_or_none = _NUMBERS.get(text.lower()) if text.isascii() else None
    if value_or_none is None:
        refuse("no number where the value has to be")
    return value_or_none


def _scan_label_name(line: str, start: int, quoting: Quoting) -> tuple[str, bool, int]:
    """Return the label name at *start*, whether it is quoted, and its end."""
    if line[start : start + 1] == '"':
        name, end = _scan_quoted(line, start, quoting)
        return name, True, end
    match = _LABEL_NAME.match(line, start)
    if match is None:
        refuse("no label name where one has to be")
    return match[0], False, match.end()


def _scan_quoted(line: str, start: int, quoting: Quoting) -> tuple[str, int]:
    """Return the quoted text at *start*, unescaped, and its end."""
    match = quoting.quoted.match(line, start)
    if match is None:
        if quoting.continued and line[start : start + 1] == '"' and not line.endswith("\\"):
            message = "no end of a text in quotes"
            raise OpenValueError(message)
        refuse("no text in quotes where one has to be")
    return unescape(require_text(match[1])), match.end()


def _end(match: re.Match[str] | None) -> int:
    """Return the end of a *match* that cannot fail."""
    return match.end() if match else 0
