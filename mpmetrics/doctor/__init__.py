"""A diagnosis of a multiprocess set-up: what is wrong with it, and what to do."""

from __future__ import annotations

from mpmetrics.doctor.diagnosis import diagnose
from mpmetrics.doctor.probes import Probes
from mpmetrics.doctor.remedies import Finding

__all__ = [
    "Finding",
    "Probes",
    "diagnose",
]
