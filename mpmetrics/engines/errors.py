"""The errors of engine metrics: input that cannot be counted, named, published or bound.

Each has its facts as attributes, a message of one line, and can be pickled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mpmetrics._text import shorten
from mpmetrics.errors import MpmetricsError

if TYPE_CHECKING:
    from collections.abc import Mapping


_SHOWN: Final = 200
"""Characters of an endpoint or a name that a message shows."""


class TokenLedgerError(MpmetricsError, ValueError):
    """Impossible token counts: the *numbers* by name, and *why* they are impossible."""

    def __init__(self, numbers: Mapping[str, object], why: str) -> None:
        """Store the *numbers* by name, and *why* they are impossible."""
        super().__init__(dict(numbers), why)
        self.numbers = dict(numbers)
        self.why = why

    def __str__(self) -> str:
        """Return one line with all numbers."""
        listed = ", ".join(f"{name}={number!r}" for name, number in self.numbers.items())
        return f"{self.why}: {listed}"


class NameSanitizingError(MpmetricsError, ValueError):
    """A *name* without any character that a Prometheus name can have."""

    def __init__(self, name: str) -> None:
        """Store the *name*."""
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        """Return one line."""
        return (
            f"nothing is left of the name {self.name!r} without characters that Prometheus rejects"
        )


class MetricConflictError(MpmetricsError, ValueError):
    """A metric whose *name* is taken: what is *there*, and what was *asked* for."""

    def __init__(self, name: str, there: str, asked: str) -> None:
        """Store the *name*, what is *there*, and what was *asked* for."""
        super().__init__(name, there, asked)
        self.name = name
        self.there = there
        self.asked = asked

    def __str__(self) -> str:
        """Return one line."""
        return f"metric {self.name!r} is {self.there} and cannot be {self.asked}"


class EndpointBoundError(MpmetricsError, RuntimeError):
    """An *endpoint* that cannot be bound because another one is bound *there*."""

    def __init__(self, there: object, endpoint: object) -> None:
        """Store the endpoint that is bound *there*, and the *endpoint* that was to be."""
        super().__init__(there, endpoint)
        self.there = there
        self.endpoint = endpoint

    def __str__(self) -> str:
        """Return one line."""
        asked, there = (shorten(repr(each), _SHOWN) for each in (self.endpoint, self.there))
        return f"{asked} cannot be bound: {there} is bound"


class EventEndpointError(MpmetricsError, ValueError):
    """An *endpoint* that cannot be used for events, and *why*."""

    def __init__(self, endpoint: str, why: str) -> None:
        """Store the *endpoint* as it was given, and *why* it cannot be used."""
        super().__init__(endpoint, why)
        self.endpoint = endpoint
        self.why = why

    def __str__(self) -> str:
        """Return one line."""
        # The library's reason may have the endpoint in it once more.
        endpoint, why = shorten(self.endpoint, _SHOWN), shorten(self.why, _SHOWN)
        return f"endpoint {endpoint!r}: {why}"


class NatsOptionError(MpmetricsError, ValueError):
    """An option for a NATS server that cannot be used: its *name*, and *why*."""

    def __init__(self, name: str, why: str) -> None:
        """Store the *name* and *why*."""
        super().__init__(name, why)
        self.name = name
        self.why = why

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.name}: {self.why}"


class DebounceTimingError(MpmetricsError, ValueError):
    """An impossible time: its *name*, and its length in *seconds*."""

    def __init__(self, name: str, seconds: float) -> None:
        """Store the *name* and the *seconds*."""
        super().__init__(name, seconds)
        self.name = name
        self.seconds = seconds

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.name} cannot be {self.seconds} seconds"


class LoadError(MpmetricsError, ValueError):
    """A load that cannot be published: its data-parallel rank *dp_rank*, and *why*."""

    def __init__(self, dp_rank: int, why: str) -> None:
        """Store the *dp_rank* and *why*."""
        super().__init__(dp_rank, why)
        self.dp_rank = dp_rank
        self.why = why

    def __str__(self) -> str:
        """Return one line."""
        return f"load of rank {self.dp_rank}: {self.why}"


class KvbmError(MpmetricsError, ValueError):
    """Something that KVBM cannot count: its *name*, and *why*."""

    def __init__(self, name: str, why: str) -> None:
        """Store the *name* and *why*."""
        super().__init__(name, why)
        self.name = name
        self.why = why

    @classmethod
    def counting(cls, number: int, what: str, of: int | None = None) -> KvbmError:
        """Return the error for an impossible *number* of *what*, or of *of* of them."""
        return cls(what, f"there cannot be {number}" + ("" if of is None else f" of {of}"))

    @classmethod
    def between(cls, source: str, target: str, family: str) -> KvbmError:
        """Return the error for a transfer that the counter *family* does not count."""
        return cls(family, f"there is no transfer from {source} to {target}")

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.name}: {self.why}"
