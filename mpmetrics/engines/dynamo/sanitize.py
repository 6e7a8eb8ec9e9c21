"""Names that Prometheus takes, made of names that it does not.

The rules are Dynamo's (`lib/runtime/src/metrics/prometheus_names.rs`). They are for names of
metrics and of labels; the values of labels may be anything and are never changed.
"""

from __future__ import annotations

import re
from typing import Final

from mpmetrics.engines.errors import NameSanitizingError

_NOT_IN_NAME: Final = re.compile(r"[^a-zA-Z0-9_:]")
_NOT_IN_LABEL: Final = re.compile(r"[^a-zA-Z0-9_]")


def sanitized_name(name: str) -> str:
    """Return *name* as the name of a metric. Raises `NameSanitizingError` if nothing is left."""
    return _begun(name, _NOT_IN_NAME.sub("_", name))


def sanitized_label(name: str) -> str:
    """Return *name* as that of a label; those that begin with __ are for Prometheus itself.

    Raises `NameSanitizingError` if nothing is left.
    """
    label = _NOT_IN_LABEL.sub("_", name)
    while label.startswith("__"):
        label = label[2:]
    return _begun(name, label)


def _begun(given: str, name: str) -> str:
    """Return *name* with a first character that is allowed there."""
    if not name.strip("_"):
        raise NameSanitizingError(given)
    return f"_{name}" if name[0].isdigit() else name
