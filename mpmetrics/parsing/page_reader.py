"""A reader of pages, piece by piece and within limits.

It refuses what Prometheus refuses, a whole page for a single line, and keeps of two equal series
the first.
"""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from prometheus_client.samples import Sample

from mpmetrics.errors import PageError
from mpmetrics.exposition import LARGEST_TIME
from mpmetrics.parsing import openmetrics_lines, text_lines
from mpmetrics.parsing.assignment import (
    OPENMETRICS_NAMING,
    TEXT_NAMING,
    Declarations,
    assign,
)
from mpmetrics.parsing.tokens import (
    HELP_ESCAPE,
    PAIRS,
    LineError,
    MetaLine,
    OpenValueError,
    SampleLine,
    unescape,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpmetrics.parsing.assignment import PageFamily

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_LARGEST_FLOAT: Final = 1.7976931348623157e308
_MOST_CONTINUATIONS: Final = 1000
_LINES_PER_SAMPLE: Final = 10
_LARGEST_CHARACTER: Final = 4
"""Bytes of each character in a text that has one beyond the first 65,536."""
_EOF: Final = "# EOF"


class Limits(NamedTuple):
    """What a page may have: *samples* (and as many families), *labels* of all of them together.

    *line* is the most characters of one line; there may be ten lines for each sample. *text* is the
    most characters of all lines that are kept; a line with others than ASCII takes four times the
    memory, and counts four times. A page beyond a limit is refused.
    """

    samples: int = 100_000
    labels: int = 1_000_000
    line: int = 1 << 20
    text: int = 1 << 24

    @classmethod
    def for_samples(cls, samples: int) -> Limits:
        """Return limits for a page with that many *samples*, as much for each as by default."""
        usual = cls()
        return cls(
            samples,
            samples * usual.labels // usual.samples,
            text=max(usual.text, samples * usual.text // usual.samples),
        )


class ParsedPage(NamedTuple):
    """The *families* of a page, and the names of series that were there again (*repeated*)."""

    families: Sequence[PageFamily]
    repeated: Sequence[str] = ()


class PageReader:
    """A page in the text format or in *openmetrics*, fed in pieces."""

    def __init__(self, *, openmetrics: bool, limits: Limits | None = None) -> None:
        """Start with nothing read. Without *limits*, those of `Limits` hold."""
        self._openmetrics = openmetrics
        self._limits = limits or Limits()
        self._lines = openmetrics_lines if openmetrics else text_lines
        self._decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
        self._tail = ""
        self._open: list[str] = []  # the lines of a label value that has not ended
        self._number = 0
        self._ended = False
        self._has_text_only = True
        self._samples: dict[str, list[Sample]] = {}
        self._seen: dict[str, dict[int, Sample]] = {}
        self._texts: dict[str, str] = {}
        self._declared = Declarations({}, {}, {})
        self._sample_count = self._label_count = self._text_size = 0
        self._repeated: dict[str, None] = {}

    def feed(self, piece: str | bytes) -> None:
        """Read a *piece* of the page. Raises `PageError`."""
        text = self._decode(piece) if isinstance(piece, bytes) else piece
        if not text.isascii() and _SURROGATE.search(text):
            self._has_text_only = False
        *lines, self._tail = (self._tail + text).split("\n")
        self._read_lines(lines)
        if len(self._tail) > self._limits.line:
            self._number += 1
            self._refuse(self._tail, f"it has more than {self._limits.line:,} characters")

    def finish(self) -> ParsedPage:
        """Return the page, whose last piece has been fed. Raises `PageError`."""
        self._tail += self._decode(b"", True)  # noqa: FBT003 - it takes no keyword
        if self._tail and (not self._openmetrics or self._ended or self._tail == _EOF):
            self._read_lines([self._tail])
        if self._openmetrics and not self._ended:
            self._refuse(self._tail, "the page does not end with # EOF")
        if self._open:
            self._refuse(self._open[0], "no end of a text in quotes")
        naming = OPENMETRICS_NAMING if self._openmetrics else TEXT_NAMING
        families = assign(self._samples, self._declared, naming)
        return ParsedPage(families, list(self._repeated))

    def _read_lines(self, lines: Sequence[str]) -> None:
        """Read whole lines."""
        plain, longest = self._lines.PLAIN.fullmatch, self._limits.line
        for line in lines:
            self._number += 1
            can_be_plain = self._has_text_only and not (self._open or self._ended)
            match = plain(line) if can_be_plain and len(line) <= longest else None
            if match is None or not self._add_plain(match):
                self._read_odd_line(line)
        if self._number > self._limits.samples * _LINES_PER_SAMPLE:
            most = self._limits.samples * _LINES_PER_SAMPLE
            self._refuse("", f"the page has more than {most:,} lines")

    def _add_plain(self, match: re.Match[str]) -> bool:
        """Add the sample of a plain line; return False if it is odd, after all."""
        name, inside, digits, time = match.groups()
        value = float(digits)
        labels: dict[str, str] = {}
        if inside:
            pairs = PAIRS.findall(inside)
            if "\\" in inside:
                pairs = [(key, unescape(text)) for key, text in pairs]
            known = self._texts.setdefault
            labels = {known(key, key): known(text, text) for key, text in pairs}
            if len(labels) < len(pairs) or "" in labels.values() or "__name__" in labels:
                return False
        if not -_LARGEST_FLOAT <= value <= _LARGEST_FLOAT:
            return False
        timestamp = text_lines.seconds(int(time)) if time else None
        self._add(Sample(name, labels, value, timestamp), match.string)
        return True

    def _read_odd_line(self, line: str) -> None:
        """Read a line of any kind."""
        if self._ended:
            if self._openmetrics:
                self._refuse(line, "something behind # EOF")
            return
        if self._openmetrics and line == _EOF:
            self._ended = True
            return
        if line[:1] == "\0" and self._samples and not (self._openmetrics or self._open):
            self._ended = True  # Prometheus takes it for the end
            return
        if self._open:
            self._open.append(line)
            if '"' not in line and len(self._open) <= _MOST_CONTINUATIONS:
                return
            line = "\n".join(self._open)
        self._read_whole_line(line)

    def _read_whole_line(self, line: str) -> None:
        """Read a line, or several that a line break in a value has made of one."""
        if len(line) > self._limits.line:
            self._refuse(line, f"it has more than {self._limits.line:,} characters")
        try:
            content = self._lines.scan_line(line)
        except OpenValueError as error:
            if len(self._open) > _MOST_CONTINUATIONS:
                self._refuse(line, str(error))
            self._open = self._open or [line]
            return
        except LineError as error:
            self._refuse(line, str(error))
        self._open = []
        if isinstance(content, MetaLine):
            self._declare(content, line)
        elif isinstance(content, SampleLine):
            self._add_odd(content, line)

    def _declare(self, meta: MetaLine, line: str) -> None:
        """Remember what a HELP, TYPE or UNIT line says."""
        self._count_text(line)
        types, helps, units = self._declared
        if meta.kind == "TYPE":
            kind = self._lines.TYPES[meta.text]
            kinds = types.setdefault(meta.name, [])
            if kind not in kinds:
                kinds.append(kind)
        elif meta.kind == "HELP":
            helps[meta.name] = (
                unescape(meta.text) if self._openmetrics else unescape(meta.text, HELP_ESCAPE)
            )
        else:
            units[meta.name] = meta.text
        if max(len(types), len(helps), len(units)) > self._limits.samples:
            self._refuse(line, f"the page has more than {self._limits.samples:,} families")

    def _add_odd(self, line: SampleLine, text: str) -> None:
        """Add the sample of an odd *line*, which is this *text*."""
        name, labels, value, time, exemplar = line
        if time is not None and not 0 <= time <= LARGEST_TIME:
            return  # Prometheus drops it as out of bounds, and such a time would spoil our page
        self._add(Sample(name, labels, value, time, exemplar), text)

    def _add(self, sample: Sample, line: str) -> None:
        """Add a sample, or note that its series is there already."""
        self._sample_count += 1
        self._label_count += len(sample.labels)
        if self._sample_count > self._limits.samples:
            self._refuse(line, f"the page has more than {self._limits.samples:,} samples")
        if self._label_count > self._limits.labels:
            self._refuse(line, f"the page has more than {self._limits.labels:,} labels")
        self._count_text(line)
        name = sample.name
        known = self._seen.get(name)
        if known is None:
            known = self._seen[name] = {}
            self._samples[name] = []
        key = hash((frozenset(sample.labels.items()), sample.timestamp))
        first = known.setdefault(key, sample)
        if first is not sample and first[:2] == sample[:2]:
            self._repeated[name] = None
        else:
            self._samples[name].append(sample)

    def _count_text(self, line: str) -> None:
        """Count the text of a *line* that is kept."""
        self._text_size += len(line) if line.isascii() else _LARGEST_CHARACTER * len(line)
        if self._text_size > self._limits.text:
            self._refuse(line, f"the page has more than {self._limits.text:,} characters to keep")

    def _refuse(self, line: str, why: str) -> None:
        """Raise `PageError` for the current *line*."""
        raise PageError(self._number, line, why)


def parse_page(page: str | bytes, limits: Limits | None = None) -> ParsedPage:
    """Return the families of a whole page, in OpenMetrics if it ends in `# EOF`, else in text.

    Lines may end as on Windows. Raises `PageError` for what Prometheus would refuse.
    """
    page = page.replace(b"\r\n", b"\n") if isinstance(page, bytes) else page.replace("\r\n", "\n")
    text = page.rstrip()
    last = text[-len(_EOF) :]
    openmetrics = (last.decode("latin-1") if isinstance(last, bytes) else last) == _EOF
    reader = PageReader(openmetrics=openmetrics, limits=limits)
    reader.feed(text if openmetrics else page)
    return reader.finish()
