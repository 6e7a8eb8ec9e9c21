"""A composite of connectors: the first that can load a request loads it, and all may save it.

Each method calls every connector, whatever another connector has returned or raised. No check is
an `assert` statement, so `python -O` changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from mpmetrics.engines.connectors.delegation import Delegation
from mpmetrics.engines.connectors.errors import HybridCacheError
from mpmetrics.engines.connectors.fan_out import Children, run_calls
from mpmetrics.engines.connectors.hit_sources import unspecified_hits
from mpmetrics.engines.connectors.lookup import collect_families
from mpmetrics.engines.connectors.metadata import (
    MultiConnectorMetadata,
    MultiConnectorWorkerMetadata,
    check_metadata,
)
from mpmetrics.engines.connectors.multistats import MultiConnectorStats
from mpmetrics.engines.connectors.names import name_connectors, resolve_alias
from mpmetrics.engines.connectors.pending_saves import PendingSaves
from mpmetrics.engines.connectors.protocols import supports_hma
from mpmetrics.engines.connectors.transfer_params import merge_params
from mpmetrics.engines.connectors.transfer_results import TransferResults, read_results

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mpmetrics.engines.connectors.families import ConnectorFamily
    from mpmetrics.engines.connectors.protocols import Connector, Finished


class MultiConnector(Delegation):
    """A composite of several connectors, which is itself a connector.

    The order of *children* is the order of the calls. The keys of a mapping are the names of the
    connectors; otherwise the names are their classes. `extra_async_saves` is the number of savers
    beyond the first, by request.
    """

    def __init__(
        self, children: Iterable[Connector] | Mapping[str, Connector], *, hybrid_cache: bool = False
    ) -> None:
        """Take the *children*.

        Raises `HybridCacheError` when a *hybrid_cache* is wanted and a connector does not support
        it, and `ConnectorConflictError` or `ConnectorDeclarationError` when the declarations of
        the connectors conflict or are invalid.
        """
        super().__init__(Children(*_split_children(children)))
        names, connectors = self._children.names, self._children.connectors
        self._families = collect_families(connectors, names)
        pairs = zip(names, connectors, strict=True)
        self._without_hma = [name for name, child in pairs if not supports_hma(child)]
        if hybrid_cache and not self.supports_hma:
            raise HybridCacheError(self._without_hma)
        self.hybrid_cache = hybrid_cache
        self.extra_async_saves = PendingSaves()
        self._chosen: dict[str, int] = {}  # the place of the connector that loads, by request
        self._metadata: MultiConnectorMetadata | None = None

    @property
    def sub_connectors(self) -> list[Any]:
        """The connectors, in order."""
        return list(self._children.connectors)

    @property
    def names(self) -> list[str]:
        """The names of the connectors, in order; several of one class share a name."""
        return list(self._children.names)

    @property
    def supports_hma(self) -> bool:
        """Whether every connector supports a hybrid cache; False without any."""
        return len(self._children) > 0 and not self._without_hma

    # -- Scheduler and workers ---------------------------------------------------------------------

    def families_by_connector(self) -> dict[str, tuple[ConnectorFamily, ...]]:
        """Return the families of all connectors, by name of connector."""
        return dict(self._families)

    def get_kv_connector_stats(self) -> MultiConnectorStats | None:
        """Return the statistics of all connectors since the last call, None if there are none."""
        return MultiConnectorStats.drain(
            self._children.connectors, self._children.names, self._families
        )

    def build_kv_connector_stats(
        self, data: Mapping[str, Any] | None = None
    ) -> MultiConnectorStats:
        """Return the statistics of *data* that `to_dict` has returned in another process."""
        return MultiConnectorStats.build(data, self._families)

    def shutdown(self) -> None:
        """Shut down every connector; each failure is logged, and the last one is raised."""
        self._children.call_all("shutdown")

    # -- Scheduler ---------------------------------------------------------------------------------

    def get_num_new_matched_tokens(
        self, request: Any, num_computed_tokens: int
    ) -> tuple[int | None, bool]:
        """Choose the first connector that can load tokens; return their number and its flag.

        If any connector does not know its number yet, none is chosen, and the number is None.
        """
        self._chosen.pop(request.request_id, None)
        answers = self._children.call_all(
            "get_num_new_matched_tokens", request, num_computed_tokens
        )
        if any(tokens is None for tokens, _ in answers):
            return None, False
        for number, (tokens, is_later) in enumerate(answers):
            if tokens > 0:
                self._chosen[request.request_id] = number
                return tokens, is_later
        return 0, False

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        """Pass the blocks to every connector, and the number of tokens to the chosen one."""
        chosen = self._chosen.get(request.request_id)
        tokens = [num_external_tokens if n == chosen else 0 for n in range(len(self._children))]
        self._children.call_each(
            "update_state_after_alloc", [(request, blocks, each) for each in tokens]
        )

    def get_loaded_kv_cache_group_ids(self, request: Any) -> Any:
        """Return the groups of blocks that the chosen connector loads."""
        return self._call_chosen("get_loaded_kv_cache_group_ids", request)

    def get_external_cache_hit_sources(self, request: Any, num_external_tokens: int) -> Any:
        """Return where the chosen connector has these tokens: numbers of tokens by source.

        If no connector tells, the one source is vLLM's `external_unspecified`.
        """
        method = "get_external_cache_hit_sources"
        chosen = self._chosen.get(request.request_id)
        if chosen is None or not self._children.has(chosen, method):
            return unspecified_hits(num_external_tokens)
        return self._children.call_one(chosen, method, request, num_external_tokens)

    def can_load_prefix_replay_checkpoint(self, request: Any, *arguments: object) -> bool:
        """Return whether the chosen connector can load the checkpoint of a prefix."""
        return bool(self._call_chosen("can_load_prefix_replay_checkpoint", request, *arguments))

    def consume_prefix_replay_checkpoint(self, request: Any, *arguments: object) -> bool:
        """Return whether the chosen connector takes the checkpoint of a prefix."""
        return bool(self._call_chosen("consume_prefix_replay_checkpoint", request, *arguments))

    def build_connector_meta(self, scheduler_output: Any) -> MultiConnectorMetadata:
        """Return the metadata of each connector, and the saves that the workers have to count."""
        metadata = self._children.call_all("build_connector_meta", scheduler_output)
        return MultiConnectorMetadata(tuple(metadata), self.extra_async_saves.drain())

    def update_connector_output(self, connector_output: Any) -> None:
        """Pass each connector the output with the metadata of its own workers.

        Afterwards the output has its original metadata again. Raises `ConnectorMetadataError`,
        before any connector is called, if those are not for as many connectors.
        """
        whole = connector_output.kv_connector_worker_meta
        if whole is None:
            self._children.call_all("update_connector_output", connector_output)
            return
        parts = check_metadata(MultiConnectorWorkerMetadata, whole, len(self._children)).metadata
        replace_metadata = partial(setattr, connector_output, "kv_connector_worker_meta")
        calls = (
            self._children.bind(place, "update_connector_output", connector_output).preceded_by(
                partial(replace_metadata, part)
            )
            for place, part in enumerate(parts)
        )
        try:
            run_calls(calls)
        finally:
            replace_metadata(whole)

    def request_finished(self, request: Any, block_ids: list[int]) -> Finished:
        """Pass every connector a finished request; return whether any still saves its blocks.

        Raises `TransferParamsClashError` when two connectors give the same parameter; the request
        is forgotten then.
        """
        return self._finish(request, "request_finished", block_ids)

    def request_finished_all_groups(
        self, request: Any, block_ids: tuple[list[int], ...]
    ) -> Finished:
        """Pass every connector a finished request, with the blocks of each group.

        If a connector does not support groups, a request with a single group is passed as one
        without groups. Raises `HybridCacheError` for any other number of groups then, and
        `TransferParamsClashError`.
        """
        if self.supports_hma:
            return self._finish(request, "request_finished_all_groups", block_ids)
        if len(block_ids) != 1:
            self._forget(request.request_id)
            raise HybridCacheError(self._without_hma, request.request_id, len(block_ids))
        return self.request_finished(request, block_ids[0])

    def take_events(self) -> Iterator[Any]:
        """Return the events of all connectors since the last call, in their order."""
        return iter(
            [event for events in self._children.call_all("take_events") for event in events or ()]
        )

    # -- Workers -----------------------------------------------------------------------------------

    def bind_connector_metadata(self, connector_metadata: Any) -> None:
        """Pass each connector its own metadata of this step.

        Raises `ConnectorMetadataError`, before any connector is called, if there are not as many
        parts as connectors.
        """
        metadata = check_metadata(MultiConnectorMetadata, connector_metadata, len(self._children))
        self.extra_async_saves.add(metadata.extra_async_saves)
        self._metadata = metadata
        self._children.call_each("bind_connector_metadata", [(each,) for each in metadata.metadata])

    def clear_connector_metadata(self) -> None:
        """Clear the metadata of this step, in every connector."""
        self._metadata = None
        self._children.call_all("clear_connector_metadata")

    def has_connector_metadata(self) -> bool:
        """Return whether metadata of a step are bound."""
        return self._metadata is not None

    def handle_preemptions(self, kv_connector_metadata: Any) -> None:
        """Pass each connector its own metadata of preempted requests.

        Raises `ConnectorMetadataError`, as `bind_connector_metadata` does.
        """
        number = len(self._children)
        metadata = check_metadata(MultiConnectorMetadata, kv_connector_metadata, number)
        self._children.call_each("handle_preemptions", [(each,) for each in metadata.metadata])

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, set[str] | None]:
        """Return the requests that all their savers have saved, and those that are loaded."""
        results = self.get_transfer_results(finished_req_ids)
        return results.finished_sending or None, results.finished_recving or None

    def get_transfer_results(self, finished_req_ids: set[str]) -> TransferResults:
        """Return the requests that all their savers have saved, and those loaded or failed.

        A connector without this method is asked by `get_finished`, which has no failures.
        """
        newer, older = "get_transfer_results", "get_finished"
        answers = run_calls(
            self._children.bind(
                place, newer if self._children.has(place, newer) else older, finished_req_ids
            )
            for place in range(len(self._children))
        )
        ended = [read_results(answer) for answer in answers]
        reports = [request_id for sent, _, _ in ended for request_id in sent]
        return TransferResults(
            self.extra_async_saves.count_reports(reports),
            {request_id for _, received, _ in ended for request_id in received},
            {request_id for _, _, failed in ended for request_id in failed},
        )

    def build_connector_worker_meta(self) -> MultiConnectorWorkerMetadata | None:
        """Return the metadata of each connector for the scheduler, None if none has any."""
        metadata = tuple(self._children.call_all("build_connector_worker_meta"))
        is_empty = all(each is None for each in metadata)
        return None if is_empty else MultiConnectorWorkerMetadata(metadata)

    # -- State of requests -------------------------------------------------------------------------

    def _finish(self, request: Any, method: str, block_ids: object) -> Finished:
        """Pass every connector a finished request by this *method*; combine the answers.

        If anything fails, the request is forgotten.
        """
        request_id = request.request_id
        try:
            answers = self._children.call_all(method, request, block_ids)
            all_params = [params for _, params in answers]
            params = merge_params(request_id, self._children.names, all_params)
        except BaseException:
            self._forget(request_id)
            raise
        self._chosen.pop(request_id, None)
        savers = sum(bool(is_saving) for is_saving, _ in answers)
        self.extra_async_saves.expect(request_id, savers)
        return savers > 0, params

    def _call_chosen(self, method: str, request: Any, *arguments: object) -> Any:
        """Call a *method* of the connector that loads a request; if none does, call none."""
        chosen = self._chosen.get(request.request_id)
        return self._children.call_one(chosen, method, request, *arguments)

    def _forget(self, request_id: str) -> None:
        """Drop the state of a request, in the composites among the connectors, too."""
        self._chosen.pop(request_id, None)
        self.extra_async_saves.pop(request_id, None)
        for connector in self._children.connectors:
            if isinstance(connector, MultiConnector):
                connector._forget(request_id)  # noqa: SLF001 - it is of this class


def _split_children(
    children: Iterable[Connector] | Mapping[str, Connector],
) -> tuple[list[str], list[Any]]:
    """Return the names of the *children*, and the children."""
    if isinstance(children, Mapping):
        return [resolve_alias(name) for name in children], list(children.values())
    connectors = list(children)
    return name_connectors(connectors), connectors
