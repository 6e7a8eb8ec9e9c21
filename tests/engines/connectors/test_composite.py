"""Several connectors as one: who is asked, who is told, and what is made of the answers."""

from __future__ import annotations

import logging
import pickle
from contextlib import nullcontext
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
from tests.engines.connectors.fakes import (
    FakeConnector,
    HybridConnector,
    NixlPullConnector,
    OtherConnector,
    nixl,
    request,
    stats,
)


def multi(*connectors: Any, **options: Any) -> MultiConnector:
    """Return a composite of *connectors*."""
    return MultiConnector(connectors, **options)


class WorkerMetadata:
    """What the workers of a connector have to say: a list."""

    def __init__(self, *said: int) -> None:
        """Have said something."""
        self.said = list(said)

    def __eq__(self, other: object) -> bool:
        """Tell whether the same was said."""
        return isinstance(other, WorkerMetadata) and self.said == other.said

    __hash__ = None  # type: ignore[assignment]

    def aggregate(self, other: WorkerMetadata) -> WorkerMetadata:
        """Return what both have said."""
        return WorkerMetadata(*self.said, *other.said)


# -- What it is ------------------------------------------------------------------------------------


def test_it_is_a_connector_itself() -> None:
    """So that it can be one of several; and so is a fake."""
    assert isinstance(multi(), Connector)
    assert isinstance(multi(), SupportsHMA)
    assert isinstance(FakeConnector(), Connector)
    assert isinstance(HybridConnector(), SupportsHMA)
    assert not isinstance(FakeConnector(), SupportsHMA)


def test_support_without_the_method() -> None:
    """Is found when a connector is made, not when its first request is over."""

    class Without(FakeConnector, SupportsHMA):
        """Promises what it does not have."""

    with pytest.raises(TypeError, match="abstract"):
        Without()  # type: ignore[abstract]  # what is tested


def test_every_method_of_a_connector_is_its_own() -> None:
    """It falls back on nobody's."""
    for protocol in (Connector, SupportsHMA):
        for name in (name for name in vars(protocol) if not name.startswith("_")):
            assert callable(vars(MultiConnector)[name]), name


def test_who_its_connectors_are() -> None:
    """In their order, by their classes or by the names that they were given."""
    first, second = FakeConnector(), NixlPullConnector()
    assert multi(first, second).sub_connectors == [first, second]
    assert multi(first, first, second).names == [*["FakeConnector"] * 2, "NixlPullConnector"]
    named = MultiConnector({"NixlConnector": second, "cpu": first})
    assert (named.names, named.sub_connectors) == (["NixlPullConnector", "cpu"], [second, first])
    assert MultiConnector(iter([first])).sub_connectors == [first]


def test_declarations_are_checked_when_it_is_made() -> None:
    """Those of all connectors, whatever their depth, are one."""
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
def test_support_for_a_hybrid_cache(connectors: list[Any], expected: bool) -> None:  # noqa: FBT001 - a case
    """All have to support it, in a composite within, too; nobody is not all."""

    def made(kinds: list[Any]) -> MultiConnector:
        return multi(*(made(kind) if isinstance(kind, list) else kind() for kind in kinds))

    whole = made(connectors)
    assert whole.supports_hma is expected
    assert supports_hma(whole) is expected
    assert supports_hma(MultiConnector)
    if expected:
        assert MultiConnector([whole], hybrid_cache=True).hybrid_cache
    else:
        with pytest.raises(HybridCacheError):
            MultiConnector(whole.sub_connectors, hybrid_cache=True)


def test_a_hybrid_cache_without_support_says_who_lacks_it() -> None:
    """In one line."""
    with pytest.raises(HybridCacheError) as caught:
        multi(HybridConnector(), FakeConnector(), OtherConnector(), hybrid_cache=True)
    assert caught.value.connectors == ("FakeConnector", "OtherConnector")
    assert str(caught.value).endswith(
        "every connector to support it: FakeConnector, OtherConnector"
    )
    with pytest.raises(HybridCacheError, match="there is no connector"):
        multi(hybrid_cache=True)


def test_classes_support_it_as_their_connectors_do() -> None:
    """Whether there is an object already does not matter."""

    class Hybrid:
        """A class with the method."""

        def request_finished_all_groups(self, *_: object) -> None:
            """Take no note."""

    assert supports_hma(Hybrid)
    assert supports_hma(Hybrid())
    assert not supports_hma(FakeConnector)


@pytest.mark.parametrize(
    "name", ["supports_divergent_local_hybrid_hits", "prefer_cross_layer_blocks"]
)
def test_what_all_have_to_be_able_to(name: str) -> None:
    """One that is not, or does not say, is enough for no; so is nobody."""
    able, unable, silent = (FakeConnector() for _ in range(3))
    setattr(able, name, True)
    setattr(unable, name, False)
    assert getattr(multi(able, able), name) is True
    for connectors in ([able, unable], [able, silent], []):
        assert getattr(multi(*connectors), name) is False


def test_what_any_may_need() -> None:
    """One is enough."""
    needing = FakeConnector()
    needing.requires_kv_delivery = True  # type: ignore[attr-defined]
    assert multi(FakeConnector(), needing).requires_kv_delivery
    assert not multi(FakeConnector()).requires_kv_delivery


# -- Who loads -------------------------------------------------------------------------------------


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
    """All are asked, and told of the blocks; the others load nothing."""
    connectors = [FakeConnector(get_num_new_matched_tokens=answer) for answer in answers]
    whole, blocks = multi(*connectors), object()
    assert whole.get_num_new_matched_tokens(request(), 8) == expected
    whole.update_state_after_alloc(request(), blocks, 16)
    for number, connector in enumerate(connectors):
        ((_, computed),) = connector.called("get_num_new_matched_tokens")
        ((_, given, tokens),) = connector.called("update_state_after_alloc")
        assert (computed, tokens) == (8, 16 if number == chosen else 0)
        assert given is blocks


def test_who_is_asked_again_may_be_another() -> None:
    """What was remembered does not outlive the next answer."""
    first = FakeConnector(get_num_new_matched_tokens=[(16, False), (None, False), (0, False)])
    second = FakeConnector(get_num_new_matched_tokens=[(16, False), (16, False), (16, False)])
    whole = multi(first, second)
    for _ in range(3):
        whole.get_num_new_matched_tokens(request(), 0)
        whole.update_state_after_alloc(request(), None, 16)
    told = [
        [tokens for *_, tokens in connector.called("update_state_after_alloc")]
        for connector in (first, second)
    ]
    assert told == [[16, 0, 0], [0, 0, 16]]


@pytest.mark.parametrize("chosen", [0, 1])
@pytest.mark.parametrize(
    ("name", "arguments", "answer"),
    [
        ("get_loaded_kv_cache_group_ids", (), {1, 2}),
        ("get_external_cache_hit_sources", (32,), {"host": 32}),
        ("can_load_prefix_replay_checkpoint", (1,), True),
        ("consume_prefix_replay_checkpoint", (1,), True),
    ],
)
def test_who_loads_is_asked_alone(
    chosen: int, name: str, arguments: tuple[Any, ...], answer: Any
) -> None:
    """The others are not; nobody is, as long as nobody is chosen."""
    connectors = [
        FakeConnector(get_num_new_matched_tokens=(16 * (number == chosen), True), **{name: answer})
        for number in range(2)
    ]
    whole, one = multi(*connectors), request()
    assert not getattr(whole, name)(one, *arguments)
    whole.get_num_new_matched_tokens(one, 0)
    assert getattr(whole, name)(one, *arguments) is answer
    assert [connector.called(name) for connector in connectors] == [
        [(one, *arguments)] if number == chosen else [] for number in range(2)
    ]


# -- All of them -----------------------------------------------------------------------------------

FORWARDED = [
    *("register_kv_caches", "register_cross_layers_kv_cache", "set_host_xfer_buffer_ops"),
    *("start_load_kv", "wait_for_layer_load", "save_kv_layer", "wait_for_save", "finish_forward"),
    *("reset_capture_state", "set_xfer_handshake_metadata"),
    *("set_xfer_handshake_metadata_pp_aware", "set_eagle_prefix_cache_hashing"),
    *("on_new_request", "bind_kv_cache_manager", "bind_gpu_block_pool", "shutdown"),
    "clear_connector_metadata",
]


@pytest.mark.parametrize("name", FORWARDED)
def test_what_all_are_told(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """All in their order, whoever fails; each failure is logged, and the last is raised."""
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
    assert [record.exc_info[1] for record in caplog.records if record.exc_info] == [first, last]
    assert "FakeConnector" in caplog.text
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
    ],
    ids=str,
)
def test_what_all_are_asked(name: str, answers: tuple[Any, Any], expected: Any) -> None:
    """Each is asked once with the same, whatever another has answered."""
    connectors = [FakeConnector(**{name: answer}) for answer in answers]
    arguments: Any = {"register_finished_partial_tail": (1, 2), "get_finished": (set(),)}
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
        ("get_finished_count", (), None),
        ("get_kv_connector_stats", (), None),
        ("build_connector_worker_meta", (), None),
        ("shutdown", (), None),
    ],
)
def test_a_connector_may_do_without(name: str, arguments: tuple[Any, ...], expected: Any) -> None:
    """It is answered for one that has no such method."""
    assert getattr(multi(object()), name)(*arguments) == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("get_finished_count", "different numbers of workers to finish: FakeConnector: 1, Other"),
        ("get_required_kvcache_layout", "different layouts of the KV cache"),
        ("get_mem_pool_context", "Multiple connectors provide a KV cache memory pool"),
    ],
)
def test_connectors_that_cannot_agree(name: str, message: str) -> None:
    """It is an error with what each of them says."""
    with pytest.raises(ConnectorDisagreementError, match=message) as caught:
        getattr(multi(FakeConnector(**{name: 1}), OtherConnector(**{name: 2})), name)()
    assert caught.value.answers == (("FakeConnector", 1), ("OtherConnector", 2))
    assert isinstance(caught.value, ValueError)


def test_the_memory_pool_of_the_one_that_has_one() -> None:
    """It is that object."""
    pool = object()
    connectors = [FakeConnector(get_mem_pool_context=each) for each in (None, pool)]
    assert multi(*connectors).get_mem_pool_context() is pool
    assert len(connectors[1].called("get_mem_pool_context")) == 1


def test_events_in_the_order_of_the_connectors() -> None:
    """All at once; who has none may say so in any way."""
    answers: list[Any] = [("a", "b"), (), None, iter(["c"])]
    whole = multi(*(FakeConnector(take_events=answer) for answer in answers), object())
    assert list(whole.take_events()) == ["a", "b", "c"]


# -- Between scheduler and workers -----------------------------------------------------------------


def test_each_has_its_own_metadata() -> None:
    """What it has for its worker gets to its worker."""
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
        assert each.called("bind_connector_metadata") == [(own,)]
        assert each.called("handle_preemptions") == [(own,)]


@pytest.mark.parametrize("metadata", [("a", "b"), MultiConnectorMetadata(("a",))], ids=str)
@pytest.mark.parametrize("name", ["bind_connector_metadata", "handle_preemptions"])
def test_metadata_of_others(name: str, metadata: Any) -> None:
    """They are an error before anybody is told."""
    connectors = [FakeConnector(**{name: None}) for _ in range(2)]
    with pytest.raises(ConnectorMetadataError, match="of 2 connectors expected, not "):
        getattr(multi(*connectors), name)(metadata)
    assert [connector.calls for connector in connectors] == [[], []]


@pytest.mark.parametrize(
    ("first", "second"), [(None, None), (None, [2]), ([1], None), ([1], [2])], ids=str
)
def test_what_workers_have_to_say(first: Any, second: Any) -> None:
    """One element for each connector; nothing if nobody has any."""
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
def test_workers_are_put_together_one_by_one(mine: Any, theirs: Any, both: Any) -> None:
    """None is nothing; neither side changes."""
    one, two = MultiConnectorWorkerMetadata(mine), MultiConnectorWorkerMetadata(theirs)
    assert one.aggregate(two) == MultiConnectorWorkerMetadata(both)
    assert (one.metadata, two.metadata) == (mine, theirs)
    assert (A.said, B.said, C.said) == ([1], [2], [3])
    for other in (MultiConnectorWorkerMetadata((A,)), (A, B)):
        with pytest.raises(ConnectorMetadataError):
            one.aggregate(other)


class Telling(FakeConnector):
    """A connector that notes what its workers have said."""

    def __init__(self, error: Exception | None = None) -> None:
        """Raise *error* then, if there is one."""
        super().__init__()
        self.heard: list[Any] = []
        self._error = error

    def update_connector_output(self, output: Any) -> None:
        """Note it."""
        self.heard.append(output.kv_connector_worker_meta)
        if self._error is not None:
            raise self._error


@pytest.mark.parametrize("error", [None, RuntimeError("no")])
def test_each_hears_of_its_own_workers(error: Exception | None) -> None:
    """Afterwards the output is what it was, whoever has failed."""
    connectors = [Telling(error), Telling()]
    whole = MultiConnectorWorkerMetadata((None, B))
    output = SimpleNamespace(kv_connector_worker_meta=whole)
    with nullcontext() if error is None else pytest.raises(RuntimeError, match="no"):
        multi(*connectors).update_connector_output(output)
    assert [connector.heard for connector in connectors] == [[None], [B]]
    assert output.kv_connector_worker_meta is whole


def test_workers_that_have_said_nothing() -> None:
    """All hear that."""
    connectors = [Telling(), Telling()]
    multi(*connectors).update_connector_output(SimpleNamespace(kv_connector_worker_meta=None))
    assert [connector.heard for connector in connectors] == [[None], [None]]


def test_output_that_is_of_others() -> None:
    """It is an error before anybody is told, and stays what it was."""
    connectors = [Telling(), Telling()]
    output = SimpleNamespace(kv_connector_worker_meta=MultiConnectorWorkerMetadata((A,)))
    with pytest.raises(ConnectorMetadataError):
        multi(*connectors).update_connector_output(output)
    assert [connector.heard for connector in connectors] == [[], []]


# -- Statistics ------------------------------------------------------------------------------------


def test_statistics_are_drained_once_for_each_interval() -> None:
    """Each connector is asked once, those of a composite within, too."""
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
        assert len(connector.called("get_kv_connector_stats")) == 3


def test_statistics_of_scheduler_and_worker() -> None:
    """They are put together by who has them."""
    sides = [multi(NixlPullConnector(get_kv_connector_stats=nixl(duration))) for duration in (1, 2)]
    scheduler, worker = (side.get_kv_connector_stats() for side in sides)
    assert scheduler is not None
    assert worker is not None
    both = scheduler.aggregate(sides[0].build_kv_connector_stats(worker.to_dict()))
    assert both["NixlConnector"].data["transfer_duration"] == [1, 2]
    assert len(sides[0].build_kv_connector_stats()) == 0


def test_names_keep_statistics_apart() -> None:
    """Those of two connectors of a class that were given names; the families are still known."""
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
