"""Batches decoded by their types: nothing is made of what is not used.

A batch that has anything unusual is refused as a whole, and is to be decoded in another way: events
of an unknown tag, hashes that are signed or bytes, blocks that are elsewhere or somebody else's.
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple

from mpmetrics.engines.events.filtering import MEDIUMS
from mpmetrics.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_EVERYWHERE: Final = ("medium", "group_idx", "kv_cache_spec_kind", "locality", "ownership")
"""What the type of each event has, whatever of it is sent."""


class Typed(NamedTuple):
    """How to decode batches of *maps* and of *arrays*, and the *tags* of the types of events.

    What they raise is `MsgspecError`, which is a `ValueError` of late only, and more for garbage.
    """

    maps: Callable[[bytes], Any]
    arrays: Callable[[bytes], Any]
    tags: Mapping[type, str]


def typed(orders: Mapping[str, Sequence[str]], ranks: int) -> Typed:
    """Return how to decode batches of so many *ranks*.

    *orders* has the fields of each tag, in the order in which they are in arrays. Raises
    `MissingExtraError`.
    """
    try:
        from msgspec import Meta, defstruct, msgpack  # only who has events needs it
    except ImportError as error:
        raise MissingExtraError(package="msgspec", extra="zmq") from error
    natural = Annotated[int, Meta(ge=0)]
    types: Mapping[str, Any] = {
        "block_hashes": list[natural],
        "parent_block_hash": natural | None,
        "token_ids": list[int] | None,
        "block_size": natural,
        "medium": Literal[tuple(MEDIUMS)] | None,
        "lora_name": str | None,
        "group_idx": int | None,
        "kv_cache_spec_kind": str | None,
        "locality": Literal["LOCAL"] | None,
        "ownership": Literal["FRAMEWORK"] | None,
    }
    needed, defaults = {"block_hashes"}, {"block_size": 0}
    tags: dict[type, str] = {}

    def event(tag: str, names: Sequence[str], *, is_array: bool) -> Any:
        fields: list[Any] = [
            (name, types.get(name, Any), *([] if name in needed else [defaults.get(name)]))
            for name in names
        ]
        made = defstruct(
            tag,
            fields,
            tag=tag,
            array_like=is_array,
            namespace=dict.fromkeys({*_EVERYWHERE}.difference(names)),
            gc=False,  # an event cannot have itself in it
        )
        tags[made] = tag
        return made

    def decoder(events: Sequence[Any]) -> Callable[[bytes], Any]:
        fields: list[Any] = [
            ("timestamp", float),
            ("events", list[reduce(or_, events)]),  # type: ignore[misc] # not known before
            ("rank", Annotated[int, Meta(ge=0, lt=ranks)] | None, None),
        ]
        return msgpack.Decoder(defstruct("Batch", fields, array_like=True)).decode

    maps = [
        event(tag, [*dict.fromkeys((*names, *_EVERYWHERE))], is_array=False)
        for tag, names in orders.items()
    ]
    arrays = [event(tag, names, is_array=True) for tag, names in orders.items()]
    return Typed(decoder(maps), decoder(arrays), tags)
