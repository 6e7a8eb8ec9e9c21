"""The composite of several connectors: its calls, and the reduction of their answers."""

from __future__ import annotations

import logging
import pickle
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from mpmetrics.engines import (
    CONNECTOR_FAMILIES,
    Connector,
    ConnectorConflictError,
    ConnectorDisagreementError,
    ConnectorFamily,
    ConnectorMetadataError,
    HybridCacheError,
    MultiConnector,
    MultiConnectorMetadata,
    MultiConnectorWorkerMetadata,
    SupportsHMA,
    supports_hma,
)
from mpmetrics.engines.connectors.transfer_results import TransferResults
from tests.engines.connectors.fakes import (
    FakeConnector,
    HybridConnector,
    NixlPullConnector,
    OtherConnector,
    nixl,
    request,
    stats,
)
from tests.workers import environment, run_python


def multi(*connectors: Any, **options: Any) -> MultiConnector:
    """Return a composite of *connectors*."""
    return MultiConnector(connectors, **options)


class WorkerMetadata:
    """Metadata of a connector's workers: a list of numbers."""

    def __init__(self, *numbers: int) -> None:
        """Take the *numbers*."""
        self.numbers = list(numbers)

    def __eq__(self, other: object) -> bool:
        """Return whether the numbers are the same."""
        return isinstance(other, WorkerMetadata) and self.numbers == other.numbers

    __hash__ = None  # type: ignore[assignment]

    def aggregate(self, other: WorkerMetadata) -> WorkerMetadata:
        """Return the numbers of both."""
        return WorkerMetadata(*self.numbers, *other.numbers)


# -- The composite as a connector ------------------------------------------------------------------


def test_a_composite_is_a_connector() -> None:
    """A composite is a `Connector`, so that it can be in another composite, and so is a fake."""
    assert isinstance(multi(), Connector)
    assert isinstance(multi(), SupportsHMA)
    assert isinstance(FakeConnector(), Connector)
    assert isinstance(HybridConnector(), SupportsHMA)
    assert not isinstance(FakeConnector(), SupportsHMA)


def test_a_connector_that_lacks_a_promised_method() -> None:
    """A connector that derives from `SupportsHMA` and lacks its method cannot be created."""

    class Without(FakeConnector, SupportsHMA):
        """A connector that promises the method and lacks it."""

    with pytest.raises(TypeError, match="abstract"):
        Without()  # type: ignore[abstract]  # what is tested


def test_a_composite_defines_every_method() -> None:
    """A composite defines every method of the protocols itself, and inherits no body."""
    for protocol in (Connector, SupportsHMA):
        for name in (name for name in vars(protocol) if not name.startswith("_")):
            assert callable(vars(MultiConnector)[name]), name


def test_names_of_connectors() -> None:
    """A composite names its connectors by class or by the keys of a mapping, in their order."""
    first, second = FakeConnector(), NixlPullConnector()
    assert multi(first, second).sub_connectors == [first, second]
    assert multi(first, first, second).names == [*["FakeConnector"] * 2, "NixlPullConnector"]
    named = MultiConnector({"NixlConnector": second, "cpu": first})
    assert (named.names, named.sub_connectors) == (["NixlPullConnector", "cpu"], [second, first])
    assert MultiConnector(iter([first])).sub_connectors == [first]


def test_a_composite_checks_declarations() -> None:
    """A composite unites the declarations of all connectors, nested ones included, or raises."""
    count, level = (ConnectorFamily("jobs", kind) for kind in ("counter", "gauge"))
    more = ConnectorFamily("more", "counter")
    inner = multi(FakeConnector(connector_families=(count,)), NixlPullConnector())
    outer = multi(FakeConnector(connector_families=(count, more)), inner)
    assert outer.families_by_connector() == {
        "FakeConnector": (count, more),
        "NixlPullConnector": CONNECTOR_FAMILIES["NixlPullConnector"],
    }
    with pytest.raises(ConnectorConflictError, match="jobs"):
        multi(FakeConnector(connector_families=(level,)), inner)


# -- A hybrid cache --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("connectors", "expected"),
    [
        ([], False),
        ([FakeConnector, FakeConnector], False),
        ([HybridConnector, HybridConnector], True),
        ([HybridConnector, FakeConnector], False),
        ([FakeConnector, HybridConnector], False),
        ([HybridConnector, [HybridConnector]], True),
        ([HybridConnector, [HybridConnector, FakeConnector]], False),
        ([HybridConnector, []], False),
    ],
    ids=str,
)
def test_support_for_a_hybrid_cache(connectors: list[Any], *, expected: bool) -> None:
    """A composite supports a hybrid cache if it has connectors, and all of them support it."""

    def make(kinds: list[Any]) -> MultiConnector:
        return multi(*(make(kind) if isinstance(kind, list) else kind() for kind in kinds))

    whole = make(connectors)
    assert whole.supports_hma is expected
    assert supports_hma(whole) is expected
    assert supports_hma(MultiConnector)
    if expected:
        assert MultiConnector([whole], hybrid_cache=True).hybrid_cache
    else:
        with pytest.raises(HybridCacheError):
            MultiConnector(whole.sub_connectors, hybrid_cache=True)


def test_a_hybrid_cache_without_support() -> None:
    """A hybrid cache without support is an error that names the connectors without it."""
    with pytest.raises(HybridCacheError) as caught:
        multi(HybridConnector(), FakeConnector(), OtherConnector(), hybrid_cache=True)
    assert caught.value.connectors == ("FakeConnector", "OtherConnector")
    assert str(caught.value).endswith(
        "every connector to support it: FakeConnector, OtherConnector"
    )
    with pytest.raises(HybridCacheError, match="there is no connector"):
        multi(hybrid_cache=True)


def test_support_of_classes() -> None:
    """`supports_hma` gives the same answer for a class as for its instances."""

    class Hybrid:
        """A class with the method."""

        def request_finished_all_groups(self, *_: object) -> None:
            """Do nothing."""

    assert supports_hma(Hybrid)
    assert supports_hma(Hybrid())
    assert not supports_hma(FakeConnector)


@pytest.mark.parametrize(
    "name", ["supports_divergent_local_hybrid_hits", "prefer_cross_layer_blocks"]
)
def test_flags_that_every_connector_needs(name: str) -> None:
    """A flag of the composite is True if it has connectors, and the flag of every one is True."""
    able, unable, silent = (FakeConnector() for _ in range(3))
    setattr(able, name, True)
    setattr(unable, name, False)
    assert getattr(multi(able, able), name) is True
    for connectors in ([able, unable], [able, silent], []):
        assert getattr(multi(*connectors), name) is False


def test_a_flag_that_one_connector_needs() -> None:
    """`requires_kv_delivery` of a composite is True if that of any connector is."""
    needing: Any = FakeConnector()
    needing.requires_kv_delivery = True
    assert multi(FakeConnector(), needing).requires_kv_delivery
    assert not multi(FakeConnector()).requires_kv_delivery


# -- Loading ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "expected", "chosen"),
    [
        ([(0, False), (0, False)], (0, False), None),
        ([(16, True), (0, False)], (16, True), 0),
        ([(0, False), (16, False)], (16, False), 1),
        ([(32, True), (64, False)], (32, True), 0),
        ([(32, True), (None, False)], (None, False), None),
        ([(None, True), (32, True)], (None, False), None),
        ([], (0, False), None),
    ],
    ids=str,
)
def test_the_first_that_has_tokens_loads_them(
    answers: list[Any], expected: Any, chosen: int | None
) -> None:
    """Every connector gets the blocks, and the first one with tokens gets the number to load."""
    connectors = [FakeConnector(get_num_new_matched_tokens=answer) for answer in answers]
    whole, blocks = multi(*connectors), object()
    assert whole.get_num_new_matched_tokens(request(), 8) == expected
    whole.update_state_after_alloc(request(), blocks, 16)
    for number, connector in enumerate(connectors):
        ((_, computed),) = connector.calls_of("get_num_new_matched_tokens")
        ((_, given, tokens),) = connector.calls_of("update_state_after_alloc")
        assert (computed, tokens) == (8, 16 if number == chosen else 0)
        assert given is blocks


def test_the_choice_of_a_loader_is_made_again() -> None:
    """A new answer of the connectors replaces the choice of the connector that loads."""
    first = FakeConnector(get_num_new_matched_tokens=[(16, False), (None, False), (0, False)])
    second = FakeConnector(get_num_new_matched_tokens=[(16, False), (16, False), (16, False)])
    whole = multi(first, second)
    for _ in range(3):
        whole.get_num_new_matched_tokens(request(), 0)
        whole.update_state_after_alloc(request(), None, 16)
    tokens = [
        [tokens for *_, tokens in connector.calls_of("update_state_after_alloc")]
        for connector in (first, second)
    ]
    assert tokens == [[16, 0, 0], [0, 0, 16]]


@pytest.mark.parametrize("chosen", [0, 1])
@pytest.mark.parametrize(
    ("name", "arguments", "answer"),
    [
        ("get_loaded_kv_cache_group_ids", (), {1, 2}),
        ("can_load_prefix_replay_checkpoint", (1,), True),
        ("consume_prefix_replay_checkpoint", (1,), True),
    ],
)
def test_only_the_chosen_connector_is_called(
    chosen: int, name: str, arguments: tuple[Any, ...], answer: Any
) -> None:
    """Methods about the load call only the chosen connector, and none before the choice."""
    connectors = [
        FakeConnector(get_num_new_matched_tokens=(16 * (number == chosen), True), **{name: answer})
        for number in range(2)
    ]
    whole, one = multi(*connectors), request()
    assert not getattr(whole, name)(one, *arguments)
    whole.get_num_new_matched_tokens(one, 0)
    assert getattr(whole, name)(one, *arguments) is answer
    assert [connector.calls_of(name) for connector in connectors] == [
        [(one, *arguments)] if number == chosen else [] for number in range(2)
    ]


def test_sources_of_loaded_tokens() -> None:
    """The chosen connector tells the sources of tokens; if none tells, they are unspecified."""
    first = FakeConnector(get_num_new_matched_tokens=(0, False))
    second = FakeConnector(
        get_num_new_matched_tokens=(32, True), get_external_cache_hit_sources={"host": 32}
    )
    silent = FakeConnector(get_num_new_matched_tokens=(32, True))
    one = request()
    whole = multi(first, second)
    assert whole.get_external_cache_hit_sources(one, 32) == {"external_unspecified": 32}
    assert whole.get_external_cache_hit_sources(one, 0) == {}
    assert not second.calls_of("get_external_cache_hit_sources")
    whole.get_num_new_matched_tokens(one, 0)
    assert whole.get_external_cache_hit_sources(one, 32) == {"host": 32}
    whole = multi(first, silent)
    whole.get_num_new_matched_tokens(one, 0)
    assert whole.get_external_cache_hit_sources(one, 32) == {"external_unspecified": 32}


def test_the_source_is_the_one_of_the_engine() -> None:
    """Where vLLM is imported, the unspecified source is a member of vLLM's own enumeration."""
    program = """
import enum, sys, types
class CacheHitSource(str, enum.Enum):
    EXTERNAL_UNSPECIFIED = "external_unspecified"
module = types.ModuleType("vllm.v1.metrics.cache_hit_source")
module.CacheHitSource = CacheHitSource
sys.modules[module.__name__] = module
from mpmetrics.engines import MultiConnector
found = MultiConnector([]).get_external_cache_hit_sources(types.SimpleNamespace(request_id="r"), 7)
print(found == {CacheHitSource.EXTERNAL_UNSPECIFIED: 7}, *(type(key).__name__ for key in found))
"""
    assert run_python(program, env=environment(None)) == "True CacheHitSource\n"


# -- Every connector -------------------------------------------------------------------------------

FORWARDED = [
    *("unregister_kv_caches", "restore_kv_caches"),
    *("register_kv_caches", "register_cross_layers_kv_cache", "set_host_xfer_buffer_ops"),
    *("start_load_kv", "wait_for_layer_load", "save_kv_layer", "wait_for_save", "finish_forward"),
    *("reset_capture_state", "set_xfer_handshake_metadata"),
    *("set_xfer_handshake_metadata_pp_aware", "set_eagle_prefix_cache_hashing"),
    *("on_new_request", "bind_kv_cache_manager", "bind_gpu_block_pool", "shutdown"),
    "clear_connector_metadata",
]


@pytest.mark.parametrize("name", FORWARDED)
def test_forwarded_calls(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """A forwarded call reaches every connector; failures are logged, and the last is raised."""
    log: list[Any] = []
    first, last = KeyError("first"), ValueError("last")
    connectors = [
        FakeConnector(log, **{name: answer}) for answer in (None, first, None, last, None)
    ]
    quiet = FakeConnector()
    arguments, named = ((), {}) if name in _WITHOUT else ((1,), {"more": 2})
    with caplog.at_level(logging.WARNING, "mpmetrics"), pytest.raises(ValueError, match="last"):
        getattr(multi(*connectors, quiet), name)(*arguments, **named)
    assert log == [(connector, name) for connector in connectors]
    assert [call for connector in connectors for call in connector.calls] == [
        (name, arguments, named)
    ] * 5
    assert [message.partition(" (")[0] for message in caplog.messages] == [
        f"connector FakeConnector: {name} failed: KeyError: 'first'",
        f"connector FakeConnector: {name} failed: ValueError: last",
    ]
    assert getattr(multi(connectors[0], object()), name)(*arguments, **named) is None


_WITHOUT = {"shutdown", "clear_connector_metadata"}


@pytest.mark.parametrize(
    ("name", "answers", "expected"),
    [
        ("register_finished_partial_tail", (True, False), True),
        ("register_finished_partial_tail", (False, True), True),
        ("register_finished_partial_tail", (False, False), False),
        ("has_pending_block_frees", (True, False), True),
        ("has_pending_block_frees", (False, False), False),
        ("has_pending_push_work", (False, True), True),
        ("has_pending_push_work", (False, False), False),
        ("reset_cache", (None, True), True),
        ("reset_cache", (False, True), False),
        ("get_finished_count", (4, 4), 4),
        ("get_finished_count", (None, 4), None),
        ("get_required_kvcache_layout", (None, "HND"), "HND"),
        ("get_required_kvcache_layout", (None, None), None),
        ("get_block_ids_with_load_errors", ({1}, {1, 2}), {1, 2}),
        ("get_block_ids_with_load_errors", (None, set()), set()),
        ("get_handshake_metadata", (None, "me"), "me"),
        ("get_handshake_metadata", ("me", "you"), "me"),
        ("get_mem_pool_context", (None, None), None),
        ("get_finished", ((set(), None), (None, set())), (None, None)),
        ("supports_sleep_mode", (True, True), True),
        ("supports_sleep_mode", (True, False), False),
        ("requires_piecewise_for_cudagraph", (False, True), True),
        ("requires_piecewise_for_cudagraph", (False, False), False),
    ],
    ids=str,
)
def test_answers_are_reduced(name: str, answers: tuple[Any, Any], expected: Any) -> None:
    """A composite calls each connector once with its own arguments, and reduces the answers."""
    connectors = [FakeConnector(**{name: answer}) for answer in answers]
    arguments: Any = {
        "register_finished_partial_tail": (1, 2),
        "get_finished": (set(),),
        "supports_sleep_mode": ("config",),
        "requires_piecewise_for_cudagraph": ({"slots": 1},),
    }
    arguments = arguments.get(name, ())
    assert getattr(multi(*connectors), name)(*arguments) == expected
    for connector in connectors:
        assert connector.calls == [(name, arguments, {})]


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("get_num_new_matched_tokens", (request(), 0), (0, False)),
        ("update_state_after_alloc", (request(), None, 0), None),
        ("build_connector_meta", (None,), MultiConnectorMetadata((None,))),
        ("request_finished", (request(), []), (False, None)),
        ("get_finished", (set(),), (None, None)),
        ("register_finished_partial_tail", (), False),
        ("has_pending_block_frees", (), False),
        ("has_pending_push_work", (), False),
        ("reset_cache", (), True),
        ("supports_sleep_mode", (None,), True),
        ("requires_piecewise_for_cudagraph", ({},), False),
        ("get_transfer_results", (set(),), TransferResults()),
        ("get_kv_connector_kv_cache_events", (), None),
        ("get_finished_count", (), None),
        ("get_kv_connector_stats", (), None),
        ("build_connector_worker_meta", (), None),
        ("shutdown", (), None),
    ],
)
def test_connectors_without_the_method(
    name: str, arguments: tuple[Any, ...], expected: Any
) -> None:
    """A composite has an answer for a connector that lacks the method."""
    assert getattr(multi(object()), name)(*arguments) == expected


def test_flags_without_connectors() -> None:
    """A composite without connectors supports no sleep mode, and requires nothing."""
    assert multi().supports_sleep_mode(None) is False
    assert multi().requires_piecewise_for_cudagraph({}) is False
    assert multi().role is None
    roles = (SimpleNamespace(role=role) for role in (None, "worker"))
    assert multi(*roles).role == "worker"


@dataclass
class TransferConfig:
    """A configuration as vLLM has it."""

    kv_connector: str = ""
    engine_id: str = "default"
    kv_connector_extra_config: dict[str, Any] = field(default_factory=dict)


def test_each_connector_is_asked_with_its_own_settings() -> None:
    """Each connector gets its own part of a configuration that lists the connectors."""
    connectors = [
        FakeConnector(supports_sleep_mode=True, requires_piecewise_for_cudagraph=False)
        for _ in range(2)
    ]
    listed = [
        {"kv_connector": "A", "kv_connector_extra_config": {"slots": 1}},
        {"kv_connector": "B", "engine_id": "own"},
    ]
    config = TransferConfig("MultiConnector", "e", {"connectors": listed})
    whole = multi(*connectors)
    assert whole.supports_sleep_mode(config)
    assert not whole.requires_piecewise_for_cudagraph(config.kv_connector_extra_config)
    assert [connector.calls for connector in connectors] == [
        [
            ("supports_sleep_mode", (TransferConfig("A", "e", {"slots": 1}),), {}),
            ("requires_piecewise_for_cudagraph", ({"slots": 1},), {}),
        ],
        [
            ("supports_sleep_mode", (TransferConfig("B", "own"),), {}),
            ("requires_piecewise_for_cudagraph", ({},), {}),
        ],
    ]


def test_results_of_transfers() -> None:
    """Results have what is saved by all, loaded by any and failed in any connector, of any age."""
    results = TransferResults({"a", "b"}, {"c", "d"}, {"d"})
    newer = FakeConnector(get_transfer_results=[results, TransferResults(), None])
    older = FakeConnector(get_finished=[({"a"}, {"e"}), ({"a"}, None), (None, None)])
    whole = multi(newer, older)
    whole.bind_connector_metadata(MultiConnectorMetadata((None, None), {"a": 2}))
    assert whole.get_transfer_results({"a"}) == TransferResults({"b"}, {"c", "d", "e"}, {"d"})
    assert whole.get_finished(set()) == ({"a"}, None)
    assert whole.get_transfer_results(set()) == TransferResults()
    assert newer.calls_of("get_finished") == []
    nested = multi(multi(FakeConnector(get_transfer_results=TransferResults(set(), {"x"}, {"x"}))))
    assert nested.get_transfer_results(set()).failed_recving == {"x"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("get_finished_count", "different numbers of workers to finish: FakeConnector: 1, Other"),
        ("get_required_kvcache_layout", "different layouts of the KV cache"),
        ("get_mem_pool_context", "Multiple connectors provide a KV cache memory pool"),
    ],
)
def test_connectors_that_cannot_agree(name: str, message: str) -> None:
    """Different answers where one is needed are an error that has the answer of each connector."""
    with pytest.raises(ConnectorDisagreementError, match=message) as caught:
        getattr(multi(FakeConnector(**{name: 1}), OtherConnector(**{name: 2})), name)()
    assert caught.value.answers == (("FakeConnector", 1), ("OtherConnector", 2))
    assert isinstance(caught.value, ValueError)


def test_the_memory_pool_of_one_connector() -> None:
    """The memory pool of a composite is the object of the one connector that has a pool."""
    pool = object()
    connectors = [FakeConnector(get_mem_pool_context=each) for each in (None, pool)]
    assert multi(*connectors).get_mem_pool_context() is pool
    assert len(connectors[1].calls_of("get_mem_pool_context")) == 1


def test_events_are_in_the_order_of_the_connectors() -> None:
    """A composite returns the events of all connectors in order; no events may have any form."""
    answers: list[Any] = [("a", "b"), (), None, iter(["c"])]
    whole = multi(*(FakeConnector(take_events=answer) for answer in answers), object())
    assert list(whole.take_events()) == ["a", "b", "c"]


# -- Between scheduler and workers -----------------------------------------------------------------


def test_each_connector_has_its_own_metadata() -> None:
    """The metadata of each scheduler's connector reach the same connector of the worker."""
    scheduler = multi(*(FakeConnector(build_connector_meta=each) for each in ("a", None)))
    workers = [
        FakeConnector(bind_connector_metadata=None, handle_preemptions=None) for _ in range(2)
    ]
    worker = multi(*workers)
    metadata = pickle.loads(pickle.dumps(scheduler.build_connector_meta("out")))
    assert metadata == MultiConnectorMetadata(("a", None), None)
    assert not worker.has_connector_metadata()
    worker.handle_preemptions(metadata)
    worker.bind_connector_metadata(metadata)
    assert worker.has_connector_metadata()
    worker.clear_connector_metadata()
    assert not worker.has_connector_metadata()
    for each, own in zip(workers, ("a", None), strict=True):
        assert each.calls_of("bind_connector_metadata") == [(own,)]
        assert each.calls_of("handle_preemptions") == [(own,)]


@pytest.mark.parametrize("metadata", [("a", "b"), MultiConnectorMetadata(("a",))], ids=str)
@pytest.mark.parametrize("name", ["bind_connector_metadata", "handle_preemptions"])
def test_foreign_metadata(name: str, metadata: Any) -> None:
    """Metadata that are not of this composite are an error before any connector is called."""
    connectors = [FakeConnector(**{name: None}) for _ in range(2)]
    with pytest.raises(ConnectorMetadataError, match="of 2 connectors expected, not "):
        getattr(multi(*connectors), name)(metadata)
    assert [connector.calls for connector in connectors] == [[], []]


@pytest.mark.parametrize(
    ("first", "second"), [(None, None), (None, [2]), ([1], None), ([1], [2])], ids=str
)
def test_metadata_of_workers(first: Any, second: Any) -> None:
    """Metadata of workers have one element for each connector, and are None if all are None."""
    own = tuple(None if each is None else WorkerMetadata(*each) for each in (first, second))
    built = multi(
        *(FakeConnector(build_connector_worker_meta=each) for each in own)
    ).build_connector_worker_meta()
    assert built == (None if own == (None, None) else MultiConnectorWorkerMetadata(own))


A, B, C = WorkerMetadata(1), WorkerMetadata(2), WorkerMetadata(3)


@pytest.mark.parametrize(
    ("mine", "theirs", "both"),
    [
        ((A, None), (None, B), (A, B)),
        ((A, B), (C, None), (WorkerMetadata(1, 3), B)),
        ((None, None), (None, C), (None, C)),
    ],
    ids=["apart", "one", "none"],
)
def test_metadata_of_two_workers_are_aggregated(mine: Any, theirs: Any, both: Any) -> None:
    """Aggregation works connector by connector, passes over None, and changes neither side."""
    one, two = MultiConnectorWorkerMetadata(mine), MultiConnectorWorkerMetadata(theirs)
    assert one.aggregate(two) == MultiConnectorWorkerMetadata(both)
    assert (one.metadata, two.metadata) == (mine, theirs)
    assert (A.numbers, B.numbers, C.numbers) == ([1], [2], [3])
    for other in (MultiConnectorWorkerMetadata((A,)), (A, B)):
        with pytest.raises(ConnectorMetadataError):
            one.aggregate(other)


class NotingConnector(FakeConnector):
    """A connector that notes the metadata of its workers."""

    def __init__(self, error: Exception | None = None) -> None:
        """Raise *error* when the output comes, if it is not None."""
        super().__init__()
        self.noted: list[Any] = []
        self._error = error

    def update_connector_output(self, output: Any) -> None:
        """Note the metadata, and raise the error if there is one."""
        self.noted.append(output.kv_connector_worker_meta)
        if self._error is not None:
            raise self._error


@pytest.mark.parametrize("error", [None, RuntimeError("no")])
def test_each_connector_gets_the_output_of_its_own_workers(error: Exception | None) -> None:
    """Each connector sees its own workers' metadata; afterwards the output has all again."""
    connectors = [NotingConnector(error), NotingConnector()]
    whole = MultiConnectorWorkerMetadata((None, B))
    output = SimpleNamespace(kv_connector_worker_meta=whole)
    with nullcontext() if error is None else pytest.raises(RuntimeError, match="no"):
        multi(*connectors).update_connector_output(output)
    assert [connector.noted for connector in connectors] == [[None], [B]]
    assert output.kv_connector_worker_meta is whole


def test_output_without_metadata() -> None:
    """Output without metadata reaches every connector unchanged."""
    connectors = [NotingConnector(), NotingConnector()]
    multi(*connectors).update_connector_output(SimpleNamespace(kv_connector_worker_meta=None))
    assert [connector.noted for connector in connectors] == [[None], [None]]


def test_foreign_output() -> None:
    """Output of another composite is an error before any call, and stays unchanged."""
    connectors = [NotingConnector(), NotingConnector()]
    output = SimpleNamespace(kv_connector_worker_meta=MultiConnectorWorkerMetadata((A,)))
    with pytest.raises(ConnectorMetadataError):
        multi(*connectors).update_connector_output(output)
    assert [connector.noted for connector in connectors] == [[], []]


# -- Statistics ------------------------------------------------------------------------------------


def test_statistics_are_drained_once_for_each_interval() -> None:
    """Draining calls each connector once for each interval, nested ones included."""
    first = FakeConnector(get_kv_connector_stats=[stats(count=1), None, stats(count=4)])
    second = FakeConnector(get_kv_connector_stats=[stats(count=2), None, None])
    third = NixlPullConnector(get_kv_connector_stats=[nixl(1), None, None])
    whole = multi(first, multi(second, third))
    found = [whole.get_kv_connector_stats() for _ in range(3)]
    assert [each and each.to_dict() for each in found] == [
        {"FakeConnector": {"count": 3}, "NixlConnector": nixl(1)},
        None,
        {"FakeConnector": {"count": 4}},
    ]
    for connector in (first, second, third):
        assert len(connector.calls_of("get_kv_connector_stats")) == 3


def test_statistics_of_scheduler_and_worker() -> None:
    """The statistics of scheduler and worker merge by the name of the connector."""
    sides = [multi(NixlPullConnector(get_kv_connector_stats=nixl(duration))) for duration in (1, 2)]
    scheduler, worker = (side.get_kv_connector_stats() for side in sides)
    assert scheduler is not None
    assert worker is not None
    both = scheduler.aggregate(sides[0].build_kv_connector_stats(worker.to_dict()))
    assert both["NixlConnector"].data["transfer_duration"] == [1, 2]
    assert len(sides[0].build_kv_connector_stats()) == 0


def test_names_keep_statistics_apart() -> None:
    """Names keep two connectors of a class apart, and the families of the class still apply."""
    connectors = {
        name: NixlPullConnector(get_kv_connector_stats=nixl(duration))
        for name, duration in (("near", 1), ("far", 2))
    }
    whole = MultiConnector(connectors)
    found = whole.get_kv_connector_stats()
    assert found is not None
    assert found.to_dict() == {"near": nixl(1), "far": nixl(2)}
    assert not whole.build_kv_connector_stats(found.to_dict()).unknown
    assert found.reduce()["far"]["Avg xfer time (ms)"] == 2000
