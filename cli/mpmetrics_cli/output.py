"""What the commands print, in each of their formats.

JSON is for programs. What it has no number for, NaN and infinities, is a string there, spelled
as in the text format.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from mpmetrics._text import one_line, plural
from mpmetrics.exposition import Format
from mpmetrics.format import format_value
from mpmetrics_cli.table import format_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from prometheus_client import Metric

    from mpmetrics.compaction import Compaction
    from mpmetrics.doctor import Finding
    from mpmetrics.scrape import FamilySnapshot, Snapshot


def _snapshot_json(snapshot: Snapshot) -> bytes:
    """Return `families`, each with `samples` and, if asked for, `processes`, and `problems`."""
    added = dict(snapshot.labels)
    return _json(
        families=[_family(each, added) for each in snapshot.families],
        problems=[problem._asdict() for problem in snapshot.problems],
    )


def _family(view: FamilySnapshot, added: dict[str, str]) -> dict[str, Any]:
    """Return a family as JSON has it, with the labels *added* to its samples."""
    family = view.merged
    document: dict[str, Any] = {
        "name": family.name,
        "type": family.type,
        "help": family.documentation,
        "samples": _samples(family, added),
    }
    if view.processes:
        document["processes"] = {
            process: _samples(own, added) for process, own in view.processes.items()
        }
    return document


def _samples(family: Metric, added: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "name": sample.name,
            "labels": {**added, **sample.labels},
            "value": sample.value if math.isfinite(sample.value) else format_value(sample.value),
        }
        for sample in family.samples
    ]


def _findings_json(findings: Sequence[Finding]) -> bytes:
    """Return `findings`."""
    return _json(findings=[finding._asdict() for finding in findings])


def _findings_text(findings: Sequence[Finding]) -> bytes:
    """Return two lines for each finding: what it is, and what to do."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.level}: {one_line(finding.what)}\n")
        if finding.advice:
            lines.append(f"    {one_line(finding.advice)}\n")
    return "".join(lines).encode()


def _compaction_json(compaction: Compaction) -> bytes:
    """Return the fields of a `mpmetrics.Compaction`."""
    document = compaction._asdict()
    for field in ("skipped", "quarantined", "problems"):
        document[field] = [each._asdict() for each in document[field]]
    return _json(**document)


def _compaction_text(compaction: Compaction) -> bytes:
    """Return a line for each thing that was done, or not."""
    if compaction.outcome == "busy":
        return b"somebody else is compacting this directory; nothing was done\n"
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
        f"{plural(count, 'file')} left: {reason}: {one_line(detail)}\n"
        for (reason, detail), count in sorted(left.items())
    ]
    lines += [f"note: {problem}\n" for problem in compaction.problems]
    return "".join(lines or ["there is nothing to compact\n"]).encode()


def _json(**document: object) -> bytes:
    return (json.dumps(document, indent=2, allow_nan=False) + "\n").encode()


SNAPSHOT_FORMATS: Final[Mapping[str, Callable[[Snapshot], bytes]]] = {
    "text": lambda snapshot: snapshot.write(Format()),
    "openmetrics": lambda snapshot: snapshot.write(Format(openmetrics=True)),
    "json": _snapshot_json,
    "table": lambda snapshot: format_table(snapshot).encode(),
}
"""How `mpmetrics dump` writes, by the name of the format."""

COMPACTION_FORMATS: Final[Mapping[str, Callable[[Compaction], bytes]]] = {
    "text": _compaction_text,
    "json": _compaction_json,
}
"""How `mpmetrics compact` writes, by the name of the format."""

FINDINGS_FORMATS: Final[Mapping[str, Callable[[Sequence[Finding]], bytes]]] = {
    "text": _findings_text,
    "json": _findings_json,
}
"""How `mpmetrics doctor` writes, by the name of the format."""
