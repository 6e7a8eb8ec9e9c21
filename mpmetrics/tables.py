"""Families as a table for people: aligned, with units, and histograms in five numbers.

Units follow the naming conventions of Prometheus
(https://prometheus.io/docs/practices/naming/#base-units): the name of a family ends in its base
unit. Quantiles are estimated as PromQL's `histogram_quantile` does it, by linear interpolation
within a bucket.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from prometheus_client import Metric

    from mpmetrics.snapshot import Snapshot

QUANTILES: Final = (0.5, 0.9, 0.99)

_MISSING: Final = "-"
_INDENT: Final = "  "
_GAP: Final = "  "


def format_table(snapshot: Snapshot) -> str:
    """Return the *snapshot* as a table, family by family."""
    blocks = []
    for family in snapshot.families:
        children = [("", family), *snapshot.own(family.name)]
        rows = _rows(children, dict(snapshot.labels))
        title = f"{family.name} ({family.type})  {family.documentation}".rstrip()
        blocks.append("\n".join([title.replace("\n", " "), *_align(_columns(family), rows)]))
    return "\n\n".join(blocks) + "\n" if blocks else ""


class _Row(NamedTuple):
    """A line of the table: what it is about and its cells."""

    title: str
    cells: list[str]


def _columns(family: Metric) -> list[str]:
    """Return the column heads for a family, none where one number says it all."""
    if family.type == "histogram":
        return ["count", "mean", *(f"p{quantile * 100:g}" for quantile in QUANTILES)]
    return ["count", "mean"] if family.type == "summary" else []


def _rows(families: Sequence[tuple[str, Metric]], labels: Mapping[str, str]) -> list[_Row]:
    """Return a row for each child, each followed by those of single processes."""
    by_child: dict[str, list[_Row]] = {}
    for process, family in families:
        for title, cells in _children(family, labels):
            shown = f"process {process}" if process else title
            by_child.setdefault(title, []).append(_Row(shown, cells))
    rows = []
    for same in by_child.values():
        rows.append(same[0])
        rows += [_Row(_INDENT + row.title, row.cells) for row in same[1:]]
    return rows


def _children(family: Metric, labels: Mapping[str, str]) -> Iterable[tuple[str, list[str]]]:
    """Yield the labels and the cells of each child of a family."""
    show = unit_of(family.name)
    if family.type not in {"histogram", "summary"}:
        for sample in family.samples:
            text = format_count(sample.value) if family.type == "counter" else show(sample.value)
            yield _label_text({**labels, **sample.labels}), [text]
        return
    for child, child_labels in _distributions(family).values():
        cells = [format_count(child.count), _show_or_missing(show, child.mean)]
        if family.type == "histogram":
            cells += [child.quantile_text(quantile, show) for quantile in QUANTILES]
        yield _label_text({**labels, **child_labels}), cells


class Distribution:
    """What a histogram or summary says about its observations."""

    def __init__(self) -> None:
        """Start without observations."""
        self.count = 0.0
        self.sum = math.nan
        self.buckets: list[tuple[float, float]] = []

    @property
    def mean(self) -> float:
        """The mean, NaN without observations."""
        return self.sum / self.count if self.count else math.nan

    def quantile(self, quantile: float) -> float:
        """Return an estimate of a *quantile* (0 to 1); NaN without observations.

        Infinity stands for "more than the highest bound".
        """
        rank = quantile * self.count
        lower, below = 0.0, 0.0
        for bound, cumulated in self.buckets:
            if cumulated >= rank > 0:
                if math.isinf(bound) or cumulated == below:
                    return bound
                start = min(lower, bound)
                return start + (bound - start) * (rank - below) / (cumulated - below)
            lower, below = bound, cumulated
        return math.nan

    def quantile_text(self, quantile: float, show: Callable[[float], str]) -> str:
        """Return an estimate of a *quantile* as text."""
        value = self.quantile(quantile)
        if math.isinf(value):
            highest = [bound for bound, _ in self.buckets if not math.isinf(bound)]
            return f">{show(highest[-1])}" if highest else _MISSING
        return _show_or_missing(show, value)


def _distributions(family: Metric) -> dict[str, tuple[Distribution, dict[str, str]]]:
    """Bring the samples of each child of a histogram or summary together."""
    children: dict[str, tuple[Distribution, dict[str, str]]] = {}
    for sample in family.samples:
        labels = {name: value for name, value in sample.labels.items() if name != "le"}
        child, _ = children.setdefault(_label_text(labels), (Distribution(), labels))
        suffix = sample.name.removeprefix(family.name)
        if suffix == "_bucket":
            child.buckets.append((float(sample.labels["le"]), sample.value))
        elif suffix == "_sum":
            child.sum = sample.value
        elif suffix == "_count":
            child.count = sample.value
    return children


def _label_text(labels: Mapping[str, str]) -> str:
    """Return labels for a person: sorted, quoted, separated by blanks."""
    shown = {name: value.replace("\n", "\\n") for name, value in labels.items()}
    return " ".join(f'{name}="{value}"' for name, value in sorted(shown.items()))


def _align(heads: Sequence[str], rows: Sequence[_Row]) -> list[str]:
    """Return the lines of a table: titles to the left, numbers to the right."""
    lines = [_Row("", list(heads)), *rows] if heads else rows
    title_width = max((len(row.title) for row in lines), default=0)
    widths = [max(map(len, column)) for column in zip(*(row.cells for row in lines), strict=True)]
    return [
        _INDENT
        + row.title.ljust(title_width)
        + "".join(_GAP + cell.rjust(width) for cell, width in zip(row.cells, widths, strict=True))
        for row in lines
    ]


def _show_or_missing(show: Callable[[float], str], value: float) -> str:
    return _MISSING if math.isnan(value) else show(value)


def format_count(value: float) -> str:
    """Return a plain number: whole ones with separators, others with six digits."""
    if math.isfinite(value) and value == int(value):
        return f"{int(value):,}"
    return f"{value:,.6g}"


def format_duration(seconds: float) -> str:
    """Return a duration with the unit in which it has one to three digits before the point."""
    if seconds == 0 or not math.isfinite(seconds):
        return f"{seconds:g} s"
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")):
        if abs(seconds) >= factor:
            break
    return f"{seconds / factor:,.3g} {unit}" if abs(seconds) < 1000 * factor else f"{seconds:,.0f} s"


def format_bytes(size: float) -> str:
    """Return a size with a binary unit."""
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    power = min(int(math.log2(abs(size)) // 10), 4) if math.isfinite(size) and abs(size) >= 1 else 0
    return f"{size / (1 << 10 * power):,.4g} {units[power]}"


def format_ratio(ratio: float) -> str:
    """Return a ratio in percent."""
    return f"{ratio * 100:.4g} %"


_UNITS: Final[Mapping[str, Callable[[float], str]]] = {
    "_seconds": format_duration,
    "_bytes": format_bytes,
    "_ratio": format_ratio,
}


def unit_of(name: str) -> Callable[[float], str]:
    """Return how the values of family *name* are shown."""
    for suffix, show in _UNITS.items():
        if name.endswith(suffix):
            return show
    return format_count
