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


class NameSanitizingError(MpmetricsError, ValueError):
    """A *name* that has no character that a name in Prometheus may have."""

    def __init__(self, name: str) -> None:
        """Remember the *name*."""
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        """Return one line for a person."""
        return f"nothing is left of the name {self.name!r} once it is one for Prometheus"


class MetricConflictError(MpmetricsError, ValueError):
    """A metric that is there already, but differs: its *name*, what it is and what was *asked*."""

    def __init__(self, name: str, there: str, asked: str) -> None:
        """Remember the *name*, what is *there*, and what was *asked* for."""
        super().__init__(name, there, asked)
        self.name = name
        self.there = there
        self.asked = asked

    def __str__(self) -> str:
        """Return one line for a person."""
        return f"metric {self.name!r} is {self.there} and cannot be {self.asked}"


class EndpointBoundError(MpmetricsError, RuntimeError):
    """An *endpoint* where there is one already (*there*)."""

    def __init__(self, there: object, endpoint: object) -> None:
        """Remember which endpoint is *there*, and which was to be bound."""
        super().__init__(there, endpoint)
        self.there = there
        self.endpoint = endpoint

    def __str__(self) -> str:
        """Return one line for a person."""
        return f"{self.endpoint!r} cannot be bound: {self.there!r} is"


class EventEndpointError(MpmetricsError, ValueError):
    """An *endpoint* that no events can come from or go to, and *why*."""

    def __init__(self, endpoint: str, why: str) -> None:
        """Remember the *endpoint* as it was given, and *why* it is of no use."""
        super().__init__(endpoint, why)
        self.endpoint = endpoint
        self.why = why

    def __str__(self) -> str:
        """Return one line for a person."""
        return f"endpoint {self.endpoint!r}: {self.why}"


class NatsOptionError(MpmetricsError, ValueError):
    """An option for a NATS server that is of no use: its *name*, and *why*."""

    def __init__(self, name: str, why: str) -> None:
        """Remember the *name* and *why*."""
        super().__init__(name, why)
        self.name = name
        self.why = why

    def __str__(self) -> str:
        """Return one line for a person."""
        return f"{self.name}: {self.why}"


class DebounceTimingError(MpmetricsError, ValueError):
    """A time that cannot be: its *name*, and how many *seconds* it was to be."""

    def __init__(self, name: str, seconds: float) -> None:
        """Remember the *name* and the *seconds*."""
        super().__init__(name, seconds)
        self.name = name
        self.seconds = seconds

    def __str__(self) -> str:
        """Return one line for a person."""
        return f"{self.name} cannot be {self.seconds} seconds"


class LoadError(MpmetricsError, ValueError):
    """A load that cannot be, of a data-parallel rank."""

    def __init__(self, dp_rank: int, why: str) -> None:
        """Remember the *dp_rank*, and *why* it cannot be published."""
        super().__init__(dp_rank, why)
        self.dp_rank = dp_rank
        self.why = why

    def __str__(self) -> str:
        """Return one line for a person."""
        return f"load of rank {self.dp_rank}: {self.why}"


class KvbmError(MpmetricsError, ValueError):
    """Something that KVBM cannot count: its *name*, and *why*."""

    def __init__(self, name: str, why: str) -> None:
        """Remember the *name* and *why*."""
        super().__init__(name, why)
        self.name = name
        self.why = why

    @classmethod
    def counting(cls, some: int, what: str, of: int | None = None) -> KvbmError:
        """Return the error of *some* tokens or blocks (*what*), *of* so many."""
        return cls(what, f"there cannot be {some}" + ("" if of is None else f" of {of}"))

    @classmethod
    def between(cls, source: str, target: str, family: str) -> KvbmError:
        """Return the error of a way that there is not."""
        return cls(family, f"there is no way from {source} to {target}")

    def __str__(self) -> str:
        """Return one line for a person."""
        return f"{self.name}: {self.why}"
