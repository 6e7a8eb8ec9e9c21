"""Saves in the background that several connectors of a composite make of one request."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class PendingSaves(dict[str, int]):
    """The number of reports that precede the last one, by request.

    The scheduler's composite counts the savers of a request; the workers' composite counts their
    reports down. A request with a single report to come has no entry.
    """

    def expect(self, request_id: str, savers: int) -> None:
        """Expect the reports of this number of *savers* of a request, and drop earlier numbers."""
        self.pop(request_id, None)
        if savers > 1:
            self[request_id] = savers - 1

    def drain(self) -> dict[str, int] | None:
        """Return all entries, for the workers, and drop them; return None if there are none."""
        drained = dict(self)
        self.clear()
        return drained or None

    def add(self, drained: Mapping[str, int] | None) -> None:
        """Add the entries that the scheduler has drained."""
        self.update(drained or {})

    def count_reports(self, reports: Iterable[str]) -> set[str]:
        """Count the *reports*, each the id of a saved request; return the completed requests."""
        return {request_id for request_id in reports if self._count_report(request_id)}

    def _count_report(self, request_id: str) -> bool:
        """Count one report; return whether it was the last of its request."""
        left = self.pop(request_id, 0)
        if left > 1:
            self[request_id] = left - 1
        return not left
