"""What the applications of all libraries share: a counter, and whether mpmetrics is installed.

They are imported by servers of several processes, which run in this folder.
"""

from __future__ import annotations

import os

from prometheus_client import Counter

import mpmetrics

GREETINGS = Counter("greetings", "Greetings sent")

if "MPMETRICS_INSTALL" in os.environ:
    mpmetrics.install()


def greet() -> str:
    """Count a greeting, and return it."""
    GREETINGS.inc()
    return "hello\n"
