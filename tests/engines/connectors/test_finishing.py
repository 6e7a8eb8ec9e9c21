"""The end of a request: every connector gets it, and the last of all saves is reported."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from mpmetrics.engines import HybridCacheError, MultiConnector, TransferParamsClashError
from tests.engines.connectors.fakes import FakeConnector, HybridConnector, OtherConnector, request
from tests.workers import environment, run_python

METHODS = pytest.mark.parametrize(
    ("method", "kind", "blocks"),
    [
        ("request_finished", FakeConnector, [1, 2]),
        ("request_finished", HybridConnector, [1, 2]),
        ("request_finished_all_groups", HybridConnector, ([1, 2], [3])),
    ],
)
"""Both methods for a finished request, which combine the answers in the same way."""


@METHODS
@pytest.mark.parametrize(
    ("savers", "extra"),
    [
        ((True, False, True), {"r": 1}),
        ((False, False), {}),
        ((False, True), {}),
        ((True, True, True), {"r": 2}),
        ((), {}),
    ],
)
def test_savers_are_counted(
    method: str, kind: Any, blocks: Any, savers: tuple[bool, ...], extra: dict[str, int]
) -> None:
    """Every connector gets the finished request, and the savers beyond the first are counted."""
    connectors = [kind(**{method: (is_saving, None)}) for is_saving in savers]
    whole = MultiConnector(connectors)
    if not savers and method == "request_finished_all_groups":
        blocks = ([1, 2],)
    one = request()
    assert getattr(whole, method)(one, blocks) == (any(savers), None)
    assert whole.extra_async_saves == extra
    for connector in connectors:
        assert connector.calls_of(method) == [(one, blocks)]


@METHODS
@pytest.mark.parametrize(
    ("given", "merged"),
    [
        ((None, None), None),
        (({"a": 1}, {"b": 2}), {"a": 1, "b": 2}),
        ((None, {"b": 2}), {"b": 2}),
        (({}, None), {}),
    ],
    ids=str,
)
def test_parameters_are_merged(
    method: str, kind: Any, blocks: Any, given: Any, merged: Any
) -> None:
    """Transfer parameters of all connectors are merged into a new dict."""
    connectors = [kind(**{method: (True, params)}) for params in given]
    assert getattr(MultiConnector(connectors), method)(request(), blocks) == (True, merged)
    assert given[0] in ({"a": 1}, {}, None)


@METHODS
def test_parameters_that_clash_leave_nothing_behind(method: str, kind: Any, blocks: Any) -> None:
    """Clashing parameters are an error, and nested composites forget the request, too."""
    params = [{"a": 1, "x": 0}, {"b": 1}, {"a": 1, "b": 2}]
    answers = {"get_num_new_matched_tokens": (16, True)}
    connectors = [kind(**{method: (True, each)}, **answers) for each in params]
    inner = MultiConnector([connectors[0], kind(**{method: (True, None)}, **answers)])
    whole = MultiConnector({"one": inner, "two": connectors[1], "three": connectors[2]})
    one = request()
    whole.get_num_new_matched_tokens(one, 0)
    with pytest.raises(TransferParamsClashError) as caught:
        getattr(whole, method)(one, blocks)
    assert caught.value.owners == {"a": ("one", "three"), "b": ("two", "three")}
    assert caught.value.request_id == "r"
    assert str(caught.value) == (
        "Key clash in kv_transfer_params of request 'r': 'a' of one, three; 'b' of two, three"
    )
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert isinstance(caught.value, RuntimeError)
    assert [len(connector.calls_of(method)) for connector in connectors] == [1, 1, 1]
    for composite in (whole, inner):
        assert (composite.extra_async_saves, composite._chosen) == ({}, {})


@METHODS
def test_a_connector_that_fails_leaves_nothing_behind(method: str, kind: Any, blocks: Any) -> None:
    """If a connector raises, the others are called, and the request is forgotten."""
    answers = {"get_num_new_matched_tokens": (16, True)}
    connectors = [
        kind(**{method: answer}, **answers)
        for answer in (RuntimeError("no"), (True, None), (True, None))
    ]
    whole = MultiConnector(connectors)
    whole.get_num_new_matched_tokens(request(), 0)
    with pytest.raises(RuntimeError, match="no"):
        getattr(whole, method)(request(), blocks)
    assert [len(connector.calls_of(method)) for connector in connectors] == [1, 1, 1]
    assert (whole.extra_async_saves, whole._chosen) == ({}, {})


def test_the_chosen_connector_is_forgotten() -> None:
    """A later request with the id of a finished one has no chosen connector."""
    connector = FakeConnector(get_num_new_matched_tokens=(16, True))
    whole = MultiConnector([connector])
    whole.get_num_new_matched_tokens(request(), 0)
    whole.request_finished(request(), [])
    whole.update_state_after_alloc(request(), None, 16)
    assert [tokens for *_, tokens in connector.calls_of("update_state_after_alloc")] == [0]


# -- Groups of blocks ------------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", [(FakeConnector, HybridConnector), (FakeConnector,)], ids=str)
def test_one_group_without_support(kinds: Any) -> None:
    """Without support, every connector gets a request of one group as one without groups."""
    connectors = [kind(request_finished=(True, None)) for kind in kinds]
    whole = MultiConnector(connectors)
    assert whole.request_finished_all_groups(request(), ([1, 2],)) == (True, None)
    for connector in connectors:
        assert [blocks for _, blocks in connector.calls_of("request_finished")] == [[1, 2]]
        assert connector.calls_of("request_finished_all_groups") == []


@pytest.mark.parametrize("groups", [(), ([1], [2]), ([1], [2], [3])], ids=len)
def test_groups_without_support_are_an_error(groups: Any) -> None:
    """Without support, any other number of groups is an error, and the request is forgotten."""
    connectors = [HybridConnector(get_num_new_matched_tokens=(16, True)), FakeConnector()]
    whole = MultiConnector(connectors)
    whole.get_num_new_matched_tokens(request(), 0)
    with pytest.raises(HybridCacheError) as caught:
        whole.request_finished_all_groups(request(), groups)
    assert (caught.value.connectors, caught.value.request_id, caught.value.groups) == (
        *(("FakeConnector",), "r"),
        len(groups),
    )
    assert f"request 'r' has {len(groups)} groups of blocks" in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert whole._chosen == {}
    assert connectors[0].calls_of("request_finished_all_groups") == []


def test_nothing_depends_on_assertions() -> None:
    """All errors are the same with `python -O`."""
    program = """
import sys
from mpmetrics.engines import HybridCacheError, MultiConnector, TransferParamsClashError
from tests.engines.connectors.fakes import FakeConnector, HybridConnector, request

assert not "assertions are on"
mixed = [HybridConnector(), FakeConnector()]
def error(kind, function, *arguments, **named):
    try:
        function(*arguments, **named)
    except kind as raised:
        print(raised)
error(HybridCacheError, MultiConnector, mixed, hybrid_cache=True)
whole = MultiConnector(mixed)
error(HybridCacheError, whole.request_finished_all_groups, request(), ([1], [2]))
print(whole.request_finished_all_groups(request(), ([1],)))
clash = MultiConnector([FakeConnector(request_finished=(True, {"a": 1})) for _ in range(2)])
error(TransferParamsClashError, clash.request_finished, request(), [1])
print(clash.extra_async_saves, whole.supports_hma, MultiConnector([]).supports_hma)
"""
    said = run_python(program, env=environment(None, PYTHONOPTIMIZE="1"))
    assert said.splitlines() == [
        "the hybrid cache (HMA) needs every connector to support it: FakeConnector",
        (
            "request 'r' has 2 groups of blocks, not 1, and not every connector supports the"
            " hybrid cache (HMA): FakeConnector"
        ),
        "(False, None)",
        "Key clash in kv_transfer_params of request 'r': 'a' of FakeConnector, FakeConnector",
        "{} False False",
    ]


# -- The last report -------------------------------------------------------------------------------


def sides(*kinds: Any) -> tuple[MultiConnector, MultiConnector]:
    """Return a scheduler's composite in which all connectors save, and a worker's composite."""
    scheduler = MultiConnector(kind(request_finished=(True, None)) for kind in kinds)
    return scheduler, MultiConnector(kind(bind_connector_metadata=None) for kind in kinds)


def parts(composite: MultiConnector) -> list[Any]:
    """Return the connectors of a composite, with nested composites replaced by their connectors."""
    found = []
    for connector in composite.sub_connectors:
        found.extend(parts(connector) if isinstance(connector, MultiConnector) else [connector])
    return found


def report(worker: MultiConnector, *saved: set[str] | None) -> set[str] | None:
    """Return what the worker reports as saved if its connectors report *saved*."""
    for connector, requests in zip(parts(worker), saved, strict=True):
        connector.get_finished = lambda _, requests=requests: (requests, None)
    return worker.get_finished(set())[0]


def one_by_one(worker: MultiConnector) -> list[set[str] | None]:
    """Return what the worker reports while its connectors save the request r one by one."""
    number = len(parts(worker))
    return [
        report(worker, *({"r"} if place == step else None for place in range(number)))
        for step in range(number)
    ]


def send_metadata(scheduler: MultiConnector, worker: MultiConnector) -> None:
    """Pass the scheduler's metadata to the worker, through pickle."""
    metadata = scheduler.build_connector_meta(None)
    worker.bind_connector_metadata(pickle.loads(pickle.dumps(metadata)))


@pytest.mark.parametrize("savers", [1, 2, 3, 5])
def test_the_last_report_counts(savers: int) -> None:
    """A request is reported as saved with the report of its last saver."""
    scheduler, worker = sides(*[FakeConnector] * savers)
    scheduler.request_finished(request(), [])
    send_metadata(scheduler, worker)
    assert scheduler.extra_async_saves == {}
    assert one_by_one(worker) == [*[None] * (savers - 1), {"r"}]
    assert worker.extra_async_saves == {}


def test_several_reports_in_one_step() -> None:
    """Several reports of a request in one step count one by one."""
    scheduler, worker = sides(FakeConnector, OtherConnector, FakeConnector)
    for name in ("r", "s"):
        scheduler.request_finished(request(name), [])
    send_metadata(scheduler, worker)
    assert report(worker, {"r", "s"}, {"r", "s"}, {"s", "t"}) == {"s", "t"}
    assert worker.extra_async_saves == {}
    assert report(worker, {"r"}, None, None) == {"r"}


def test_saves_are_sent_once() -> None:
    """Only the metadata of the next step have the number of pending saves."""
    scheduler, _worker = sides(FakeConnector, FakeConnector)
    scheduler.request_finished(request(), [])
    assert scheduler.build_connector_meta(None).extra_async_saves == {"r": 1}
    assert scheduler.build_connector_meta(None).extra_async_saves is None


def test_a_nested_composite_is_one_saver() -> None:
    """A nested composite waits for its own savers, and is one saver of the outer composite."""
    within = sides(FakeConnector, FakeConnector)
    beside = (each.sub_connectors[0] for each in sides(FakeConnector))
    scheduler, worker = map(MultiConnector, zip(within, beside, strict=True))
    scheduler.request_finished(request(), [])
    assert (scheduler.extra_async_saves, within[0].extra_async_saves) == ({"r": 1}, {"r": 1})
    send_metadata(scheduler, worker)
    assert one_by_one(worker) == [None, None, {"r"}]


def test_loads_are_passed_on() -> None:
    """A composite reports the loads of all of its connectors."""
    answers: list[Any] = [(None, {"a"}), (None, None), (set(), {"b"})]
    whole = MultiConnector(FakeConnector(get_finished=answer) for answer in answers)
    assert whole.get_finished({"a"}) == (None, {"a", "b"})
    assert whole.sub_connectors[0].calls_of("get_finished") == [({"a"},)]


def test_a_request_that_ends_again() -> None:
    """When a request of the same id ends again, its savers are counted from scratch."""
    first = FakeConnector(request_finished=[(True, None), (False, None)])
    whole = MultiConnector([first, FakeConnector(request_finished=(True, None))])
    whole.request_finished(request(), [])
    assert whole.extra_async_saves == {"r": 1}
    whole.request_finished(request(), [])
    assert whole.extra_async_saves == {}
