"""The results of the commands as bytes, in each of their formats.

JSON is for programs. It has no numbers for NaN and infinities: they are strings there, spelt as
in the text format.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from mpmetrics._text import one_line, plural
from mpmetrics.exposition import Format, format_value
from mpmetrics_cli.table import format_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from prometheus_client import Metric

    from mpmetrics.compaction import Compaction
    from mpmetrics.doctor import Finding
    from mpmetrics.scrape import FamilySnapshot, Snapshot


def _render_snapshot_as_json(snapshot: Snapshot) -> bytes:
    """Return `families`, each with `samples` and, if asked for, `processes`, and `problems`."""
    added = dict(snapshot.labels)
    return _render_json(
        families=[_family_document(each, added) for each in snapshot.families],
        problems=[problem._asdict() for problem in snapshot.problems],
    )


def _family_document(snapshot: FamilySnapshot, added: dict[str, str]) -> dict[str, Any]:
    """Return a family as a JSON object, with the labels *added* to its samples."""
    family = snapshot.merged
    document: dict[str, Any] = {
        "name": family.name,
        "type": family.type,
        "help": family.documentation,
        "samples": _sample_documents(family, added),
    }
    if snapshot.processes:
        document["processes"] = {
            process: _sample_documents(own, added) for process, own in snapshot.processes.items()
        }
    return document


def _sample_documents(family: Metric, added: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "name": sample.name,
            "labels": {**added, **sample.labels},
            "value": sample.value if math.isfinite(sample.value) else format_value(sample.value),
        }
        for sample in family.samples
    ]


def _render_findings_as_json(findings: Sequence[Finding]) -> bytes:
    """Return an object with `findings`."""
    return _render_json(findings=[finding._asdict() for finding in findings])


def _render_findings_as_report(findings: Sequence[Finding]) -> bytes:
    """Return two lines for each finding: what it is, and what to do."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.level}: {one_line(finding.what)}\n")
        if finding.advice:
            lines.append(f"    {one_line(finding.advice)}\n")
    return "".join(lines).encode()


def _render_compaction_as_json(compaction: Compaction) -> bytes:
    """Return an object with the fields of a `mpmetrics.Compaction`."""
    document = compaction._asdict()
    for field in ("skipped", "quarantined", "problems"):
        document[field] = [each._asdict() for each in document[field]]
    return _render_json(**document)


def _render_compaction_as_report(compaction: Compaction) -> bytes:
    """Return a line for each kind of result."""
    if compaction.outcome == "busy":
        return b"another process is compacting this directory; nothing was done\n"
    would = "would be " if compaction.outcome == "preview" else ""
    lines = [
        f"{plural(len(files), 'file')} {would}{what}\n"
        for files, what in (
            (compaction.folded, "folded into the archives"),
            (compaction.dropped, "dropped: gauges that end with their process"),
            (compaction.quarantined, "set aside: damaged"),
        )
        if files
    ]
    left = Counter((skipped.reason, skipped.detail) for skipped in compaction.skipped)
    lines += [
        f"{plural(count, 'file')} left: {each}{reason}: {one_line(detail)}\n"
        for (reason, detail), count in sorted(left.items())
        for each in ["each " if count > 1 else ""]
    ]
    lines += [f"note: {problem}\n" for problem in compaction.problems]
    return "".join(lines or ["there is nothing to compact\n"]).encode()


def _render_json(**document: object) -> bytes:
    return (json.dumps(document, indent=2, allow_nan=False) + "\n").encode()


SNAPSHOT_RENDERERS: Final[Mapping[str, Callable[[Snapshot], bytes]]] = {
    "text": lambda snapshot: snapshot.write(Format()),
    "openmetrics": lambda snapshot: snapshot.write(Format(openmetrics=True)),
    "json": _render_snapshot_as_json,
    "table": lambda snapshot: format_table(snapshot).encode(),
}
"""The formats of `mpmetrics dump`."""

COMPACTION_RENDERERS: Final[Mapping[str, Callable[[Compaction], bytes]]] = {
    "report": _render_compaction_as_report,
    "json": _render_compaction_as_json,
}
"""The formats of `mpmetrics compact`."""

FINDINGS_RENDERERS: Final[Mapping[str, Callable[[Sequence[Finding]], bytes]]] = {
    "report": _render_findings_as_report,
    "json": _render_findings_as_json,
}
"""The formats of `mpmetrics doctor`."""
