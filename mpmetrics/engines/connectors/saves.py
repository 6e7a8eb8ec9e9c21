"""Saves in the background, counted: a request is saved when the last of its savers says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class ExtraSaves(dict[str, int]):
    """How many reports are still to come before the last, by request; none where it is the last."""

    def expect(self, request_id: str, savers: int) -> None:
        """Wait for so many *savers* of a request, and for no others."""
        self.pop(request_id, None)
        if savers > 1:
            self[request_id] = savers - 1

    def handed_over(self) -> dict[str, int] | None:
        """Return what is awaited, for others to wait for, and forget it; None if it is nothing."""
        awaited = dict(self)
        self.clear()
        return awaited or None

    def take(self, awaited: Mapping[str, int] | None) -> None:
        """Wait for what others have handed over."""
        self.update(awaited or {})

    def finished(self, reports: Iterable[str]) -> set[str]:
        """Return those requests of which the last report is among the *reports*."""
        return {request_id for request_id in reports if self._is_last(request_id)}

    def _is_last(self, request_id: str) -> bool:
        """Count one report, and tell whether it was the last."""
        left = self.pop(request_id, 0)
        if left > 1:
            self[request_id] = left - 1
        return not left
