"""Metadata that a composite exchanges between scheduler and workers: one part per connector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from mpmetrics.engines.connectors.errors import ConnectorMetadataError


@dataclass
class MultiConnectorMetadata:
    """The work of a step, from the scheduler to the workers.

    *metadata* has the part of each connector. *extra_async_saves* is, by request, how many
    connectors save it in the background beyond the first.
    """

    metadata: tuple[Any, ...]
    extra_async_saves: dict[str, int] | None = None


@dataclass
class MultiConnectorWorkerMetadata:
    """The report of a worker to the scheduler: *metadata* of each connector, or None."""

    metadata: tuple[Any, ...]

    def aggregate(self, other: object) -> MultiConnectorWorkerMetadata:
        """Return the metadata of both workers, combined by each connector's own `aggregate`.

        Raises `ConnectorMetadataError` if *other* is not of the same number of connectors.
        """
        theirs = check_metadata(MultiConnectorWorkerMetadata, other, len(self.metadata))
        pairs = zip(self.metadata, theirs.metadata, strict=True)
        return MultiConnectorWorkerMetadata(tuple(_aggregate(*pair) for pair in pairs))


M = TypeVar("M", MultiConnectorMetadata, MultiConnectorWorkerMetadata)


def check_metadata(kind: type[M], metadata: object, number: int) -> M:
    """Return *metadata*, once it is known to be of this *kind* and for this *number* of connectors.

    Raises `ConnectorMetadataError` if it is not.
    """
    if not isinstance(metadata, kind):
        raise ConnectorMetadataError(kind.__name__, number, None)
    if len(metadata.metadata) != number:
        raise ConnectorMetadataError(kind.__name__, number, len(metadata.metadata))
    return metadata


def _aggregate(mine: Any, theirs: Any) -> Any:
    """Return the metadata of one connector in two workers, either of which may be None."""
    if mine is None or theirs is None:
        return theirs if mine is None else mine
    return mine.aggregate(theirs)
