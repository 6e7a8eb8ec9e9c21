"""Families as a table for people: aligned, with units, and histograms in five numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics._text import format_count, format_of, one_line, width
from mpmetrics_cli.distributions import compute_distributions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from prometheus_client import Metric

    from mpmetrics.format import Labels
    from mpmetrics.scrape import FamilySnapshot, Snapshot
    from mpmetrics_cli.distributions import Distribution

QUANTILES: Final = (0.5, 0.9, 0.99)

_HEADS: Final[Mapping[str, Sequence[str]]] = {
    "histogram": ("count", "mean", *(f"p{quantile * 100:g}" for quantile in QUANTILES)),
    "summary": ("count", "mean"),
}
"""The column heads of types with several numbers."""

_MISSING: Final = "-"
_INDENT: Final = "  "
_GAP: Final = "  "


class _Row(NamedTuple):
    """A line of the table: a title and its numbers."""

    title: str
    cells: Sequence[str]


def format_table(snapshot: Snapshot) -> str:
    """Return the *snapshot* as a table, family by family; "" without families."""
    labels = dict(snapshot.labels)
    return "\n".join(_format_family(each, labels) for each in snapshot.families)


def _format_family(snapshot: FamilySnapshot, labels: Mapping[str, str]) -> str:
    """Return the lines of one family; *labels* are added to its series."""
    family = snapshot.merged
    title = one_line(f"{family.name} ({family.type})  {family.documentation}".rstrip())
    heads = _HEADS.get(family.type)
    rows = [_Row("", heads)] if heads else []
    own = [(process, _format_children(each)) for process, each in snapshot.processes.items()]
    for child, cells in _format_children(family).items():
        rows.append(_Row(_format_labels({**labels, **dict(child)}), cells))
        rows += [
            _Row(f"{_INDENT}process {one_line(process)}", children[child])
            for process, children in own
            if child in children
        ]
    return "".join(f"{line}\n" for line in (title, *_align(rows)))


def _format_children(family: Metric) -> Mapping[Labels, Sequence[str]]:
    """Return the cells of each child of a *family*."""
    form = format_of(family.name)
    if family.type in _HEADS:
        return {
            labels: _format_distribution(child, family.type, form)
            for labels, child in compute_distributions(family).items()
        }
    return {tuple(sorted(sample.labels.items())): [form(sample.value)] for sample in family.samples}


def _format_distribution(
    child: Distribution, kind: str, form: Callable[[float], str]
) -> Sequence[str]:
    """Return the cells below the column heads of a histogram or summary."""
    cells = [format_count(child.count), _format_or_dash(child.mean, form)]
    for quantile in QUANTILES if kind == "histogram" else ():
        value = child.quantile(quantile)
        # How far it is above the highest bound is not known.
        above = ">" if math.isinf(value) and not math.isnan(child.highest_bound) else ""
        shown = child.highest_bound if math.isinf(value) else value
        cells.append(above + _format_or_dash(shown, form))
    return cells


def _format_or_dash(value: float, form: Callable[[float], str]) -> str:
    """Return *value* as text, NaN as a dash."""
    return _MISSING if math.isnan(value) else form(value)


def _format_labels(labels: Mapping[str, str]) -> str:
    """Return *labels* as text: sorted, quoted, separated by blanks."""
    return " ".join(f'{name}="{_escape(value)}"' for name, value in sorted(labels.items()))


def _escape(value: str) -> str:
    return one_line(value.replace("\\", r"\\").replace('"', r"\""))


def _align(rows: Sequence[_Row]) -> list[str]:
    """Return the *rows* as lines: titles to the left, numbers to the right."""
    title_width = max((width(row.title) for row in rows), default=0)
    widths = [max(map(width, column)) for column in zip(*(row.cells for row in rows), strict=True)]
    return [
        _INDENT
        + row.title
        + " " * (title_width - width(row.title))
        + "".join(_GAP + cell.rjust(size) for cell, size in zip(row.cells, widths, strict=True))
        for row in rows
    ]
