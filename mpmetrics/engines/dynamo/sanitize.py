"""Names that Prometheus accepts, made from any names.

The rules are Dynamo's (`lib/runtime/src/metrics/prometheus_names.rs`). They are for names of
metrics and of labels; label values may be any text and are never changed.
"""

from __future__ import annotations

import re
from typing import Final

from mpmetrics.engines.errors import NameSanitizingError

_NOT_IN_NAME: Final = re.compile(r"[^a-zA-Z0-9_:]")
_NOT_IN_LABEL: Final = re.compile(r"[^a-zA-Z0-9_]")


def sanitize_name(name: str) -> str:
    """Return *name* as a metric name. Raises `NameSanitizingError` if nothing is left of it."""
    return _fix_first_character(name, _NOT_IN_NAME.sub("_", name))


def sanitize_label(name: str) -> str:
    """Return *name* as a label name, without a leading `__`, which Prometheus reserves.

    Raises `NameSanitizingError` if nothing is left of it.
    """
    label = _NOT_IN_LABEL.sub("_", name)
    while label.startswith("__"):
        label = label[2:]
    return _fix_first_character(name, label)


def _fix_first_character(given: str, name: str) -> str:
    """Put `_` before a *name* that begins with a digit; *given* is the name for the error."""
    if not name.strip("_"):
        raise NameSanitizingError(given)
    return f"_{name}" if name[0].isdigit() else name
