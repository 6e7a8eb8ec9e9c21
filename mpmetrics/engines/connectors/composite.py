"""Several connectors as one: a request is loaded by the first that can, and saved by all.

Every connector is called, whatever another has answered or raised. Nothing is an assertion, so
that nothing depends on how Python was started.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from mpmetrics.engines.connectors.errors import (
    ConnectorDisagreementError,
    HybridCacheError,
)
from mpmetrics.engines.connectors.fan_out import Children, called
from mpmetrics.engines.connectors.lookup import declarations
from mpmetrics.engines.connectors.metadata import (
    ExtraSaves,
    MultiConnectorMetadata,
    MultiConnectorWorkerMetadata,
    checked,
    merged_params,
)
from mpmetrics.engines.connectors.multistats import MultiConnectorStats
from mpmetrics.engines.connectors.names import identities, identity
from mpmetrics.engines.connectors.protocols import supports_hma

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mpmetrics.engines.connectors.families import ConnectorFamily
    from mpmetrics.engines.connectors.protocols import Connector, Finished


def _forwarded(name: str, meaning: str) -> Callable[..., None]:
    """Return a method that calls the one called *name* of all, with what it is given."""

    def forward(self: Forwarding, *arguments: object, **named: object) -> None:
        self._children.all(name, *arguments, **named)

    forward.__name__ = name
    forward.__qualname__ = f"Forwarding.{name}"
    forward.__doc__ = f"{meaning}, in every connector."
    return forward


class Forwarding:
    """Tells all connectors of a composite what it is told, whatever they answer or raise."""

    def __init__(self, children: Children) -> None:
        """Tell these *children*."""
        self._children = children

    set_xfer_handshake_metadata = _forwarded(
        "set_xfer_handshake_metadata", "Take what the workers have said of themselves"
    )
    set_xfer_handshake_metadata_pp_aware = _forwarded(
        "set_xfer_handshake_metadata_pp_aware", "Take what the workers have said of themselves"
    )
    set_eagle_prefix_cache_hashing = _forwarded(
        "set_eagle_prefix_cache_hashing", "Take whether keys of the cache know what follows"
    )
    on_new_request = _forwarded("on_new_request", "Take note of a new request")
    bind_kv_cache_manager = _forwarded("bind_kv_cache_manager", "Take the manager of the cache")
    bind_gpu_block_pool = _forwarded("bind_gpu_block_pool", "Take the pool of blocks")
    register_cross_layers_kv_cache = _forwarded(
        "register_cross_layers_kv_cache", "Take the memory of the cache, in one piece"
    )
    register_kv_caches = _forwarded("register_kv_caches", "Take the memory of the cache")
    set_host_xfer_buffer_ops = _forwarded("set_host_xfer_buffer_ops", "Take the way to copy")
    start_load_kv = _forwarded("start_load_kv", "Begin to load")
    wait_for_layer_load = _forwarded("wait_for_layer_load", "Wait until a layer is loaded")
    save_kv_layer = _forwarded("save_kv_layer", "Begin to save a layer")
    wait_for_save = _forwarded("wait_for_save", "Wait until all is saved")
    finish_forward = _forwarded("finish_forward", "Take note that a step is computed")
    reset_capture_state = _forwarded("reset_capture_state", "Forget what was captured")


_POOLS: Final = "Multiple connectors provide a KV cache memory pool, and it can be in one only"
_COUNTS: Final = "connectors wait for different numbers of workers to finish"
_LAYOUTS: Final = "connectors need different layouts of the KV cache"


class MultiConnector(Forwarding):
    """Several connectors, as one.

    *children* are in the order in which they are asked; a mapping names them, others are known by
    their classes. `extra_async_saves` is, by request, how many savers there are beyond the first.
    """

    def __init__(
        self, children: Iterable[Connector] | Mapping[str, Connector], *, hybrid_cache: bool = False
    ) -> None:
        """Take the *children*.

        Raises `HybridCacheError` when there is to be a hybrid cache and not all of them support
        it, and `ConnectorConflictError` or `ConnectorDeclarationError` when what they declare
        cannot be.
        """
        super().__init__(Children(*_named(children)))
        names, connectors = self._children.names, self._children.connectors
        self._families = declarations(connectors, names)
        pairs = zip(names, connectors, strict=True)
        self._unsupporting = [name for name, child in pairs if not supports_hma(child)]
        if hybrid_cache and not self.supports_hma:
            raise HybridCacheError(self._unsupporting)
        self.hybrid_cache = hybrid_cache
        self.extra_async_saves = ExtraSaves()
        self._chosen: dict[str, int] = {}
        self._metadata: MultiConnectorMetadata | None = None

    @property
    def sub_connectors(self) -> list[Any]:
        """The connectors, in order."""
        return list(self._children.connectors)

    @property
    def names(self) -> list[str]:
        """Who the connectors are, in order; several of one class have one name."""
        return list(self._children.names)

    @property
    def supports_hma(self) -> bool:
        """Whether every connector supports a hybrid cache, and there is one."""
        return len(self._children) > 0 and not self._unsupporting

    @property
    def supports_divergent_local_hybrid_hits(self) -> bool:
        """Whether every connector does, and there is one."""
        answers = self._children.have("supports_divergent_local_hybrid_hits")
        return bool(answers) and all(answers)

    @property
    def requires_kv_delivery(self) -> bool:
        """Whether any connector does."""
        return any(self._children.have("requires_kv_delivery"))

    @property
    def prefer_cross_layer_blocks(self) -> bool:
        """Whether every connector does, and there is one."""
        answers = self._children.have("prefer_cross_layer_blocks")
        return bool(answers) and all(answers)

    # -- Both sides --------------------------------------------------------------------------------

    def families_by_connector(self) -> dict[str, tuple[ConnectorFamily, ...]]:
        """Return what all of them declare, by who they are."""
        return dict(self._families)

    def get_kv_connector_stats(self) -> MultiConnectorStats | None:
        """Return what the connectors have counted since they were last asked, None if nothing."""
        return MultiConnectorStats.drain(
            self._children.connectors, self._children.names, self._families
        )

    def build_kv_connector_stats(
        self, data: Mapping[str, Any] | None = None
    ) -> MultiConnectorStats:
        """Return statistics that were sent."""
        return MultiConnectorStats.build(data, self._families)

    def get_finished_count(self) -> Any:
        """Return how many workers have to finish, None if any connector does not say.

        Raises `ConnectorDisagreementError` when they say different numbers.
        """
        counts = self._children.all("get_finished_count")
        return None if None in counts else self._children.same(_COUNTS, counts)

    def get_required_kvcache_layout(self, *arguments: object) -> Any:
        """Return the layout that connectors need, None if none of them needs one.

        Raises `ConnectorDisagreementError` when they need different ones.
        """
        return self._children.same(
            _LAYOUTS, self._children.all("get_required_kvcache_layout", *arguments)
        )

    def shutdown(self) -> None:
        """End all of them; each failure is logged, the last is raised."""
        self._children.all("shutdown")

    # -- The side of the scheduler -----------------------------------------------------------------

    def get_num_new_matched_tokens(
        self, request: Any, num_computed_tokens: int
    ) -> tuple[int | None, bool]:
        """Ask all how many more tokens they could load; the first that has any is to load them.

        As long as any does not know yet, nobody is chosen.
        """
        self._chosen.pop(request.request_id, None)
        answers = self._children.all("get_num_new_matched_tokens", request, num_computed_tokens)
        if any(tokens is None for tokens, _ in answers):
            return None, False
        for number, (tokens, is_later) in enumerate(answers):
            if tokens > 0:
                self._chosen[request.request_id] = number
                return tokens, is_later
        return 0, False

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        """Give all of them the blocks, and the chosen one the tokens that it is to load."""
        chosen = self._chosen.get(request.request_id)
        tokens = [num_external_tokens if n == chosen else 0 for n in range(len(self._children))]
        self._children.each(
            "update_state_after_alloc", [(request, blocks, each) for each in tokens]
        )

    def get_loaded_kv_cache_group_ids(self, request: Any) -> Any:
        """Return which groups of blocks the chosen connector loads."""
        return self._ask_chosen("get_loaded_kv_cache_group_ids", request)

    def get_external_cache_hit_sources(self, request: Any, num_external_tokens: int) -> Any:
        """Return where the chosen connector has these tokens."""
        return self._ask_chosen("get_external_cache_hit_sources", request, num_external_tokens)

    def can_load_prefix_replay_checkpoint(self, request: Any, *arguments: object) -> bool:
        """Return what the chosen connector says."""
        return bool(self._ask_chosen("can_load_prefix_replay_checkpoint", request, *arguments))

    def consume_prefix_replay_checkpoint(self, request: Any, *arguments: object) -> bool:
        """Return what the chosen connector says."""
        return bool(self._ask_chosen("consume_prefix_replay_checkpoint", request, *arguments))

    def build_connector_meta(self, scheduler_output: Any) -> MultiConnectorMetadata:
        """Return what each has for its worker, and the saves that the worker is to wait for."""
        metadata = self._children.all("build_connector_meta", scheduler_output)
        return MultiConnectorMetadata(tuple(metadata), self.extra_async_saves.handed_over())

    def update_connector_output(self, connector_output: Any) -> None:
        """Give each what its own workers have said; the output is in the end what it was.

        Raises `ConnectorMetadataError`, before anybody is told, if it is not that of a composite
        of as many connectors.
        """
        whole = connector_output.kv_connector_worker_meta
        if whole is None:
            self._children.all("update_connector_output", connector_output)
            return
        metadata = checked(MultiConnectorWorkerMetadata, whole, len(self._children)).metadata
        tell = partial(setattr, connector_output, "kv_connector_worker_meta")
        calls = (
            self._children.call(place, "update_connector_output", connector_output).after(
                partial(tell, own)
            )
            for place, own in enumerate(metadata)
        )
        try:
            called(calls)
        finally:
            tell(whole)

    def request_finished(self, request: Any, block_ids: list[int]) -> Finished:
        """Tell all that a request is over; it is in use as long as any still saves it.

        Raises `TransferParamsClashError` when two give the same parameter. Nothing of the request
        is remembered then.
        """
        return self._finished(request, "request_finished", block_ids)

    def request_finished_all_groups(
        self, request: Any, block_ids: tuple[list[int], ...]
    ) -> Finished:
        """Tell all that a request is over, with the blocks of each group.

        Where not all of them support that, there may be one group only. Raises `HybridCacheError`
        if there are more, and `TransferParamsClashError`.
        """
        if self.supports_hma:
            return self._finished(request, "request_finished_all_groups", block_ids)
        if len(block_ids) != 1:
            self._forget(request.request_id)
            raise HybridCacheError(self._unsupporting, request.request_id, len(block_ids))
        return self.request_finished(request, block_ids[0])

    def register_finished_partial_tail(self, *arguments: object) -> bool:
        """Tell all of the end of a request that does not fill a block; whether any takes it."""
        return any(self._children.all("register_finished_partial_tail", *arguments))

    def take_events(self) -> Iterator[Any]:
        """Return the events of all since they were last asked, in the order of the connectors."""
        return iter(
            [event for events in self._children.all("take_events") for event in events or ()]
        )

    def has_pending_block_frees(self) -> bool:
        """Tell whether any has."""
        return any(self._children.all("has_pending_block_frees"))

    def has_pending_push_work(self) -> bool:
        """Tell whether any has."""
        return any(self._children.all("has_pending_push_work"))

    def reset_cache(self) -> bool:
        """Have all of them reset their caches; tell whether none has failed to."""
        return all(answer is not False for answer in self._children.all("reset_cache"))

    # -- The side of the worker --------------------------------------------------------------------

    def bind_connector_metadata(self, connector_metadata: Any) -> None:
        """Give each what it has to do in this step.

        Raises `ConnectorMetadataError`, before anybody is told, if there is not one for each.
        """
        metadata = checked(MultiConnectorMetadata, connector_metadata, len(self._children))
        self.extra_async_saves.take(metadata.extra_async_saves)
        self._metadata = metadata
        self._children.each("bind_connector_metadata", [(each,) for each in metadata.metadata])

    def clear_connector_metadata(self) -> None:
        """Have all of them forget what they had to do in this step."""
        self._metadata = None
        self._children.all("clear_connector_metadata")

    def has_connector_metadata(self) -> bool:
        """Tell whether there is anything to do in this step."""
        return self._metadata is not None

    def handle_preemptions(self, kv_connector_metadata: Any) -> None:
        """Tell each of requests that had to make room. Raises `ConnectorMetadataError`."""
        metadata = checked(MultiConnectorMetadata, kv_connector_metadata, len(self._children))
        self._children.each("handle_preemptions", [(each,) for each in metadata.metadata])

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, set[str] | None]:
        """Return the requests that are saved by all who save them, and those that are loaded."""
        answers = self._children.all("get_finished", finished_req_ids)
        reports = [request_id for saved, _ in answers for request_id in saved or ()]
        loaded = {request_id for _, loaded in answers for request_id in loaded or ()}
        return self.extra_async_saves.finished(reports) or None, loaded or None

    def get_block_ids_with_load_errors(self) -> set[int]:
        """Return the blocks that any could not load."""
        answers = self._children.all("get_block_ids_with_load_errors")
        return {block for blocks in answers for block in blocks or ()}

    def build_connector_worker_meta(self) -> MultiConnectorWorkerMetadata | None:
        """Return what the workers of each have to say, None if none has anything."""
        metadata = tuple(self._children.all("build_connector_worker_meta"))
        has_none = all(each is None for each in metadata)
        return None if has_none else MultiConnectorWorkerMetadata(metadata)

    def get_handshake_metadata(self) -> Any:
        """Return what the first that has anything says of itself to others."""
        found = self._children.given(self._children.all("get_handshake_metadata"))
        return found[0][1] if found else None

    def get_mem_pool_context(self) -> Any:
        """Return the memory pool of the one connector that has one.

        Raises `ConnectorDisagreementError` when several have.
        """
        found = self._children.given(self._children.all("get_mem_pool_context"))
        if len(found) > 1:
            raise ConnectorDisagreementError(_POOLS, found)
        return found[0][1] if found else None

    # -- The end of a request ----------------------------------------------------------------------

    def _finished(self, request: Any, name: str, block_ids: object) -> Finished:
        """Tell all that a request is over, by the method called *name*; put the answers together.

        Whatever goes wrong, the request is forgotten.
        """
        request_id = request.request_id
        try:
            answers = self._children.all(name, request, block_ids)
            given = [params for _, params in answers]
            params = merged_params(request_id, self._children.names, given)
        except BaseException:
            self._forget(request_id)
            raise
        self._chosen.pop(request_id, None)
        savers = sum(bool(is_saving) for is_saving, _ in answers)
        self.extra_async_saves.expect(request_id, savers)
        return savers > 0, params

    def _ask_chosen(self, name: str, request: Any, *arguments: object) -> Any:
        """Call the connector that is to load a request; without one, say what no method says."""
        chosen = self._chosen.get(request.request_id)
        return self._children.ask(chosen, name, request, *arguments)

    def _forget(self, request_id: str) -> None:
        """Forget a request, and have the composites among the connectors forget it."""
        self._chosen.pop(request_id, None)
        self.extra_async_saves.pop(request_id, None)
        for connector in self._children.connectors:
            if isinstance(connector, MultiConnector):
                connector._forget(request_id)  # noqa: SLF001 - of this class


def _named(
    children: Iterable[Connector] | Mapping[str, Connector],
) -> tuple[list[str], list[Any]]:
    """Return who the *children* are, and themselves."""
    if isinstance(children, Mapping):
        return [identity(name) for name in children], list(children.values())
    given = list(children)
    return identities(given), given
