"""The batches of events that an engine publishes, decoded.

A batch is an array of a timestamp, events and perhaps a rank, in msgpack. Each event is an array
that begins with its tag, or, since 2026, a map with the key `type`. Nothing that a publisher
sends raises: an event that cannot be used is refused, with a reason, and costs no other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mpmetrics.engines.events.fast_decoder import typed
from mpmetrics.engines.events.filtering import IGNORED, MEDIUMS, Gate, medium_of
from mpmetrics.engines.events.model import HASHES, Cleared, Event, Removed, Stored
from mpmetrics.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Fields = Mapping[Any, Any]

UNDECODABLE: Final = "undecodable"
"""Why a message is left out: its payload is no batch of events."""

FILTERED: Final = "filtered"
ISSUE: Final = "issue"

CONVERSION: Final = "conversion_none"
EMPTY: Final = "empty_store_blocks"

_SALT: Final = "dynamo-cache-salt:"
_RANKS: Final = 1 << 16
"""As many as there are ports. Each has metrics of its own, so that garbage must not make more."""

_STORED: Final = (
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
)
_REMOVED: Final = ("block_hashes", "medium", "group_idx", "locality", "ownership")
_CLEARED: Final = ("ownership",)

_PLACE_OF_OBJECTS: Final = 1 + _STORED.index("group_idx")
"""Where some older engines have one more item: the multi-modal objects of the blocks."""


class Refused(NamedTuple):
    """An event that is of no use: its type, whether that is meant to be so, and why."""

    kind: str
    how: str
    reason: str


class Batch(NamedTuple):
    """What was sent at the time *timestamp* of *rank*: what is of use, and what is not."""

    timestamp: float
    rank: int
    events: Sequence[Event]
    refused: Sequence[Refused]


class Decoder:
    """Decodes batches, and remembers of earlier ones what is left out of later ones."""

    def __init__(self) -> None:
        """Begin with nothing known. Raises `MissingExtraError`."""
        try:
            import msgspec  # only who has events needs it
        except ImportError as error:
            raise MissingExtraError(package="msgspec", extra="zmq") from error
        self._unpack: Callable[[bytes], Any] = msgspec.msgpack.Decoder().decode
        # Also of text that is no UTF-8, of maps as keys of maps, of arrays in arrays without end.
        self._unreadable = (msgspec.MsgspecError, ValueError, TypeError, RecursionError)
        maps, arrays, tags = typed(_NAMES, _RANKS)
        self._decoders = maps, arrays
        self._makers = {made: _TYPED[tag] for made, tag in tags.items()}
        self._gate = Gate()

    def decode(self, payload: bytes, rank: int = 0) -> Batch | None:
        """Return what is in *payload*, None if it is no batch; *rank* is for one without."""
        usual, other = self._decoders
        try:
            batch = usual(payload)
        except self._unreadable:
            try:
                batch = other(payload)
            except self._unreadable:
                return self.decode_any(payload, rank)
            self._decoders = other, usual
        if batch.rank is not None:
            rank = batch.rank
        return _sorted(batch.timestamp, rank, [self._of(event, rank) for event in batch.events])

    def decode_any(self, payload: bytes, rank: int = 0) -> Batch | None:
        """Do the same with events of any form, one at a time."""
        try:
            batch = self._unpack(payload)
        except self._unreadable:
            return None
        if not _is_batch(batch):
            return None
        if len(batch) > 2 and batch[2] is not None:  # noqa: PLR2004 - time, events, rank
            rank = batch[2]
        return _sorted(float(batch[0]), rank, [self._event(raw, rank) for raw in batch[1]])

    def _of(self, typed: Any, rank: int) -> Event | Refused:
        """Return one event that was decoded by its type, or why it is of no use."""
        kind, make = self._makers[type(typed)]
        medium = MEDIUMS[typed.medium or ""]
        group = typed.group_idx, typed.kv_cache_spec_kind
        if group != _NO_GROUP and (
            reason := self._gate.by_group(rank, medium, group, is_store=make is _typed_store)
        ):
            return Refused(kind, FILTERED, reason)
        try:
            return make(rank, medium, typed)
        except _EmptyError:
            return Refused(kind, ISSUE, EMPTY)

    def _event(self, raw: Any, rank: int) -> Event | Refused:
        """Return one event, or why it is of no use."""
        tag, fields = _opened(raw)
        if tag not in _EVENTS:
            return Refused("ignored", FILTERED, IGNORED)
        kind, make = _EVENTS[tag]
        if reason := self._gate.rejection_reason(rank, fields, is_store=make is _stored):
            return Refused(kind, FILTERED, reason)
        try:
            return make(rank, fields)
        except (_MalformedError, KeyError):
            return Refused(kind, ISSUE, CONVERSION)
        except _EmptyError:
            return Refused(kind, ISSUE, EMPTY)


def _sorted(timestamp: float, rank: int, read: Sequence[Event | Refused]) -> Batch:
    """Return a batch of what was *read*, what is of use apart from what is not."""
    refused = [each for each in read if type(each) is Refused]
    events = [each for each in read if type(each) is not Refused] if refused else read
    return Batch(timestamp, rank, events, refused)  # type: ignore[arg-type] # mypy narrows by isinstance only


class _MalformedError(Exception):
    """A field of an event is not what it has to be."""


class _EmptyError(Exception):
    """An event stores no block."""


def _is_batch(batch: Any) -> bool:
    """Return whether this is a time, events, and perhaps a rank."""
    if type(batch) is not list or len(batch) < 2 or type(batch[1]) is not list:  # noqa: PLR2004
        return False
    rank = batch[2] if len(batch) > 2 else None  # noqa: PLR2004 - as above
    is_rank = rank is None or (type(rank) is int and 0 <= rank < _RANKS)
    return is_rank and type(batch[0]) in {float, int}


def _opened(raw: Any) -> tuple[Any, Fields]:
    """Return the tag of an event and its fields; the tag is None if it has none."""
    if type(raw) is dict:
        tag = raw.get("type")
        return (tag if type(tag) is str else None), raw
    if type(raw) is not list or not raw or type(raw[0]) is not str or raw[0] not in _NAMES:
        return None, {}
    tag = raw[0]
    if tag == "BlockStored" and len(raw) > _PLACE_OF_OBJECTS:
        raw = _without_objects(raw)
    return tag, dict(zip(_NAMES[tag], raw[1:], strict=False))


def _without_objects(raw: list[Any]) -> list[Any]:
    """Return an array without the item that only older engines have."""
    place = _PLACE_OF_OBJECTS
    item, after = raw[place], raw[place + 1 : place + 2]
    # A group is a number, and behind it is the name of its kind.
    is_older = type(item) is list or (item is None and after and type(after[0]) is int)
    return raw[:place] + raw[place + 1 :] if is_older else raw


def _stored(rank: int, fields: Fields) -> Stored:
    hashes = _hashes(fields["block_hashes"])
    if not hashes:
        raise _EmptyError
    parent = fields.get("parent_block_hash")
    lora = fields.get("lora_name")
    tokens = fields.get("token_ids")
    size = fields.get("block_size", 0)
    if (lora is not None and type(lora) is not str) or type(size) is not int or size < 0:
        raise _MalformedError
    extra = fields.get("extra_keys")
    return Stored(
        rank,
        medium_of(fields.get("medium")) or "",
        hashes,
        None if parent is None else _hashes([parent])[0],
        () if tokens is None else _tokens(tokens),
        size,
        lora or None,
        extra is not None and _is_salted(extra),
    )


def _removed(rank: int, fields: Fields) -> Removed:
    return Removed(rank, medium_of(fields.get("medium")) or "", _hashes(fields["block_hashes"]))


def _cleared(rank: int, _fields: Fields) -> Cleared:
    return Cleared(rank)


def _typed_store(rank: int, medium: str, typed: Any) -> Stored:
    if not typed.block_hashes:
        raise _EmptyError
    extra = typed.extra_keys
    return Stored(
        rank,
        medium,
        typed.block_hashes,
        typed.parent_block_hash,
        () if typed.token_ids is None else typed.token_ids,
        typed.block_size,
        typed.lora_name or None,
        extra is not None and _is_salted(extra),
    )


def _typed_removal(rank: int, medium: str, typed: Any) -> Removed:
    return Removed(rank, medium, typed.block_hashes)


def _typed_clear(rank: int, _medium: str, _typed: Any) -> Cleared:
    return Cleared(rank)


_TYPED: Final[Mapping[str, tuple[str, Callable[[int, str, Any], Event]]]] = {
    "BlockStored": ("stored", _typed_store),
    "BlockRemoved": ("removed", _typed_removal),
    "AllBlocksCleared": ("cleared", _typed_clear),
}
_NO_GROUP: Final = (None, None)

_NAMES: Final[Mapping[str, Sequence[str]]] = {
    "BlockStored": _STORED,
    "BlockRemoved": _REMOVED,
    "AllBlocksCleared": _CLEARED,
}
_EVENTS: Final[Mapping[str | None, tuple[str, Callable[[int, Fields], Event]]]] = {
    "BlockStored": ("stored", _stored),
    "BlockRemoved": ("removed", _removed),
    "AllBlocksCleared": ("cleared", _cleared),
}

_INTEGERS: Final = {int}


def _hashes(given: Any) -> list[int]:
    """Return hashes as unsigned numbers: what is signed is read anew, of bytes the last 8 count."""
    if type(given) is not list:
        raise _MalformedError
    if {*map(type, given)} <= _INTEGERS:
        return [number & HASHES for number in given]
    return [_hash(each) for each in given]


def _hash(given: object) -> int:
    if type(given) is int:
        return given & HASHES
    if type(given) is bytes and given:
        return int.from_bytes(given[-8:], "big")
    raise _MalformedError


def _tokens(given: Any) -> Sequence[int | Sequence[int]]:
    """Return tokens, or pairs of them."""
    if type(given) is not list:
        raise _MalformedError
    if not {*map(type, given)} <= _INTEGERS and not all(map(_is_pair, given)):
        raise _MalformedError
    return given


def _is_pair(given: object) -> bool:
    return type(given) is list and len(given) == 2 and {*map(type, given)} == _INTEGERS  # noqa: PLR2004 - a pair


def _is_salted(extra: object) -> bool:
    """Return whether a block of a salted request is among the keys of blocks."""
    waiting = [extra]
    while waiting:
        item = waiting.pop()
        if type(item) is list:
            waiting += item
        elif type(item) is str and item.startswith(_SALT):
            return True
    return False
