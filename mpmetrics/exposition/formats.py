"""The format of a page: text format or OpenMetrics, the escaping scheme, and added labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mpmetrics.exposition.escaping import (
    ESCAPING_SCHEMES,
    LABEL_NAMES,
    METRIC_NAMES,
    UNDERSCORES,
)

if TYPE_CHECKING:
    from mpmetrics.format import Labels


class Format(NamedTuple):
    """A way to write families: format, escaping of names, and *labels* added to every sample.

    A label that a sample has itself keeps its value.
    """

    openmetrics: bool = False
    escaping: str = UNDERSCORES
    labels: Labels = ()

    @property
    def content_type(self) -> str:
        """The value of the `Content-Type` header."""
        kind, version = (
            ("application/openmetrics-text", "1.0.0")
            if self.openmetrics
            else ("text/plain", "0.0.4" if self.escaping == UNDERSCORES else "1.0.0")
        )
        escaping = f"; escaping={self.escaping}" if self.escaping != UNDERSCORES else ""
        return f"{kind}; version={version}; charset=utf-8{escaping}"

    def name(self, name: str) -> str:
        """Return a metric *name* as this format writes it."""
        return ESCAPING_SCHEMES[self.escaping](name, METRIC_NAMES)

    def label_name(self, name: str) -> str:
        """Return a label *name* as this format writes it."""
        return ESCAPING_SCHEMES[self.escaping](name, LABEL_NAMES)
