"""Compare the composite of connectors with vLLM's: its methods, and the outcome of histories.

Random histories of requests run through both composites, with connectors that answer alike. What
a composite returns and what each of its connectors is called with has to be equal.
"""

from __future__ import annotations

import inspect
import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from mpmetrics.engines import MultiConnector
from tests.upstream.configuration import load
from tests.upstream.reporting import compare, count, differ

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HISTORIES: Final = 3000
STEPS: Final = 12
SEED: Final = 37

REPLACED: Final[Mapping[str, str]] = {
    "all_children_support_hma": "supports_hma",
    "build_prom_metrics": "families_by_connector",
}
"""Methods of vLLM's composite that need vLLM's configuration, and what is in their place."""

_PACKAGE: Final = "vllm.distributed.kv_transfer.kv_connector.v1"

BASE: Final = load(f"{_PACKAGE}.base")
REAL: Final = load(f"{_PACKAGE}.multi_connector")

_RealMetadata: Any = BASE.KVConnectorWorkerMetadata
_RealConnector: Any = BASE.KVConnectorBase_V1
_RealSupport: Any = BASE.SupportsHMA


def compare_methods() -> int:
    """Report methods of vLLM's composite or base class that ours lacks; return their number."""
    upstream = [REAL.MultiConnector, BASE.KVConnectorBase_V1]
    names = {name for owner in upstream for name in dir(owner) if not name.startswith("_")}
    for name in sorted(names):
        ours = getattr(MultiConnector, REPLACED.get(name, name), None)
        theirs = next(getattr(owner, name) for owner in upstream if hasattr(owner, name))
        if ours is None:
            differ(f"MultiConnector has no {name}")
        elif name not in REPLACED and callable(theirs):
            compare_parameters(name, theirs, ours)
    return len(names)


def compare_parameters(name: str, theirs: Callable[..., Any], ours: Callable[..., Any]) -> None:
    """Report a method that does not take the positional arguments of vLLM's."""
    given = [
        each
        for each in inspect.signature(theirs).parameters.values()
        if each.kind is each.POSITIONAL_OR_KEYWORD and each.name != "self"
    ]
    try:
        inspect.signature(ours).bind(None, *given)
    except TypeError as error:
        differ(f"MultiConnector.{name} does not take {[each.name for each in given]}: {error}")


class Metadata(_RealMetadata):  # type: ignore[misc]  # it is imported at run time
    """Metadata of workers that list numbers."""

    def __init__(self, *numbers: int) -> None:
        """Take the *numbers*."""
        self.numbers = numbers

    def aggregate(self, other: Metadata) -> Metadata:
        """Return the numbers of both."""
        return Metadata(*self.numbers, *other.numbers)

    def __eq__(self, other: object) -> bool:
        """Return whether the numbers are the same."""
        return isinstance(other, Metadata) and self.numbers == other.numbers

    def __hash__(self) -> int:
        """Return the hash of the numbers."""
        return hash(self.numbers)


class Child(_RealConnector, _RealSupport):  # type: ignore[misc]  # they are imported at run time
    """A connector of vLLM whose answers depend on nothing but the history and the step."""

    def __init__(self, seed: str, saving: set[str]) -> None:
        """Answer by *seed*; the requests that are being saved are shared with the worker."""
        self._seed = seed
        self._saving = saving
        self.step = 0
        self.calls: list[Any] = []
        self._connector_metadata = None
        self._kv_transfer_config = SimpleNamespace(is_kv_producer=False)

    def _chance(self, *key: object) -> random.Random:
        return random.Random(f"{self._seed} {self.step} {key}")

    def get_num_new_matched_tokens(self, request: Any, num_computed_tokens: int) -> Any:
        """Return no tokens, some, or that the number is not known yet."""
        del num_computed_tokens
        chance = self._chance("tokens", request.request_id)
        return chance.choice([(0, False), (0, False), (16, True), (32, False), (None, False)])

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        """Note the call."""
        self.calls.append(("alloc", request.request_id, blocks, num_external_tokens))

    def get_external_cache_hit_sources(self, request: Any, num_external_tokens: int) -> Any:
        """Return a source, or that of the base class."""
        if self._chance("sources", request.request_id).random() < 0.5:
            return super().get_external_cache_hit_sources(request, num_external_tokens)
        return {"disk": num_external_tokens}

    def build_connector_meta(self, scheduler_output: Any) -> Any:
        """Return the number of the step."""
        self.calls.append(("build", scheduler_output))
        return self.step

    def request_finished(self, request: Any, block_ids: Any) -> Any:
        """Save some of the requests, with parameters of its own."""
        chance = self._chance("finished", request.request_id)
        self.calls.append(("finished", request.request_id, block_ids))
        if chance.random() < 0.6:
            self._saving.add(request.request_id)
            return True, {self._seed.partition("@")[0]: 1} if chance.random() < 0.5 else None
        return False, None

    request_finished_all_groups = request_finished

    def get_finished(self, finished_req_ids: set[str]) -> Any:
        """Return some of the requests that are being saved, and loads that have ended."""
        chance = self._chance("results")
        self.calls.append(("get_finished", sorted(finished_req_ids)))
        sent = {each for each in sorted(self._saving) if chance.random() < 0.5}
        self._saving -= sent
        return sent or None, {f"l{self.step}"} if chance.random() < 0.3 else None

    def get_transfer_results(self, finished_req_ids: set[str]) -> Any:
        """Return the same with failures, where this connector knows of any."""
        results = super().get_transfer_results(finished_req_ids)
        if self._chance("failed").random() < 0.3:
            results.failed_recving.update(results.finished_recving)
        return results

    def build_connector_worker_meta(self) -> Any:
        """Return metadata, or none."""
        return Metadata(self.step) if self._chance("meta").random() < 0.5 else None

    def update_connector_output(self, connector_output: Any) -> None:
        """Note the metadata of the own workers."""
        self.calls.append(("output", connector_output.kv_connector_worker_meta))

    def get_block_ids_with_load_errors(self) -> set[int]:
        """Return some blocks."""
        return {self.step} if self._chance("errors").random() < 0.3 else set()

    def take_events(self) -> Any:
        """Return an event for each step."""
        return [(self._seed, self.step)]

    def has_pending_push_work(self) -> bool:
        """Return an answer."""
        return self._chance("push").random() < 0.3

    def has_pending_block_frees(self) -> bool:
        """Return an answer."""
        return self._chance("frees").random() < 0.3

    def reset_cache(self) -> bool | None:
        """Return an answer."""
        return self._chance("reset").choice([True, False, None])

    def _note(self, *arguments: object, **named: object) -> None:
        self.calls.append((arguments, named))

    start_load_kv = wait_for_layer_load = save_kv_layer = wait_for_save = _note
    register_kv_caches = unregister_kv_caches = restore_kv_caches = _note
    on_new_request = handle_preemptions = finish_forward = reset_capture_state = _note


class Side:
    """A scheduler's and a worker's composite of one implementation, with their connectors."""

    def __init__(self, make: Callable[[list[Child]], Any], history: int, number: int) -> None:
        """Make both composites of *number* connectors."""
        saving: list[set[str]] = [set() for _ in range(number)]
        self.children = [
            [Child(f"{place}@{role} {history}", saving[place]) for place in range(number)]
            for role in ("scheduler", "worker")
        ]
        self.scheduler, self.worker = map(make, self.children)

    def calls(self) -> Any:
        """Return the calls of every connector."""
        return [[child.calls for child in children] for children in self.children]

    def run_step(self, step: int) -> list[Any]:
        """Run one step of a history; return what the composites have returned."""
        for child in (child for children in self.children for child in children):
            child.step = step
        request = SimpleNamespace(request_id=f"r{step}")
        self.scheduler.on_new_request(request)
        tokens, is_later = self.scheduler.get_num_new_matched_tokens(request, 0)
        answers: list[Any] = [tokens, is_later]
        if tokens is not None:
            self.scheduler.update_state_after_alloc(request, [step], tokens)
            answers.append(dict(self.scheduler.get_external_cache_hit_sources(request, tokens)))
        answers.append(self.scheduler.request_finished_all_groups(request, ([step],)))
        metadata = self.scheduler.build_connector_meta(step)
        answers += [tuple(metadata.metadata), metadata.extra_async_saves or {}]
        self.worker.handle_preemptions(metadata)
        self.worker.bind_connector_metadata(metadata)
        answers.append(self.worker.has_connector_metadata())
        for name, *arguments in (
            ("start_load_kv", step),
            ("wait_for_layer_load", "layer"),
            ("wait_for_save",),
            ("finish_forward",),
            ("unregister_kv_caches",),
            ("restore_kv_caches",),
        ):
            getattr(self.worker, name)(*arguments)
        if step % 3:
            results = self.worker.get_transfer_results({request.request_id})
            names = ("finished_sending", "finished_recving", "failed_recving")
            answers += [getattr(results, name) for name in names]
        else:
            answers.append(self.worker.get_finished({request.request_id}))
        answers.append(self.worker.get_block_ids_with_load_errors())
        self._pass_on(answers)
        self.worker.clear_connector_metadata()
        answers += [
            self.worker.has_connector_metadata(),
            list(self.scheduler.take_events()),
            self.scheduler.has_pending_push_work(),
            self.scheduler.has_pending_block_frees(),
            self.scheduler.reset_cache(),
            self.worker.get_finished_count(),
            self.worker.get_handshake_metadata(),
            self.worker.get_kv_connector_stats(),
            self.worker.get_kv_connector_kv_cache_events(),
            self.scheduler.requires_kv_delivery,
            self.scheduler.supports_divergent_local_hybrid_hits,
        ]
        return answers

    def _pass_on(self, answers: list[Any]) -> None:
        """Pass the metadata of two workers to the scheduler, aggregated."""
        metadata = self.worker.build_connector_worker_meta()
        if metadata is not None:
            metadata = metadata.aggregate(self.worker.build_connector_worker_meta())
        answers.append(None if metadata is None else tuple(metadata.metadata))
        output = SimpleNamespace(kv_connector_worker_meta=metadata)
        self.scheduler.update_connector_output(output)
        answers.append(output.kv_connector_worker_meta is metadata)


def make_real(children: list[Child]) -> Any:
    """Return vLLM's composite of *children*, without a configuration to make them from."""
    made = REAL.MultiConnector.__new__(REAL.MultiConnector)
    made._connectors = children
    made._requests_to_connector = {}
    made._extra_async_saves = {}
    made._connector_metadata = None
    made._all_support_hma = True
    return made


def main() -> None:
    """Compare the methods, and then the histories."""
    count(f"{compare_methods()} methods")
    chance = random.Random(SEED)
    steps = 0
    for history in range(HISTORIES):
        number = chance.randrange(1, 4)
        real, ours = (Side(make, history, number) for make in (make_real, MultiConnector))
        for step in range(STEPS):
            theirs, mine = real.run_step(step), ours.run_step(step)
            if theirs != mine or real.calls() != ours.calls():
                compare(f"history {history}, step {step}", theirs, mine)
                compare(f"calls of history {history}, step {step}", real.calls(), ours.calls())
                break
            steps += 1
    count(f"{HISTORIES} histories, {steps} steps")


if __name__ == "__main__":
    main()
