"""The interface of a connector, as small as a composite can do with.

The method names are vLLM's. A connector may have more of vLLM's methods than these; a composite
calls those where they exist.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    Finished: TypeAlias = tuple[bool, dict[str, Any] | None]
    """Whether blocks are still being saved, and the transfer parameters for the loading side."""


@runtime_checkable
class Connector(Protocol):
    """A connector: it loads the KV cache of requests from elsewhere, and saves it there."""

    def get_num_new_matched_tokens(
        self, request: Any, num_computed_tokens: int
    ) -> tuple[int | None, bool]:
        """Return how many tokens can be loaded, None if not known yet.

        They follow the *num_computed_tokens*, which need no load. The second value is whether the
        connector loads them in the background.
        """
        ...  # pragma: no cover - a protocol has no body

    def update_state_after_alloc(
        self, request: Any, blocks: Any, num_external_tokens: int
    ) -> object:
        """Take the blocks of a request, into which *num_external_tokens* are to be loaded."""
        ...  # pragma: no cover - a protocol has no body

    def build_connector_meta(self, scheduler_output: Any) -> Any:
        """Return the metadata of this step for the connector in the workers."""
        ...  # pragma: no cover - a protocol has no body

    def request_finished(self, request: Any, block_ids: list[int]) -> Finished:
        """Take the blocks of a finished request."""
        ...  # pragma: no cover - a protocol has no body

    def get_finished(
        self, finished_req_ids: set[str]
    ) -> tuple[Iterable[str] | None, Iterable[str] | None]:
        """Return the requests that have been saved, and those that have been loaded."""
        ...  # pragma: no cover - a protocol has no body

    def take_events(self) -> Iterable[Any]:
        """Return the events since the last call."""
        ...  # pragma: no cover - a protocol has no body

    def get_kv_connector_stats(self) -> Any:
        """Return the statistics since the last call, None if there are none."""
        ...  # pragma: no cover - a protocol has no body

    def shutdown(self) -> object:
        """Release all resources."""
        ...  # pragma: no cover - a protocol has no body


@runtime_checkable
class SupportsHMA(Protocol):
    """A connector that supports a hybrid cache, in which a request has several groups of blocks."""

    @abstractmethod
    def request_finished_all_groups(
        self, request: Any, block_ids: tuple[list[int], ...]
    ) -> Finished:
        """Take the blocks of a finished request, in each group."""
        ...  # pragma: no cover - a protocol has no body


def supports_hma(connector: object) -> bool:
    """Return whether a *connector*, or a class of connectors, supports a hybrid cache.

    A composite always has the method, so its own property `supports_hma` decides.
    """
    answer = getattr(connector, "supports_hma", None)
    if isinstance(answer, bool):
        return answer
    return callable(getattr(connector, "request_finished_all_groups", None))
