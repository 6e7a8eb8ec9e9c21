"""What is wrong with a directory and its environment, and what to do."""

from __future__ import annotations

from mpmetrics.doctor.diagnosis import diagnose
from mpmetrics.doctor.remedies import Finding

__all__ = [
    "Finding",
    "diagnose",
]
