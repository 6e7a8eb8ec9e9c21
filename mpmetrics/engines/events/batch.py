"""A batch of events as an engine publishes it, and what decoders make of it.

A batch is an array in msgpack: a timestamp, events and perhaps a rank. Each event is an array that
begins with its tag, or, since 2026, a map with the key `type`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple, final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mpmetrics.engines.events.model import Event

Kind = Literal["stored", "removed", "cleared"]

UNDECODABLE: Final = "undecodable"
"""The reason for leaving out a message whose payload is not a batch of events."""

FILTERED: Final = "filtered"
ISSUE: Final = "issue"

CONVERSION: Final = "conversion_none"
EMPTY_STORE: Final = "empty_store_blocks"

RANKS: Final = 1 << 16
"""Ranks are below this: each one has a port. So garbage cannot add series without end."""

LARGEST_BLOCK: Final = 1 << 20
"""The most tokens of a block: engines have a few thousand, and garbage must not count as hits."""

TAGS: Final[Mapping[str, Kind]] = {
    "BlockStored": "stored",
    "BlockRemoved": "removed",
    "AllBlocksCleared": "cleared",
}
"""The kinds of events, by the tags that engines send."""

FIELDS: Final[Mapping[Kind, Sequence[str]]] = {
    "stored": (
        "block_hashes",
        "parent_block_hash",
        "token_ids",
        "block_size",
        "lora_id",
        "medium",
        "lora_name",
        "extra_keys",
        "group_idx",
        "kv_cache_spec_kind",
        "kv_cache_spec_sliding_window",
        "locality",
        "ownership",
    ),
    "removed": ("block_hashes", "medium", "group_idx", "locality", "ownership"),
    "cleared": ("ownership",),
}
"""The fields of an event that is an array, in their order behind the tag."""

_SALT: Final = "dynamo-cache-salt:"


@final
class RefusedEvent(NamedTuple):
    """An event that is left out: its kind, `FILTERED` (on purpose) or `ISSUE`, and the reason."""

    kind: str
    how: str
    reason: str


class Batch(NamedTuple):
    """What *rank* sent at the time *timestamp*: the usable *events*, and the *refused* ones."""

    timestamp: float
    rank: int
    events: Sequence[Event]
    refused: Sequence[RefusedEvent]


def is_salted(extra_keys: object) -> bool:
    """Return whether the keys of blocks have that of a salted request among them, at any depth."""
    waiting = [extra_keys]
    while waiting:
        item = waiting.pop()
        if type(item) is list:
            waiting += item
        elif type(item) is str and item.startswith(_SALT):
            return True
    return False
