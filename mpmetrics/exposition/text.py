"""From families to text: Prometheus text format 0.0.4 and OpenMetrics 1.0.

The functions here neither sort nor check: they write the families and samples in the order in
which they come. Sources: https://prometheus.io/docs/instrumenting/exposition_formats/ and
https://prometheus.io/docs/specs/om/open_metrics_spec/.

One function (`Format.name`) makes the name for HELP, TYPE and samples alike, so that they agree.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Protocol

from mpmetrics.exposition.lines import LinePrefixes, is_native, sample_line
from mpmetrics.exposition.names import TEXT_ASIDE, exposed_name, metric_type

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeGuard

    from prometheus_client import Metric

    from mpmetrics.exposition.formats import Format


class Writable(Protocol):
    """A family that can write itself, faster than sample by sample."""

    def text(self, form: Format) -> str:
        """Return the family's lines in the given format."""
        ...  # pragma: no cover - a protocol has no body


def render_families(families: Iterable[Metric], form: Format) -> bytes:
    """Return the page of *families*, in the order in which they come.

    The format may lack characters of a name and replace them. Of families whose names are then the
    same, only the first is written. OpenMetrics calls the counter `a_total` of the text format
    `a`; where another family has that name, it is written without its type.
    """
    parts = []
    written = set()
    headings: set[str] = set()
    for family in families:
        name = form.name(text_name(family))
        if name in written:
            continue
        written.add(name)
        heading = form.name(_heading(family, form)[0]) if form.openmetrics else name
        if heading in headings:
            parts.append(_render_untyped(family, form))
            headings.update(form.name(sample.name) for sample in family.samples)
        else:
            parts.append(render_family(family, form))
            headings.add(heading)
    if form.openmetrics:
        parts.append("# EOF\n")
    return "".join(parts).encode("utf-8", "replace")


def render_family(family: Metric, form: Format) -> str:
    """Return the lines of one *family*, "" if it has no sample that the format can write."""
    if _is_writable(family):
        return family.text(form)
    if all(map(is_native, family.samples)):
        return ""
    name, kind = _heading(family, form)
    lines = [_write_header(name, kind, family.documentation, form, family.unit)]
    aside: dict[str, list[str]] = defaultdict(list)
    prefixes = LinePrefixes(form)
    for sample in family.samples:
        suffix = sample.name.removeprefix(family.name)
        line = sample_line(family, sample, prefixes)
        if suffix in TEXT_ASIDE and not form.openmetrics:
            aside[sample.name].append(line)
        else:
            lines.append(line)
    for name, extra in sorted(aside.items()):
        lines.append(_write_header(name, "gauge", family.documentation, form))
        lines.extend(extra)
    return "".join(lines)


def text_name(family: Metric) -> str:
    """Return the name of *family* in the text format, by which it is known on a page.

    It is the one on HELP and TYPE. A counter may lack the suffix `_total` there.
    """
    return family.name if _is_bare_counter(family) else exposed_name(family.name, family.type)


def _is_writable(family: object) -> TypeGuard[Writable]:
    """Return whether *family* can write itself."""
    # `isinstance` of a protocol takes microseconds, and a page asks for each of its families.
    return hasattr(family, "text")


def _is_bare_counter(family: Metric) -> bool:
    """Return whether *family* is a counter that has samples of its own name, without `_total`."""
    if family.type != "counter" or _is_writable(family):
        return False
    return any(sample.name == family.name for sample in family.samples)


def _heading(family: Metric, form: Format) -> tuple[str, str]:
    """Return the name and the type of *family* for HELP and TYPE in the given format."""
    if _is_bare_counter(family):
        # OpenMetrics has no such counter.
        return family.name, "unknown" if form.openmetrics else "counter"
    kind = family.type if form.openmetrics else metric_type(family.type).text_type
    return exposed_name(family.name, family.type, openmetrics=form.openmetrics), kind


def _render_untyped(family: Metric, form: Format) -> str:
    """Return the lines of *family* as families without a type, one for each name of samples."""
    prefixes = LinePrefixes(form)
    lines: dict[str, list[str]] = defaultdict(list)
    for sample in family.samples:
        lines[sample.name].append(sample_line(family, sample, prefixes))
    return "".join(
        _write_header(name, "unknown", family.documentation, form) + "".join(of_name)
        for name, of_name in lines.items()
    )


def render_header(name: str, kind: str, help_text: str, form: Format, unit: str = "") -> str:
    """Return the HELP and TYPE lines (in OpenMetrics also UNIT) of a family."""
    written = exposed_name(name, kind, openmetrics=form.openmetrics)
    return _write_header(
        written, kind if form.openmetrics else metric_type(kind).text_type, help_text, form, unit
    )


def _write_header(name: str, kind: str, help_text: str, form: Format, unit: str = "") -> str:
    """Write the header of the family that the format calls *name*, of the type *kind* there."""
    written = form.name(name)
    help_text = help_text.replace("\\", r"\\").replace("\n", r"\n")
    if not form.openmetrics:
        return f"# HELP {written} {help_text}\n# TYPE {written} {kind}\n"
    help_text = help_text.replace('"', r"\"")
    # The specification, and Prometheus, refuse a unit that is not the end of the name.
    has_unit = unit and written.rstrip('"').endswith(f"_{unit}")
    unit_line = f"# UNIT {written} {unit}\n" if has_unit else ""
    return f"# HELP {written} {help_text}\n# TYPE {written} {kind}\n{unit_line}"
