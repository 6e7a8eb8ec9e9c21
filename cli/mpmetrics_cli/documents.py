"""JSON for programs. What JSON has no number for, NaN and infinities, is a string."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from mpmetrics.kernel import format_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client import Metric

    from mpmetrics.diagnosis import Finding
    from mpmetrics.snapshot import Snapshot


def snapshot_document(snapshot: Snapshot) -> str:
    """Return a snapshot as a JSON object: `families`, `problems` and, if any, `processes`."""
    added = dict(snapshot.labels)
    document: dict[str, Any] = {"families": _families(snapshot.families, added)}
    if snapshot.processes:
        document["processes"] = {
            process: _families(families, added) for process, families in snapshot.processes.items()
        }
    document["problems"] = [problem._asdict() for problem in snapshot.problems]
    return _dump(document)


def findings_document(findings: Sequence[Finding]) -> str:
    """Return what the doctor found as a JSON object: `findings`."""
    return _dump({"findings": [finding._asdict() for finding in findings]})


def _families(families: Iterable[Metric], added: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "name": family.name,
            "type": family.type,
            "help": family.documentation,
            "samples": [
                {
                    "name": sample.name,
                    "labels": {**added, **sample.labels},
                    "value": _number(sample.value),
                }
                for sample in family.samples
            ],
        }
        for family in families
    ]


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else format_value(value)


def _dump(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, allow_nan=False) + "\n"
