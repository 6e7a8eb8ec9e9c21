"""What can go wrong between connectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpmetrics.errors import MpmetricsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class ConnectorDeclarationError(MpmetricsError, ValueError):
    """A family, *name*, that a connector cannot declare like this, and *why*."""

    def __init__(self, name: str, why: str) -> None:
        """Remember the *name*, and *why* it cannot be."""
        super().__init__(name, why)
        self.name = name
        self.why = why

    def __str__(self) -> str:
        """Return one line for a person."""
        return f"connector family {self.name!r}: {self.why}"


class ConnectorConflictError(MpmetricsError, ValueError):
    """A metric, *name*, that two *owners* declare differently: the one *there*, and as *asked*."""

    def __init__(self, name: str, owners: tuple[str, str], there: str, asked: str) -> None:
        """Remember who has declared what."""
        super().__init__(name, owners, there, asked)
        self.name = name
        self.owners = owners
        self.there = there
        self.asked = asked

    def __str__(self) -> str:
        """Return one line for a person."""
        first, second = self.owners
        return (
            f"metric {self.name!r} of {first} is {self.there}"
            f" and cannot be {self.asked}, as {second} declares it"
        )


class ConnectorStatsError(MpmetricsError, TypeError):
    """Something *given* where statistics of connectors are *expected*."""

    def __init__(self, given: object, expected: str = "statistics") -> None:
        """Remember what was *given*."""
        super().__init__(given, expected)
        self.expected = expected
        self.given = given

    def __str__(self) -> str:
        """Return one line for a person."""
        return f"{self.expected} expected, not {type(self.given).__name__}"


class HybridCacheError(MpmetricsError, ValueError):
    """A hybrid cache, which these *connectors* do not support.

    With *groups*, the request *request_id* has so many groups of blocks.
    """

    def __init__(
        self, connectors: Sequence[str], request_id: object = None, groups: int | None = None
    ) -> None:
        """Remember who does not support what."""
        super().__init__(tuple(connectors), request_id, groups)
        self.connectors = tuple(connectors)
        self.request_id = request_id
        self.groups = groups

    def __str__(self) -> str:
        """Return one line for a person."""
        missing = ", ".join(self.connectors) or "there is no connector"
        if self.groups is not None:
            what = f"request {self.request_id!r} has {self.groups} groups of blocks, not 1"
            return f"{what}, and not every connector supports the hybrid cache (HMA): {missing}"
        return f"the hybrid cache (HMA) needs every connector to support it: {missing}"


class TransferParamsClashError(MpmetricsError, RuntimeError):
    """Transfer parameters of one request that several connectors give.

    *owners* are the connectors by key.
    """

    def __init__(self, request_id: object, owners: Mapping[str, Sequence[str]]) -> None:
        """Remember who has given what."""
        super().__init__(request_id, dict(owners))
        self.request_id = request_id
        self.owners = {key: tuple(names) for key, names in owners.items()}

    def __str__(self) -> str:
        """Return one line for a person."""
        clashes = "; ".join(f"{key!r} of {', '.join(names)}" for key, names in self.owners.items())
        return f"Key clash in kv_transfer_params of request {self.request_id!r}: {clashes}"


class ConnectorDisagreementError(MpmetricsError, ValueError):
    """Connectors that have to give one answer and do not: *what* is wrong, *answers* by name."""

    def __init__(self, what: str, answers: Sequence[tuple[str, object]]) -> None:
        """Remember who has answered what."""
        super().__init__(what, tuple(answers))
        self.what = what
        self.answers = tuple(answers)

    def __str__(self) -> str:
        """Return one line for a person."""
        listed = ", ".join(f"{name}: {answer!r}" for name, answer in self.answers)
        return f"{self.what}: {listed}"


class ConnectorMetadataError(MpmetricsError, TypeError, ValueError):
    """Metadata that are not those of a composite of *expected* connectors.

    *given* is the number of connectors that they are for, None if they are no composite's at all.
    """

    def __init__(self, kind: str, expected: int, given: int | None) -> None:
        """Remember what was *given* instead."""
        super().__init__(kind, expected, given)
        self.kind = kind
        self.expected = expected
        self.given = given

    def __str__(self) -> str:
        """Return one line for a person."""
        given = "something else" if self.given is None else f"those of {self.given}"
        return f"{self.kind} of {self.expected} connectors expected, not {given}"
