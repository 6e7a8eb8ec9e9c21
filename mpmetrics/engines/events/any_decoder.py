"""The decoder for batches of any form: it decodes one event at a time.

Nothing that a publisher sends raises. An event that cannot be used is refused, with a reason, and
costs no other event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mpmetrics.engines.events.batch import (
    CONVERSION,
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
from mpmetrics.engines.events.filtering import IGNORED, AttentionFilter, normalize_medium
from mpmetrics.engines.events.model import HASHES, Cleared, Event, Removed, Stored
from mpmetrics.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mpmetrics.engines.events.batch import Kind

    Fields = Mapping[Any, Any]

_OBJECTS_INDEX: Final = 1 + FIELDS["stored"].index("group_idx")
"""Where some older engines have one more item: the multi-modal objects of the blocks."""

_INTEGERS: Final = {int}
_PAIR: Final = [int, int]


class _MalformedError(Exception):
    """A field of an event with a wrong type or value."""


class _EmptyError(Exception):
    """A store without a block."""


class AnyDecoder:
    """A decoder of batches of any form, which remembers the groups of layers of earlier ones."""

    def __init__(self, attention: AttentionFilter | None = None) -> None:
        """Accept the events that *attention* accepts. Raises `MissingExtraError`."""
        try:
            import msgspec  # only events need it
        except ImportError as error:
            raise MissingExtraError(package="msgspec", extra="zmq") from error
        self._unpack: Callable[[bytes], Any] = msgspec.msgpack.Decoder().decode
        # See `FastDecoder`.
        self._unreadable = (msgspec.MsgspecError, ValueError, TypeError, RecursionError)
        self._attention = attention or AttentionFilter()

    def decode(self, payload: bytes, rank: int = 0) -> Batch | None:
        """Return the batch in *payload*, or None; it is of *rank* unless it names another one."""
        try:
            batch = self._unpack(payload)
        except self._unreadable:
            return None
        match batch:
            case [timestamp, list(raw), *rest] if type(timestamp) in {float, int}:
                given = rest[0] if rest else None
            case _:
                return None
        if given is not None:
            if type(given) is not int or not 0 <= given < RANKS:
                return None
            rank = given
        results = [self._decode(each, rank) for each in raw]
        events = [each for each in results if type(each) is not RefusedEvent]
        refused = [each for each in results if type(each) is RefusedEvent]
        return Batch(float(timestamp), rank, events, refused)

    def _decode(self, raw: Any, rank: int) -> Event | RefusedEvent:
        """Return one event, or the reason for leaving it out."""
        kind, fields = _read_fields(raw)
        if kind is None:
            return RefusedEvent("ignored", FILTERED, IGNORED)
        if reason := self._attention.rejection_reason(rank, fields, is_store=kind == "stored"):
            return RefusedEvent(kind, FILTERED, reason)
        try:
            return _decode_fields(kind, rank, fields)
        except (_MalformedError, KeyError):
            return RefusedEvent(kind, ISSUE, CONVERSION)
        except _EmptyError:
            return RefusedEvent(kind, ISSUE, EMPTY_STORE)


def _read_fields(raw: Any) -> tuple[Kind | None, Fields]:
    """Return the kind of an event and its fields by name; the kind is None if it is unknown."""
    if type(raw) is dict:
        tag = raw.get("type")
        return (TAGS.get(tag) if type(tag) is str else None), raw
    if type(raw) is not list or not raw or type(raw[0]) is not str:
        return None, {}
    kind = TAGS.get(raw[0])
    if kind is None:
        return None, {}
    if kind == "stored" and len(raw) > _OBJECTS_INDEX:
        raw = _remove_objects(raw)
    return kind, dict(zip(FIELDS[kind], raw[1:], strict=False))


def _remove_objects(raw: list[Any]) -> list[Any]:
    """Return an array without the item that only older engines have."""
    place = _OBJECTS_INDEX
    item, after = raw[place], raw[place + 1 : place + 2]
    # A group is a number, followed by the name of its kind.
    is_older = type(item) is list or (item is None and after and type(after[0]) is int)
    return raw[:place] + raw[place + 1 :] if is_older else raw


def _decode_fields(kind: Kind, rank: int, fields: Fields) -> Event:
    match kind:
        case "stored":
            return _decode_stored(rank, fields)
        case "removed":
            return _decode_removed(rank, fields)
        case "cleared":
            return Cleared(rank)


def _decode_stored(rank: int, fields: Fields) -> Stored:
    hashes = _decode_hashes(fields["block_hashes"])
    if not hashes:
        raise _EmptyError
    parent = fields.get("parent_block_hash")
    lora = fields.get("lora_name")
    tokens = fields.get("token_ids")
    size = fields.get("block_size", 0)
    if type(size) is not int or not 0 <= size <= LARGEST_BLOCK:
        raise _MalformedError
    if lora is not None and type(lora) is not str:
        raise _MalformedError
    extra_keys = fields.get("extra_keys")
    return Stored(
        rank,
        normalize_medium(fields.get("medium")) or "",
        hashes,
        None if parent is None else _decode_hash(parent),
        () if tokens is None else _check_tokens(tokens),
        size,
        lora or None,
        extra_keys is not None and is_salted(extra_keys),
    )


def _decode_removed(rank: int, fields: Fields) -> Removed:
    medium = normalize_medium(fields.get("medium")) or ""
    return Removed(rank, medium, _decode_hashes(fields["block_hashes"]))


def _decode_hashes(raw: Any) -> list[int]:
    """Return hashes as unsigned numbers, also of signed ones, and of the last 8 of some bytes."""
    if type(raw) is not list:
        raise _MalformedError
    if {*map(type, raw)} <= _INTEGERS:
        return [number & HASHES for number in raw]
    return [_decode_hash(each) for each in raw]


def _decode_hash(raw: object) -> int:
    if type(raw) is int:
        return raw & HASHES
    if type(raw) is bytes and raw:
        return int.from_bytes(raw[-8:], "big")
    raise _MalformedError


def _check_tokens(tokens: Any) -> Sequence[int | Sequence[int]]:
    """Return *tokens* if they are numbers, or pairs of numbers."""
    if type(tokens) is not list:
        raise _MalformedError
    if not {*map(type, tokens)} <= _INTEGERS and not all(map(_is_pair, tokens)):
        raise _MalformedError
    return tokens


def _is_pair(raw: object) -> bool:
    return type(raw) is list and [*map(type, raw)] == _PAIR
