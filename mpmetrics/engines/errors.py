"""What can go wrong between an engine and its metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpmetrics.errors import MpmetricsError

if TYPE_CHECKING:
    from collections.abc import Mapping


class TokenLedgerError(MpmetricsError, ValueError):
    """Token counts that cannot be: the *numbers* by name, and *why*."""

    def __init__(self, numbers: Mapping[str, object], why: str) -> None:
        """Remember the *numbers*, and *why* they cannot be."""
        super().__init__(dict(numbers), why)
        self.numbers = dict(numbers)
        self.why = why

    def __str__(self) -> str:
        """Return one line with all the numbers."""
        listed = ", ".join(f"{name}={number!r}" for name, number in self.numbers.items())
        return f"{self.why}: {listed}"
