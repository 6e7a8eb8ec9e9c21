"""What an engine says of its KV cache, in one form whatever the engine and its version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    Token = int | Sequence[int]

DEVICE: Final = "device"
HOST: Final = "host"
DISK: Final = "disk"
EXTERNAL: Final = "external"

HASHES: Final = (1 << 64) - 1
"""A hash of a block is an unsigned number of 64 bits; this is the highest."""


class Stored(NamedTuple):
    """Blocks that data-parallel *rank* has stored in *medium*, one behind the other.

    *parent* is the hash of the block before the first one, None at the beginning of a prompt.
    *tokens* are those of all blocks; a publisher may leave them out. Those of an EAGLE model are
    pairs. What *lora* names, or a *salted* request, has blocks of its own for the same tokens.
    """

    rank: int
    medium: str
    hashes: Sequence[int]
    parent: int | None = None
    tokens: Sequence[Token] = ()
    block_size: int = 0
    lora: str | None = None
    salted: bool = False


class Removed(NamedTuple):
    """Blocks that *rank* has removed from *medium*."""

    rank: int
    medium: str
    hashes: Sequence[int]


class Cleared(NamedTuple):
    """The *rank* has nothing left in any medium."""

    rank: int


Event = Stored | Removed | Cleared

KINDS: Final = {Stored: "stored", Removed: "removed", Cleared: "cleared"}
"""How an event is called in a label, and in JSON."""


def as_document(event: Event) -> dict[str, object]:
    """Return *event* as what JSON can carry."""
    return {"event": KINDS[type(event)], **event._asdict()}
