"""Families as a table for people: aligned, with units, and histograms in five numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics._text import format_count, format_of, one_line, width
from mpmetrics_cli.distributions import distributions

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
"""The column heads, for types of which one number does not say it all."""

_MISSING: Final = "-"
_INDENT: Final = "  "
_GAP: Final = "  "


class _Row(NamedTuple):
    """A line of the table: what it is about, and its numbers."""

    title: str
    cells: Sequence[str]


def format_table(snapshot: Snapshot) -> str:
    """Return the *snapshot* as a table, family by family; "" when there is none."""
    labels = dict(snapshot.labels)
    return "\n".join(_block(each, labels) for each in snapshot.families)


def _block(view: FamilySnapshot, labels: Mapping[str, str]) -> str:
    """Return the lines of one family; *labels* are added to its series."""
    family = view.merged
    title = one_line(f"{family.name} ({family.type})  {family.documentation}".rstrip())
    heads = _HEADS.get(family.type)
    rows = [_Row("", heads)] if heads else []
    own = [(process, _children(each)) for process, each in view.processes.items()]
    for child, cells in _children(family).items():
        rows.append(_Row(_label_text({**labels, **dict(child)}), cells))
        rows += [
            _Row(f"{_INDENT}process {one_line(process)}", children[child])
            for process, children in own
            if child in children
        ]
    return "".join(f"{line}\n" for line in (title, *_aligned(rows)))


def _children(family: Metric) -> Mapping[Labels, Sequence[str]]:
    """Return the cells of each child of a *family*."""
    form = format_of(family.name)
    if family.type in _HEADS:
        return {
            labels: _distribution_cells(child, family.type, form)
            for labels, child in distributions(family).items()
        }
    return {tuple(sorted(sample.labels.items())): [form(sample.value)] for sample in family.samples}


def _distribution_cells(
    child: Distribution, kind: str, form: Callable[[float], str]
) -> Sequence[str]:
    """Return what the column heads for a histogram or summary promise."""
    cells = [format_count(child.count), _or_missing(child.mean, form)]
    for quantile in QUANTILES if kind == "histogram" else ():
        value = child.quantile(quantile)
        # Above the highest bound, nobody knows how far.
        above = ">" if math.isinf(value) and not math.isnan(child.highest_bound) else ""
        shown = child.highest_bound if math.isinf(value) else value
        cells.append(above + _or_missing(shown, form))
    return cells


def _or_missing(value: float, form: Callable[[float], str]) -> str:
    """Return what cannot be known (NaN) as a dash."""
    return _MISSING if math.isnan(value) else form(value)


def _label_text(labels: Mapping[str, str]) -> str:
    """Return labels for a person: sorted, quoted, separated by blanks."""
    return " ".join(f'{name}="{_escaped(value)}"' for name, value in sorted(labels.items()))


def _escaped(value: str) -> str:
    return one_line(value.replace("\\", r"\\").replace('"', r"\""))


def _aligned(rows: Sequence[_Row]) -> list[str]:
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
