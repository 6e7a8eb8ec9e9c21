"""What passes between the two sides of a composite connector: one element for each connector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from mpmetrics.engines.connectors.errors import ConnectorMetadataError, TransferParamsClashError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Params = dict[str, Any] | None


@dataclass
class MultiConnectorMetadata:
    """What the connectors of a worker have to do in a step.

    *extra_async_saves* is, by request, how many reports of a save are to come before the last.
    """

    metadata: tuple[Any, ...]
    extra_async_saves: dict[str, int] | None = None


@dataclass
class MultiConnectorWorkerMetadata:
    """What the connectors of a worker have to say, None where one has nothing."""

    metadata: tuple[Any, ...]

    def aggregate(self, other: object) -> MultiConnectorWorkerMetadata:
        """Return these metadata and *other* ones, put together by each connector's `aggregate`.

        Raises `ConnectorMetadataError` if those are not of as many connectors.
        """
        theirs = checked(MultiConnectorWorkerMetadata, other, len(self.metadata))
        pairs = zip(self.metadata, theirs.metadata, strict=True)
        return MultiConnectorWorkerMetadata(tuple(_both(mine, other) for mine, other in pairs))


M = TypeVar("M", MultiConnectorMetadata, MultiConnectorWorkerMetadata)


def checked(kind: type[M], metadata: object, number: int) -> M:
    """Return *metadata*, which are of this *kind* and *number* of connectors.

    Raises `ConnectorMetadataError`.
    """
    if not isinstance(metadata, kind):
        raise ConnectorMetadataError(kind.__name__, number, None)
    if len(metadata.metadata) != number:
        raise ConnectorMetadataError(kind.__name__, number, len(metadata.metadata))
    return metadata


def _both(mine: Any, theirs: Any) -> Any:
    """Return the metadata of one connector in two workers."""
    if mine is None or theirs is None:
        return theirs if mine is None else mine
    return mine.aggregate(theirs)


def merged_params(
    request_id: object, names: Iterable[str], given: Iterable[Mapping[str, Any] | None]
) -> Params:
    """Return the parameters of all, None if nobody has *given* any; *names* say who has.

    Raises `TransferParamsClashError` when a key is given by several.
    """
    merged: Params = None
    owners: dict[str, list[str]] = {}
    for name, params in zip(names, given, strict=True):
        if params is not None:
            merged = {**(merged or {}), **params}
            for key in params:
                owners.setdefault(key, []).append(name)
    clashes = {key: who for key, who in owners.items() if len(who) > 1}
    if clashes:
        raise TransferParamsClashError(request_id, clashes)
    return merged


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
