"""From families to text: Prometheus text format 0.0.4 and OpenMetrics 1.0.

The functions here neither sort nor check: a family is written as it comes. Sources:
https://prometheus.io/docs/instrumenting/exposition_formats/,
https://prometheus.io/docs/specs/om/open_metrics_spec/ and, for names beyond the classic
character set, https://prometheus.io/docs/instrumenting/escaping_schemes/.

Colons are legal in metric names in both formats and are always kept, and one function makes the
name for HELP, TYPE and samples alike, so that they agree.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, runtime_checkable

from mpmetrics.format import format_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from prometheus_client import Metric
    from prometheus_client.samples import Exemplar, Sample

    from mpmetrics.format import Labels

_CLASSIC_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_CLASSIC_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_NOT_IN_NAME: Final = re.compile(r"^[0-9]|[^a-zA-Z0-9_:]")
_NOT_IN_LABEL: Final = re.compile(r"^[0-9]|[^a-zA-Z0-9_]")


def _underscores(name: str, _classic: re.Pattern[str], illegal: re.Pattern[str]) -> str:
    return illegal.sub("_", name)


def _dots(name: str, _classic: re.Pattern[str], illegal: re.Pattern[str]) -> str:
    doubled = name.replace("_", "__")
    return illegal.sub(lambda match: "_dot_" if match[0] == "." else "__", doubled)


def _values(name: str, classic: re.Pattern[str], illegal: re.Pattern[str]) -> str:
    if classic.fullmatch(name):
        return name
    coded = illegal.sub(lambda match: f"_{ord(match[0]):x}_", name.replace("_", "__"))
    return f"U__{coded}"


def _quoted(name: str, classic: re.Pattern[str], _illegal: re.Pattern[str]) -> str:
    return name if classic.fullmatch(name) else f'"{_escape(name)}"'


ALLOW_UTF8: Final = "allow-utf-8"
UNDERSCORES: Final = "underscores"

ESCAPING_SCHEMES: Final[Mapping[str, Callable[[str, re.Pattern[str], re.Pattern[str]], str]]] = {
    UNDERSCORES: _underscores,
    ALLOW_UTF8: _quoted,
    "dots": _dots,
    "values": _values,
}
"""How names beyond the classic character set are written, by the scheme's name in `Accept`."""


class Format(NamedTuple):
    """How families are written: which format, which names, and *labels* added to every sample.

    A label that the sample has itself is left as it is.
    """

    openmetrics: bool = False
    escaping: str = UNDERSCORES
    labels: Labels = ()

    @property
    def content_type(self) -> str:
        """Return the value of the `Content-Type` header."""
        kind, version = (
            ("application/openmetrics-text", "1.0.0")
            if self.openmetrics
            else ("text/plain", "0.0.4" if self.escaping == UNDERSCORES else "1.0.0")
        )
        escaping = f"; escaping={self.escaping}" if self.escaping != UNDERSCORES else ""
        return f"{kind}; version={version}; charset=utf-8{escaping}"

    def name(self, name: str) -> str:
        """Return a metric *name* as it is written."""
        return ESCAPING_SCHEMES[self.escaping](name, _CLASSIC_NAME, _NOT_IN_NAME)

    def label_name(self, name: str) -> str:
        """Return a label *name* as it is written."""
        return ESCAPING_SCHEMES[self.escaping](name, _CLASSIC_LABEL, _NOT_IN_LABEL)


@runtime_checkable
class Writable(Protocol):
    """A family that writes itself quicker than sample by sample."""

    def text(self, form: Format) -> str:
        """Return the family's lines in the given format."""
        ...  # pragma: no cover - a protocol has no body


class _TypeText(NamedTuple):
    """How the text format, which knows fewer types, writes one: TYPE and a suffix of the name."""

    type: str
    suffix: str = ""


_TEXT_TYPES: Final[Mapping[str, _TypeText]] = {
    "counter": _TypeText("counter", "_total"),
    "info": _TypeText("gauge", "_info"),
    "stateset": _TypeText("gauge"),
    "gaugehistogram": _TypeText("histogram"),
    "unknown": _TypeText("untyped"),
}

# Samples that only OpenMetrics counts to the family: in text they are gauges of their own.
_TEXT_ASIDE: Final = ("_created", "_gcount", "_gsum")

_EXEMPLARS: Final = {"counter": "_total", "histogram": "_bucket", "gaugehistogram": "_bucket"}


def render_families(families: Iterable[Metric], form: Format) -> bytes:
    """Return the page of *families*, in the order in which they come.

    Of families whose names are the same once characters that the format lacks are replaced, the
    first is written.
    """
    parts = []
    written = set()
    for family in families:
        name = form.name(exposed_name(family.name, family.type))
        if name not in written:
            written.add(name)
            parts.append(render_family(family, form))
    if form.openmetrics:
        parts.append("# EOF\n")
    return "".join(parts).encode("utf-8", "replace")


def render_family(family: Metric, form: Format) -> str:
    """Return the lines of one *family*, "" for a family without samples to write."""
    if isinstance(family, Writable):
        return family.text(form)
    if all(map(is_native, family.samples)):
        return ""
    lines = [render_header(family.name, family.type, family.documentation, form, family.unit)]
    aside: dict[str, list[str]] = defaultdict(list)
    prefixes = LinePrefixes(form)
    for sample in family.samples:
        suffix = sample.name.removeprefix(family.name)
        line = _sample_line(family, sample, prefixes)
        if suffix in _TEXT_ASIDE and not form.openmetrics:
            aside[suffix].append(line)
        else:
            lines.append(line)
    for suffix, extra in sorted(aside.items()):
        lines.append(render_header(family.name + suffix, "gauge", family.documentation, form))
        lines.extend(extra)
    return "".join(lines)


def exposed_name(name: str, kind: str, *, openmetrics: bool = False) -> str:
    """Return the name that HELP and TYPE carry for family *name* of type *kind*."""
    return name if openmetrics else name + _TEXT_TYPES.get(kind, _TypeText(kind)).suffix


def render_header(name: str, kind: str, help_text: str, form: Format, unit: str = "") -> str:
    """Return the HELP and TYPE lines (in OpenMetrics also UNIT) of a family."""
    written = form.name(exposed_name(name, kind, openmetrics=form.openmetrics))
    help_text = help_text.replace("\\", r"\\").replace("\n", r"\n")
    if not form.openmetrics:
        kind = _TEXT_TYPES.get(kind, _TypeText(kind)).type
        return f"# HELP {written} {help_text}\n# TYPE {written} {kind}\n"
    help_text = help_text.replace('"', r"\"")
    # The specification refuses a unit that is not the end of the name.
    unit_line = f"# UNIT {written} {unit}\n" if unit and name.endswith(f"_{unit}") else ""
    return f"# HELP {written} {help_text}\n# TYPE {written} {kind}\n{unit_line}"


class LinePrefixes:
    """Makes everything of a sample's line before the value; names and labels repeat a lot."""

    def __init__(self, form: Format) -> None:
        """Write prefixes in the format *form*, with the labels that it adds."""
        self.form = form
        self._added = dict(form.labels)
        self._names: dict[str, str] = {}
        self._label_names: dict[str, str] = {}
        self._pairs: dict[tuple[str, str], str] = {}
        self._replaced = False

    def sample(self, name: str, labels: Labels) -> str:
        """Return the prefix of a sample; *labels* are sorted by name."""
        labels = self._complete(labels)
        return self.joined(name, self._join(labels, labels))

    def samples(self, series: Iterable[tuple[str, Labels]]) -> list[str]:
        """Return the prefixes of many samples: what `sample` does, with fewer calls."""
        if self._added:
            return [self.sample(name, labels) for name, labels in series]
        names, known = self._names, self._pairs
        prefixes = [
            f"{names.get(name) or self._opening(name)}"
            f"{','.join([known.get(pair) or self._pair(pair) for pair in labels])}}} "
            if labels
            else self.sample(name, labels)
            for name, labels in series
        ]
        if self._replaced:
            return [self.sample(name, labels) for name, labels in series]
        return prefixes

    def around(self, labels: Labels, label: str) -> tuple[str, str]:
        """Return *labels* as written, those before and those after where *label* belongs."""
        labels = self._complete(labels)
        before = [pair for pair in labels if pair[0] < label]
        return self._join(before, labels), self._join(labels[len(before) :], labels)

    def joined(self, name: str, *pairs: str) -> str:
        """Return the prefix of a sample whose labels are written in *pairs*, some of them ""."""
        opening = self._names.get(name) or self._opening(name)
        text = ",".join(filter(None, pairs))
        if text:
            return f"{opening}{text}}} "
        return f"{opening.rstrip('{,')}{'}' if opening[0] == '{' else ''} "

    def _complete(self, labels: Labels) -> Labels:
        """Add the labels of the format; those of the series win."""
        if not self._added:
            return labels
        return tuple(sorted({**self._added, **dict(labels)}.items()))

    def _join(self, labels: Sequence[tuple[str, str]], neighbours: Labels) -> str:
        """Write *labels*, which stand on one line with their *neighbours*."""
        known = self._pairs
        text = ",".join([known.get(pair) or self._pair(pair) for pair in labels])
        return self._join_distinct(labels, neighbours) if self._replaced else text

    def _pair(self, pair: tuple[str, str]) -> str:
        name, value = pair
        written = self._label_names.get(name)
        if written is None:
            written = self._label_names[name] = self.form.label_name(name)
            self._replaced |= written != name and written[0] != '"'
        self._pairs[pair] = text = f'{written}="{_escape(value)}"'
        return text

    def _join_distinct(self, labels: Sequence[tuple[str, str]], neighbours: Labels) -> str:
        """Write *labels* some of whose names had characters replaced.

        Where that has made two names of one line equal, or a name look like one that is reserved
        for Prometheus itself, the scheme that keeps all names apart is used instead.
        """
        written = [self.form.label_name(name) for name, _ in neighbours]
        keeping = self.form._replace(escaping="values")
        parts = []
        for name, value in labels:
            text = self.form.label_name(name)
            if text != name and (text.startswith("__") or written.count(text) > 1):
                text = keeping.label_name(name)
            parts.append(f'{text}="{_escape(value)}"')
        return ",".join(parts)

    def _opening(self, name: str) -> str:
        """Return what comes before the labels; a quoted name stands among them."""
        written = self.form.name(name)
        self._names[name] = text = f"{{{written}," if written[0] == '"' else f"{written}{{"
        return text


def is_native(sample: Sample) -> bool:
    """Tell whether a *sample* is a native histogram, which the formats here lack."""
    return bool(getattr(sample, "native_histogram", None))


def _sample_line(family: Metric, sample: Sample, prefixes: LinePrefixes) -> str:
    """Return the line of one *sample*, "" for a native histogram."""
    if is_native(sample):
        return ""
    name = sample.name
    if family.type == "counter" and name == family.name:
        name += "_total"
    labels = tuple(sorted((key, str(value)) for key, value in sample.labels.items()))
    timestamp = ""
    openmetrics = prefixes.form.openmetrics
    if sample.timestamp is not None:
        milliseconds = int(float(sample.timestamp) * 1000)
        timestamp = f" {sample.timestamp if openmetrics else milliseconds}"
    exemplar = ""
    if sample.exemplar and openmetrics:
        allowed = _EXEMPLARS.get(family.type)
        exemplar = _exemplar_text(sample.exemplar) if allowed and name.endswith(allowed) else ""
    prefix = prefixes.sample(name, labels)
    return f"{prefix}{format_value(float(sample.value))}{timestamp}{exemplar}\n"


def _exemplar_text(exemplar: Exemplar) -> str:
    """Return an *exemplar* as it stands behind a value in OpenMetrics."""
    pairs = ",".join(f'{key}="{_escape(value)}"' for key, value in sorted(exemplar.labels.items()))
    timestamp = f" {exemplar.timestamp}" if exemplar.timestamp is not None else ""
    return f" # {{{pairs}}} {format_value(float(exemplar.value))}{timestamp}"


def _escape(text: str) -> str:
    """Escape a label value or a quoted name."""
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
