"""From families to text: Prometheus text format 0.0.4 and OpenMetrics 1.0.

The functions here neither sort nor check: they write the families and samples in the order in
which they come. Sources: https://prometheus.io/docs/instrumenting/exposition_formats/ and
https://prometheus.io/docs/specs/om/open_metrics_spec/.

One function (`Format.name`) makes the name for HELP, TYPE and samples alike, so that they agree.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from mpmetrics.exposition.lines import LinePrefixes, is_native, sample_line
from mpmetrics.exposition.names import TEXT_ASIDE, exposed_name, metric_type

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import Metric

    from mpmetrics.exposition.formats import Format


@runtime_checkable
class Writable(Protocol):
    """A family that can write itself, faster than sample by sample."""

    def text(self, form: Format) -> str:
        """Return the family's lines in the given format."""
        ...  # pragma: no cover - a protocol has no body


def render_families(families: Iterable[Metric], form: Format) -> bytes:
    """Return the page of *families*, in the order in which they come.

    The format may lack characters of a name and replace them. Of families whose names are then the
    same, only the first is written.
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
    """Return the lines of one *family*, "" if it has no sample that the format can write."""
    if isinstance(family, Writable):
        return family.text(form)
    if all(map(is_native, family.samples)):
        return ""
    lines = [render_header(family.name, family.type, family.documentation, form, family.unit)]
    aside: dict[str, list[str]] = defaultdict(list)
    prefixes = LinePrefixes(form)
    for sample in family.samples:
        suffix = sample.name.removeprefix(family.name)
        line = sample_line(family, sample, prefixes)
        if suffix in TEXT_ASIDE and not form.openmetrics:
            aside[suffix].append(line)
        else:
            lines.append(line)
    for suffix, extra in sorted(aside.items()):
        lines.append(render_header(family.name + suffix, "gauge", family.documentation, form))
        lines.extend(extra)
    return "".join(lines)


def render_header(name: str, kind: str, help_text: str, form: Format, unit: str = "") -> str:
    """Return the HELP and TYPE lines (in OpenMetrics also UNIT) of a family."""
    written = form.name(exposed_name(name, kind, openmetrics=form.openmetrics))
    help_text = help_text.replace("\\", r"\\").replace("\n", r"\n")
    if not form.openmetrics:
        kind = metric_type(kind).text_type
        return f"# HELP {written} {help_text}\n# TYPE {written} {kind}\n"
    help_text = help_text.replace('"', r"\"")
    # The specification refuses a unit that is not the end of the name.
    unit_line = f"# UNIT {written} {unit}\n" if unit and name.endswith(f"_{unit}") else ""
    return f"# HELP {written} {help_text}\n# TYPE {written} {kind}\n{unit_line}"
