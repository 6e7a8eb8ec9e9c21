"""The batches that engines send today, decoded by their types: nothing is made but what is used.

What is of any other form is refused as a whole, and is to be decoded in another way: events that
are arrays or of an unknown tag, hashes that are signed or bytes, blocks that are elsewhere or
somebody else's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from mpmetrics.engines.events.gate import MEDIUMS
from mpmetrics.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable


class Typed(NamedTuple):
    """How to *decode* a payload, and the types of its events. *decode* raises `ValueError`."""

    decode: Callable[[bytes], Any]
    stored: type
    removed: type
    cleared: type


def typed(ranks: int) -> Typed:
    """Return how to decode batches of so many *ranks*. Raises `MissingExtraError`."""
    try:
        from msgspec import Meta, defstruct, msgpack  # noqa: PLC0415 - only who has events needs it
    except ImportError as error:
        raise MissingExtraError(package="msgspec", extra="zmq") from error
    natural = Annotated[int, Meta(ge=0)]
    everywhere = [
        ("medium", Literal[tuple(MEDIUMS)] | None, None),
        ("group_idx", int | None, None),
        ("kv_cache_spec_kind", str | None, None),
        ("locality", Literal["LOCAL"] | None, None),
        ("ownership", Literal["FRAMEWORK"] | None, None),
    ]
    stored = defstruct(
        "BlockStored",
        [
            ("block_hashes", Annotated[list[natural], Meta(min_length=1)]),
            ("parent_block_hash", natural | None, None),
            ("token_ids", list[int] | None, None),
            ("block_size", natural, 0),
            ("lora_name", str | None, None),
            ("extra_keys", Any, None),
            *everywhere,
        ],
        tag="BlockStored",
        gc=False,
    )
    removed = defstruct(
        "BlockRemoved", [("block_hashes", list[natural]), *everywhere], tag="BlockRemoved", gc=False
    )
    cleared = defstruct("AllBlocksCleared", everywhere, tag="AllBlocksCleared", gc=False)
    batch = defstruct(
        "Batch",
        [
            ("timestamp", float),
            ("events", list[stored | removed | cleared]),  # type: ignore[valid-type] # they are values
            ("rank", Annotated[int, Meta(ge=0, lt=ranks)] | None, None),
        ],
        array_like=True,
    )
    return Typed(msgpack.Decoder(batch).decode, stored, removed, cleared)
