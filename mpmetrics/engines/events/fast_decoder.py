"""The decoder for usual batches: it decodes by type, and builds nothing that is not used.

It refuses a batch as a whole if anything in it is unusual: events of an unknown tag, hashes that
are signed or bytes, blocks that are elsewhere or of another owner. `AnyDecoder` takes such a batch.
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from types import GenericAlias
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Protocol

from mpmetrics.engines.events.batch import (
    EMPTY_STORE,
    FIELDS,
    FILTERED,
    ISSUE,
    LARGEST_BLOCK,
    RANKS,
    TAGS,
    Batch,
    RefusedEvent,
    is_salted,
)
from mpmetrics.engines.events.filtering import MEDIUMS
from mpmetrics.engines.events.model import Cleared, Removed, Stored
from mpmetrics.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mpmetrics.engines.events.batch import Kind
    from mpmetrics.engines.events.filtering import AttentionFilter
    from mpmetrics.engines.events.model import Event

_COMMON: Final = ("medium", "group_idx", "kv_cache_spec_kind", "locality", "ownership")
"""Attributes of every event, whether or not they are sent."""

_NO_GROUP: Final = (None, None)


class _TypedEvent(Protocol):
    """An event as msgspec decodes it. The attributes of a store are those of stores only."""

    medium: str | None
    group_idx: int | None
    kv_cache_spec_kind: str | None
    block_hashes: Sequence[int]
    parent_block_hash: int | None
    token_ids: Sequence[int] | None
    block_size: int
    lora_name: str | None
    extra_keys: object


class _TypedBatch(Protocol):
    timestamp: float
    events: Sequence[_TypedEvent]
    rank: int | None


class FastDecoder:
    """A decoder of usual batches; it tries first the form, map or array, that came last."""

    def __init__(self, attention: AttentionFilter) -> None:
        """Accept the events that *attention* accepts. Raises `MissingExtraError`."""
        try:
            from msgspec import MsgspecError  # only events need it
        except ImportError as error:
            raise MissingExtraError(package="msgspec", extra="zmq") from error
        # MsgspecError is a ValueError in new versions only. Text that is not UTF-8, maps as keys of
        # maps, and arrays in arrays without end raise the others.
        self._unreadable = (MsgspecError, ValueError, TypeError, RecursionError)
        self._attention = attention
        self._kinds: dict[type, Kind] = {}
        self._decoders = (
            _make_decoder(self._kinds, is_array=False),
            _make_decoder(self._kinds, is_array=True),
        )

    def decode(self, payload: bytes, rank: int) -> Batch | None:
        """Return the batch in *payload*, None if it is unusual; *rank* as in `AnyDecoder`."""
        usual, other = self._decoders
        try:
            batch = usual(payload)
        except self._unreadable:
            try:
                batch = other(payload)
            except self._unreadable:
                return None
            self._decoders = other, usual
        if batch.rank is not None:
            rank = batch.rank
        convert = self._convert
        refused: list[RefusedEvent] = []
        events = [
            event for each in batch.events if (event := convert(each, rank, refused)) is not None
        ]
        return Batch(batch.timestamp, rank, events, refused)

    def _convert(self, event: _TypedEvent, rank: int, refused: list[RefusedEvent]) -> Event | None:
        """Return *event* in our form, or None and add it to the *refused* ones."""
        kind = self._kinds[type(event)]
        medium = MEDIUMS[event.medium or ""]
        group = event.group_idx, event.kv_cache_spec_kind
        if group != _NO_GROUP and (
            reason := self._attention.group_rejection(
                rank, medium, group, is_store=kind == "stored"
            )
        ):
            refused.append(RefusedEvent(kind, FILTERED, reason))
            return None
        match kind:
            case "stored":
                if not event.block_hashes:
                    refused.append(RefusedEvent(kind, ISSUE, EMPTY_STORE))
                    return None
                extra_keys = event.extra_keys
                return Stored(
                    rank,
                    medium,
                    event.block_hashes,
                    event.parent_block_hash,
                    () if event.token_ids is None else event.token_ids,
                    event.block_size,
                    event.lora_name or None,
                    extra_keys is not None and is_salted(extra_keys),
                )
            case "removed":
                return Removed(rank, medium, event.block_hashes)
            case "cleared":
                return Cleared(rank)


def _make_decoder(kinds: dict[type, Kind], *, is_array: bool) -> Callable[[bytes], _TypedBatch]:
    """Return a decoder of batches whose events are maps or arrays; add their types to *kinds*."""
    from msgspec import Meta, defstruct, msgpack

    types = {_define_event(tag, is_array=is_array): kind for tag, kind in TAGS.items()}
    kinds.update(types)
    fields: list[Any] = [
        ("timestamp", float),
        ("events", GenericAlias(list, (reduce(or_, types),))),
        ("rank", Annotated[int, Meta(ge=0, lt=RANKS)] | None, None),
    ]
    decode: Callable[[bytes], Any] = msgpack.Decoder(
        defstruct("Batch", fields, array_like=True)
    ).decode
    return decode


def _define_event(tag: str, *, is_array: bool) -> Any:
    """Return a type for the events with this *tag*, which are maps or arrays."""
    from msgspec import defstruct

    own = FIELDS[TAGS[tag]]
    names = own if is_array else [*dict.fromkeys((*own, *_COMMON))]
    types = _field_types()
    defaults: Mapping[str, tuple[object, ...]] = {"block_hashes": (), "block_size": (0,)}
    fields: list[Any] = [
        (name, types.get(name, Any), *defaults.get(name, (None,))) for name in names
    ]
    return defstruct(
        tag,
        fields,
        tag=tag,
        array_like=is_array,
        namespace=dict.fromkeys({*_COMMON}.difference(names)),
        gc=False,  # an event cannot contain itself
    )


def _field_types() -> Mapping[str, Any]:
    """Return the types of usual fields by name; a field that is not used has any type."""
    from msgspec import Meta

    natural = Annotated[int, Meta(ge=0)]
    return {
        "block_hashes": list[natural],
        "parent_block_hash": natural | None,
        "token_ids": list[int] | None,
        "block_size": Annotated[int, Meta(ge=0, le=LARGEST_BLOCK)],
        "medium": Literal[tuple(MEDIUMS)] | None,
        "lora_name": str | None,
        "group_idx": int | None,
        "kv_cache_spec_kind": str | None,
        "locality": Literal["LOCAL"] | None,
        "ownership": Literal["FRAMEWORK"] | None,
    }
