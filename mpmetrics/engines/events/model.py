"""Events of a KV cache, in one form for all engines and their versions."""

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
"""The highest hash of a block: hashes are unsigned numbers of 64 bits."""


class Stored(NamedTuple):
    """A chain of blocks that data-parallel *rank* has stored in *medium*.

    *parent* is the hash of the block before the first one, None at the beginning of a prompt.
    *tokens* are those of all blocks; a publisher may leave them out. The tokens of an EAGLE model
    are pairs. A *lora* or a *salted* request has blocks of its own for the same tokens.
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
    """All blocks of *rank* are gone, in every medium."""

    rank: int


Event = Stored | Removed | Cleared

KINDS: Final = {Stored: "stored", Removed: "removed", Cleared: "cleared"}
"""The names of events in labels and in JSON."""


def as_document(event: Event) -> dict[str, object]:
    """Return *event* as a JSON object."""
    return {"event": KINDS[type(event)], **event._asdict()}
