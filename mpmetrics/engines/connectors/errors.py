"""The errors of connectors and of their composite."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpmetrics._text import enumerate_names
from mpmetrics.errors import MpmetricsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class ConnectorDeclarationError(MpmetricsError, ValueError):
    """An invalid declaration of the family *name*; *why* is the reason."""

    def __init__(self, name: str, why: str) -> None:
        """Keep the *name* and the reason."""
        super().__init__(name, why)
        self.name = name
        self.why = why

    def __str__(self) -> str:
        """Return the message, on one line."""
        return f"connector family {self.name!r}: {self.why}"


class ConnectorConflictError(MpmetricsError, ValueError):
    """A metric *name* that two *owners* declare differently.

    *there* describes the first declaration, or the existing metric, and *asked* the second one.
    """

    def __init__(self, name: str, owners: tuple[str, str], there: str, asked: str) -> None:
        """Keep both declarations and their owners."""
        super().__init__(name, owners, there, asked)
        self.name = name
        self.owners = owners
        self.there = there
        self.asked = asked

    def __str__(self) -> str:
        """Return the message, on one line."""
        first, second = self.owners
        return (
            f"metric {self.name!r} of {first} is {self.there}"
            f" and cannot be {self.asked}, as {second} declares it"
        )


class ConnectorStatsError(MpmetricsError, TypeError):
    """An object *given* where *expected*, which are statistics of connectors, should be."""

    def __init__(self, given: object, expected: str = "statistics") -> None:
        """Keep the object that was *given*."""
        super().__init__(given, expected)
        self.expected = expected
        self.given = given

    def __str__(self) -> str:
        """Return the message, on one line."""
        return f"{self.expected} expected, not {type(self.given).__name__}"


class HybridCacheError(MpmetricsError, ValueError):
    """A hybrid cache that these *connectors* do not support.

    *groups*, if given, is the number of groups of blocks of the request *request_id*.
    """

    def __init__(
        self, connectors: Sequence[str], request_id: object = None, groups: int | None = None
    ) -> None:
        """Keep the connectors, and the request if there is one."""
        super().__init__(tuple(connectors), request_id, groups)
        self.connectors = tuple(connectors)
        self.request_id = request_id
        self.groups = groups

    def __str__(self) -> str:
        """Return the message, on one line."""
        missing = enumerate_names(self.connectors) or "there is no connector"
        if self.groups is not None:
            what = f"request {self.request_id!r} has {self.groups} groups of blocks, not 1"
            return f"{what}, and not every connector supports the hybrid cache (HMA): {missing}"
        return f"the hybrid cache (HMA) needs every connector to support it: {missing}"


class TransferParamsClashError(MpmetricsError, RuntimeError):
    """A clash of transfer parameters: several connectors give the same key for one request.

    *owners* are the names of the connectors by key.
    """

    def __init__(self, request_id: object, owners: Mapping[str, Sequence[str]]) -> None:
        """Keep the connectors of each key."""
        super().__init__(request_id, dict(owners))
        self.request_id = request_id
        self.owners = {key: tuple(names) for key, names in owners.items()}

    def __str__(self) -> str:
        """Return the message, on one line."""
        clashes = enumerate_names(
            [f"{key!r} of {enumerate_names(names)}" for key, names in self.owners.items()],
            separator="; ",
        )
        return f"Key clash in kv_transfer_params of request {self.request_id!r}: {clashes}"


class ConnectorDisagreementError(MpmetricsError, ValueError):
    """Different *answers*, by connector, where one is needed; *what* describes the conflict."""

    def __init__(self, what: str, answers: Sequence[tuple[str, object]]) -> None:
        """Keep the answers."""
        super().__init__(what, tuple(answers))
        self.what = what
        self.answers = tuple(answers)

    def __str__(self) -> str:
        """Return the message, on one line."""
        listed = enumerate_names([f"{name}: {answer!r}" for name, answer in self.answers])
        return f"{self.what}: {listed}"


class ConnectorMetadataError(MpmetricsError, TypeError, ValueError):
    """Metadata that are not for a composite of as many connectors as *expected*.

    *given* is the number of connectors in the metadata, None if they are not of a composite.
    """

    def __init__(self, kind: str, expected: int, given: int | None) -> None:
        """Keep both numbers of connectors."""
        super().__init__(kind, expected, given)
        self.kind = kind
        self.expected = expected
        self.given = given

    def __str__(self) -> str:
        """Return the message, on one line."""
        given = "something else" if self.given is None else f"those of {self.given}"
        return f"{self.kind} of {self.expected} connectors expected, not {given}"
