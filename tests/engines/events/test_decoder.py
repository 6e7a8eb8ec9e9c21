"""Batches of events are decoded in every form that engines send, and garbage costs only itself."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpmetrics.engines.events.any_decoder import AnyDecoder
from mpmetrics.engines.events.batch import Batch, RefusedEvent
from mpmetrics.engines.events.decoder import Decoder
from mpmetrics.engines.events.fast_decoder import FastDecoder
from mpmetrics.engines.events.filtering import AttentionFilter
from mpmetrics.engines.events.model import Cleared, Removed, Stored
from tests.engines.events.messages import CLEARED, batch, pack, removed, stored

HIGH = 0xFFFF_FFFF_FFFF_FFFB


def decode_events(*events: Any, rank: int | None = None) -> Batch:
    """Return what a new decoder makes of a batch of *events*."""
    found = Decoder().decode(batch(*events, rank=rank), 7)
    assert found is not None
    return found


def decode_one(event: Any) -> Any:
    """Return what a new decoder makes of *event*, usable or refused."""
    found = decode_events(event)
    results: list[Any] = [*found.events, *found.refused]
    assert len(results) == 1
    return results[0]


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(
            ["BlockStored", [-5, 11], 3, [1, 2, 3, 4], 2, None, "GPU", "a"], id="array of long ago"
        ),
        pytest.param(["BlockStored", [-5, 11], 3, [1, 2, 3, 4], 2, 9, None, "a", None], id="keys"),
        pytest.param(
            [
                *("BlockStored", [-5, 11], 3, [1, 2, 3, 4], 2, 9, "", "a", None),
                *(0, "full_attention", None, "LOCAL", "FRAMEWORK", "session", [1], "more"),
            ],
            id="array with everything",
        ),
        pytest.param(
            ["BlockStored", [-5, 11], 3, [1, 2, 3, 4], 2, 9, "gpu", "a", None, [None, None], 0],
            id="multi-modal objects",
        ),
        pytest.param(
            [
                "BlockStored",
                [-5, 11],
                3,
                [1, 2, 3, 4],
                2,
                9,
                "GPU",
                "a",
                None,
                None,
                0,
                "mla_attention",
            ],
            id="no multi-modal objects",
        ),
        pytest.param(
            {
                "type": "BlockStored",
                "block_hashes": [HIGH, 11],
                "parent_block_hash": 3,
                "token_ids": [1, 2, 3, 4],
                "block_size": 2,
                "lora_name": "a",
                "unheard": [{}],
            },
            id="map without defaults",
        ),
        pytest.param(
            stored(
                b"more than eight" + HIGH.to_bytes(8, "big"),
                b"\x0b",
                parent=b"\x00" * 31 + b"\x03",
                tokens=[1, 2, 3, 4],
                lora_name="a",
            ),
            id="map with bytes",
        ),
    ],
)
def test_a_store_in_every_form(event: Any) -> None:
    """A store is decoded to the same event from every form that engines send."""
    assert decode_one(event) == Stored(7, "device", [HIGH, 11], 3, [1, 2, 3, 4], 2, "a")


@pytest.mark.parametrize(
    ("event", "result"),
    [
        (["BlockRemoved", [-1]], Removed(7, "device", [(1 << 64) - 1])),
        (["BlockRemoved", [1], "CPU", None, "LOCAL", None, "x"], Removed(7, "host", [1])),
        ({"type": "BlockRemoved", "block_hashes": [b"\x02"]}, Removed(7, "device", [2])),
        (["AllBlocksCleared"], Cleared(7)),
        (["AllBlocksCleared", "FRAMEWORK"], Cleared(7)),
        (CLEARED, Cleared(7)),
    ],
    ids=repr,
)
def test_removals_and_clears(event: Any, result: object) -> None:
    """Removals and clears are decoded from arrays and from maps."""
    assert decode_one(event) == result


@pytest.mark.parametrize(
    ("medium", "called"),
    [
        *((name, "device") for name in (None, "", "GPU", "device")),
        *((name, "host") for name in ("CPU", "CPU_PINNED", "cpu_tier1")),
        *((name, "disk") for name in ("CPU_TIER2", "DISK", "NVME", "STORAGE")),
        *((name, "external") for name in ("EXTERNAL", "NETWORK", "REMOTE", "SHARED")),
    ],
)
def test_mediums_have_one_name(medium: str | None, called: str) -> None:
    """A medium has one name, whatever engines call it."""
    assert decode_one(stored(1, medium=medium)).medium == called
    assert decode_one(removed(1, medium=medium)).medium == called


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (["BlockMoved", [1]], RefusedEvent("ignored", "filtered", "ignored_event")),
        ({"type": "BlockMoved"}, RefusedEvent("ignored", "filtered", "ignored_event")),
        ({"type": ["BlockStored"]}, RefusedEvent("ignored", "filtered", "ignored_event")),
        ({}, RefusedEvent("ignored", "filtered", "ignored_event")),
        ([], RefusedEvent("ignored", "filtered", "ignored_event")),
        ([[]], RefusedEvent("ignored", "filtered", "ignored_event")),
        (None, RefusedEvent("ignored", "filtered", "ignored_event")),
        (stored(1, medium="FS"), RefusedEvent("stored", "filtered", "unknown_medium")),
        (removed(1, medium=5), RefusedEvent("removed", "filtered", "unknown_medium")),
        (stored(1, locality="REMOTE"), RefusedEvent("stored", "filtered", "non_local_locality")),
        (stored(1, locality=[]), RefusedEvent("stored", "filtered", "non_local_locality")),
        (stored(1, ownership="KVCR"), RefusedEvent("stored", "filtered", "unsupported_ownership")),
        (["AllBlocksCleared", "me"], RefusedEvent("cleared", "filtered", "unknown_ownership")),
        (["AllBlocksCleared", {}], RefusedEvent("cleared", "filtered", "unknown_ownership")),
        (
            stored(1, kv_cache_spec_kind="mamba"),
            RefusedEvent("stored", "filtered", "non_main_attention_kind"),
        ),
        (stored(1, kv_cache_spec_kind="new"), RefusedEvent("stored", "filtered", "unknown_kind")),
        (stored(1, kv_cache_spec_kind=[]), RefusedEvent("stored", "filtered", "unknown_kind")),
        (removed(1, group_idx=3), RefusedEvent("removed", "filtered", "unlearned_group_idx")),
        (stored(), RefusedEvent("stored", "issue", "empty_store_blocks")),
        (["BlockStored"], RefusedEvent("stored", "issue", "conversion_none")),
        (["BlockRemoved", 5], RefusedEvent("removed", "issue", "conversion_none")),
        (removed(1.5), RefusedEvent("removed", "issue", "conversion_none")),
        (["BlockRemoved", [True]], RefusedEvent("removed", "issue", "conversion_none")),
        (removed(b""), RefusedEvent("removed", "issue", "conversion_none")),
        (stored(1, parent="x"), RefusedEvent("stored", "issue", "conversion_none")),
        (stored(1, tokens=["x"]), RefusedEvent("stored", "issue", "conversion_none")),
        (stored(1, tokens=[[1, 2], 3]), RefusedEvent("stored", "issue", "conversion_none")),
        (stored(1, tokens=5), RefusedEvent("stored", "issue", "conversion_none")),
        (stored(1, block_size=-1), RefusedEvent("stored", "issue", "conversion_none")),
        (stored(1, block_size=1 << 62), RefusedEvent("stored", "issue", "conversion_none")),
        (stored(1, block_size=2.5), RefusedEvent("stored", "issue", "conversion_none")),
        (stored(1, lora_name=5), RefusedEvent("stored", "issue", "conversion_none")),
    ],
    ids=repr,
)
def test_an_event_of_no_use_costs_only_itself(event: Any, reason: RefusedEvent) -> None:
    """An event that cannot be used is refused, and the events around it are decoded."""
    found = decode_events(removed(1), event, removed(2))
    assert found.events == [Removed(7, "device", [1]), Removed(7, "device", [2])]
    assert found.refused == [reason]


def test_groups_are_learnt() -> None:
    """The kind of a group is learnt for each rank, and rejects later events; disk has no group."""
    decoder = Decoder()
    first = [
        stored(1, group_idx=0, kv_cache_spec_kind="sliding_window"),
        stored(2, group_idx=1, kv_cache_spec_kind="full_attention"),
        stored(3, group_idx=2, kv_cache_spec_kind="strange"),
    ]
    later = [
        *(stored(4, group_idx=group) for group in range(4)),
        stored(5, group_idx=0, medium="DISK"),
    ]
    assert (found := decoder.decode(batch(*first, rank=0)))
    assert [event.hashes for event in found.events if isinstance(event, Stored)] == [[2]]
    assert (found := decoder.decode(batch(*later, rank=0)))
    assert [refused.reason for refused in found.refused] == [
        "non_main_attention_group",
        "unknown_kind",
        "unlearned_group_idx",
    ]
    assert len(found.events) == 2
    assert (found := decoder.decode(batch(*later, rank=1)))
    assert {refused.reason for refused in found.refused} == {"unlearned_group_idx"}


def test_the_rank_of_a_batch() -> None:
    """A batch is of the rank that it names, else of the rank of its publisher."""
    assert decode_events(CLEARED, rank=3).events == [Cleared(3)]
    assert decode_events(CLEARED).events == [Cleared(7)]
    payload = pack([1.0, [CLEARED], None])
    assert Decoder().decode(payload, 7) == Batch(1.0, 7, [Cleared(7)], [])


def test_eagle_and_salt() -> None:
    """Pairs of tokens stay pairs, and a block of a salted request is recognized."""
    pairs = [[1, 2], [2, 3]]
    assert decode_one(stored(1, tokens=pairs)).tokens == pairs
    keys = [["image", 5], [["dynamo-cache-salt:mine"]]]
    assert decode_one(stored(1, extra_keys=keys)).salted
    assert not decode_one(stored(1, extra_keys=[None, ["other"]])).salted


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        pack(None),
        pack([]),
        pack([1.0]),
        pack([1.0, None]),
        pack(["now", []]),
        pack([1.0, [], "0"]),
        pack([1.0, [], -1]),
        pack([1.0, [], 1 << 16]),
        pack([1.0, [], True]),
        pack({"ts": 1.0, "events": []}),
        b"\x92\xcb" + b"\0" * 8 + b"\xdd\xff\xff\xff\xff",
        b"\x92\xcb" + b"\0" * 8 + b"\x91\xa2\xff\xff",
        b"\x91" * 100_000,
        b"\x81\x80\x90",
        pack([1.0, []]) + b"\0",
    ],
    ids=lambda payload: repr(payload[:16]),
)
def test_a_payload_that_is_not_a_batch(payload: bytes) -> None:
    """A payload that is not a batch is decoded to None, without an exception."""
    assert Decoder().decode(payload) is None


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=10)
    | st.sampled_from(["BlockStored", "BlockRemoved", "GPU", "full_attention", "LOCAL"]),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)
FIELDS = [
    *("block_hashes", "parent_block_hash", "token_ids", "block_size", "medium", "lora_name"),
    *("extra_keys", "group_idx", "kv_cache_spec_kind", "locality", "ownership"),
]
TAGS = st.sampled_from(["BlockStored", "BlockRemoved", "AllBlocksCleared", "Other"])
arrays = st.builds(lambda tag, rest: [tag, *rest], TAGS, st.lists(anything, max_size=16))
maps = st.builds(
    lambda tag, rest: {"type": tag, **rest},
    TAGS,
    st.dictionaries(st.sampled_from(FIELDS), anything),
)


@given(st.lists(arrays | maps | anything, max_size=4), anything)
def test_garbage_in_the_shape_of_events(events: list[Any], rank: Any) -> None:
    """Each event of a batch is used or refused, whatever its fields are."""
    found = Decoder().decode(msgspec.msgpack.encode([1.0, events, rank]), 0)
    is_rank = rank is None or (type(rank) is int and 0 <= rank < 1 << 16)
    assert (found is not None) == is_rank
    assert found is None or len(found.events) + len(found.refused) == len(events)


@given(st.binary(max_size=200))
def test_garbage_bytes(payload: bytes) -> None:
    """No bytes make the decoder raise."""
    Decoder().decode(payload)


@given(st.data())
def test_damaged_batches(data: st.DataObject) -> None:
    """A batch with changed bytes, or cut off, does not make the decoder raise."""
    payload = bytearray(batch(stored(1, 2, parent=3), ["BlockRemoved", [b"x"]], CLEARED, rank=1))
    for place in data.draw(st.lists(st.integers(0, len(payload) - 1), max_size=4)):
        payload[place] = data.draw(st.integers(0, 255))
    Decoder().decode(bytes(payload[: data.draw(st.integers(0, len(payload)))]))


# -- two ways to decode ----------------------------------------------------------------------------

hash_of_a_block = st.integers(0, (1 << 64) - 1)
REGULAR = {
    "medium": st.sampled_from([None, "GPU", "CPU", "STORAGE", ""]),
    "group_idx": st.none() | st.integers(0, 2),
    "kv_cache_spec_kind": st.sampled_from([None, "full_attention", "mamba", "new"]),
    "locality": st.sampled_from([None, "LOCAL"]),
    "ownership": st.sampled_from([None, "FRAMEWORK"]),
}
STORE = {
    "type": st.just("BlockStored"),
    "block_hashes": st.lists(hash_of_a_block, min_size=1, max_size=3),
    "parent_block_hash": st.none() | hash_of_a_block,
    "token_ids": st.lists(st.integers(0, 1 << 40), max_size=4) | st.none(),
    "block_size": st.integers(0, 20),
    "lora_name": st.sampled_from([None, "", "a"]),
    "extra_keys": st.sampled_from([None, [None], [["dynamo-cache-salt:x"]], 5]),
    "session_id": st.none() | st.text(),
    **REGULAR,
}
REMOVAL = {
    "type": st.just("BlockRemoved"),
    "block_hashes": st.lists(hash_of_a_block, max_size=3),
    **REGULAR,
}
CLEAR = {"type": st.just("AllBlocksCleared"), "ownership": REGULAR["ownership"]}


def some_of(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Return maps with the tag, the hashes, and any of the other *fields*."""
    needed = {name: fields[name] for name in ("type", "block_hashes") if name in fields}
    others = {name: each for name, each in fields.items() if name not in needed}
    return st.fixed_dictionaries(needed, optional=others)


def first_of(*fields: st.SearchStrategy[Any], least: int = 2) -> st.SearchStrategy[list[Any]]:
    """Return arrays of the first *fields*, at least *least* of them."""
    return st.builds(
        lambda all_of, count: list(all_of[:count]), st.tuples(*fields), st.integers(least, 15)
    )


regular = some_of(STORE) | some_of(REMOVAL) | some_of(CLEAR)
regular_arrays = (
    first_of(
        *[STORE[name] for name in ("type", "block_hashes", "parent_block_hash", "token_ids")],
        *(STORE["block_size"], anything, STORE["medium"], STORE["lora_name"]),
        *(STORE["extra_keys"], STORE["group_idx"], STORE["kv_cache_spec_kind"]),
        *(anything, STORE["locality"], STORE["ownership"], anything),
    )
    | first_of(
        *(REMOVAL["type"], REMOVAL["block_hashes"], REMOVAL["medium"], REMOVAL["group_idx"]),
        *(REMOVAL["locality"], REMOVAL["ownership"], anything),
    )
    | first_of(CLEAR["type"], CLEAR["ownership"], anything, least=1)
)
times = st.floats(allow_nan=False) | st.integers(0, 1 << 40)
ranks = st.none() | st.integers(-1, 1 << 17)


events_of_a_batch = st.lists(regular, max_size=3) | st.lists(regular_arrays, max_size=3)


@given(st.lists(st.tuples(times, events_of_a_batch, ranks), max_size=4))
def test_regular_batches_are_decoded_alike(batches: list[tuple[Any, ...]]) -> None:
    """Both decoders make the same of regular batches, and learn the same groups."""
    quick, slow = Decoder(), AnyDecoder()
    for each in batches:
        payload = pack(each)
        assert quick.decode(payload, 3) == slow.decode(payload, 3)


@given(st.lists(st.lists(regular | regular_arrays | maps | arrays, max_size=3), max_size=4))
def test_irregular_events_make_no_difference(batches: list[list[Any]]) -> None:
    """A batch with irregular events means the same as with the decoder for any form."""
    quick, slow = Decoder(), AnyDecoder()
    for events in batches:
        payload = pack([1.0, events])
        assert quick.decode(payload) == slow.decode(payload)


@pytest.mark.parametrize(
    "event",
    [
        stored(1, 2, parent=3, group_idx=0, kv_cache_spec_kind="full_attention", session_id="x"),
        removed(1, 2, group_idx=0, locality="LOCAL"),
        CLEARED,
        ["BlockStored", [1, 2], 3, [1, 2, 3, 4], 2, 7, "GPU", None, [["k"]], 0, "mla_attention"],
        ["BlockRemoved", [1, 2], "CPU"],
        ["AllBlocksCleared"],
    ],
    ids=repr,
)
def test_the_fast_decoder_takes_what_engines_send(event: Any) -> None:
    """The fast decoder takes every event of today's engines, as maps and arrays in turn."""
    decoder = FastDecoder(AttentionFilter())
    for payload in (batch(event, event), batch(CLEARED), batch(["AllBlocksCleared"]), batch(event)):
        found = decoder.decode(payload, 0)
        assert found is not None
        assert not found.refused


def test_garbage_does_not_make_groups_without_end() -> None:
    """The number of groups is limited, and groups that are known stay known."""
    attention = AttentionFilter()
    decoder = FastDecoder(attention)
    for group in range(10_000):
        event = stored(1, group_idx=group, kv_cache_spec_kind="mamba")
        decoder.decode(batch(event, event), 0)
    assert len(attention._groups) == 4096
    (refused,) = (decoder.decode(batch(stored(1, group_idx=5)), 0) or Batch(0, 0, [], [])).refused
    assert refused.reason == "non_main_attention_group"
