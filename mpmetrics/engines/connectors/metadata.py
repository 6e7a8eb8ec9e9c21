"""What passes between the two sides of a composite connector: one element for each connector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from mpmetrics.engines.connectors.errors import ConnectorMetadataError


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


def _both(mine: Any, theirs: Any) -> Any:  # noqa: ANN401 - the connector's own
    """Return the metadata of one connector in two workers."""
    if mine is None or theirs is None:
        return theirs if mine is None else mine
    return mine.aggregate(theirs)
