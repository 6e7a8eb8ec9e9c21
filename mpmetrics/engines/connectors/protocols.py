"""What a connector is to the composite of several: as little as it can be.

The names are vLLM's. Connectors may have more of its methods than these, which the composite
calls where they are there.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    Finished: TypeAlias = tuple[bool, dict[str, Any] | None]
    """Whether blocks are still being saved, and parameters for whoever loads them."""


class Request(Protocol):
    """A request, which has a name."""

    request_id: str


@runtime_checkable
class Connector(Protocol):
    """A connector: it loads the KV cache of requests from elsewhere, and saves it there."""

    def get_num_new_matched_tokens(
        self, request: Any, num_computed_tokens: int
    ) -> tuple[int | None, bool]:
        """Return how many more tokens it could load, None if not known yet; and whether later."""
        ...  # pragma: no cover - a protocol has no body

    def update_state_after_alloc(
        self, request: Any, blocks: Any, num_external_tokens: int
    ) -> object:
        """Take the blocks of a request, into which so many tokens are to be loaded."""
        ...  # pragma: no cover - a protocol has no body

    def build_connector_meta(self, scheduler_output: Any) -> Any:
        """Return what its part in the worker has to do in this step."""
        ...  # pragma: no cover - a protocol has no body

    def request_finished(self, request: Any, block_ids: list[int]) -> Finished:
        """Take note that a request is over."""
        ...  # pragma: no cover - a protocol has no body

    def get_finished(
        self, finished_req_ids: set[str]
    ) -> tuple[Iterable[str] | None, Iterable[str] | None]:
        """Return the requests that have been saved, and those that have been loaded."""
        ...  # pragma: no cover - a protocol has no body

    def take_events(self) -> Iterable[Any]:
        """Return the events since it was last asked."""
        ...  # pragma: no cover - a protocol has no body

    def get_kv_connector_stats(self) -> Any:
        """Return the statistics since it was last asked, None if there are none."""
        ...  # pragma: no cover - a protocol has no body

    def shutdown(self) -> object:
        """End."""
        ...  # pragma: no cover - a protocol has no body


@runtime_checkable
class SupportsHMA(Protocol):
    """A connector that knows what to do with several groups of blocks: with a hybrid cache."""

    @abstractmethod
    def request_finished_all_groups(
        self, request: Any, block_ids: tuple[list[int], ...]
    ) -> Finished:
        """Take note that a request is over, which had these blocks in each group."""
        ...  # pragma: no cover - a protocol has no body


def supports_hma(connector: object) -> bool:
    """Tell whether a *connector*, or a class of them, supports a hybrid cache.

    A composite has an answer of its own, `supports_hma`, since it has the method in any case.
    """
    answer = getattr(connector, "supports_hma", None)
    if isinstance(answer, bool):
        return answer
    return callable(getattr(connector, "request_finished_all_groups", None))
