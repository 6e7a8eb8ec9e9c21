"""From the bytes of one file to its keys and values, and back, whatever the keys mean. No I/O.

The `.db` format only ever appends entries, and an entry's value stays at its offset. So the
*layout* of a file, which key has its value where, is scanned once and afterwards only checked or
extended. The work that is left for each scrape is to read the numbers at known offsets.

Any bytes either decode or raise `mpmetrics.errors.DamagedError`; nothing else is raised, and
nothing is read beyond the end.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from mpmetrics.errors import TooLargeError
from mpmetrics.format import codec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mpmetrics.format.codec import Data

_FLOAT64: Final = 8
_LENGTH: Final = Struct("i")
_HEADER: Final = Struct("ii")
_NUMBERS: Final = Struct("dd")

_STEP: Final = 4 << 20
"""Bytes that are scanned at a time: more than the largest entry has."""


def encode(entries: Iterable[tuple[bytes, float, float]]) -> bytes:
    """Return the bytes of a file with these entries: key, value, second number.

    Raises `OverflowError` for a file that no reader would read: for more than `LARGEST_FILE` bytes
    or `MOST_ENTRIES` entries (see `mpmetrics.format.codec`).
    """
    parts = [b""]
    for key, value, second in entries:
        padding = b" " * codec.padding(codec.LENGTH_SIZE + len(key))
        parts.append(_LENGTH.pack(len(key)) + key + padding + _NUMBERS.pack(value, second))
    size = codec.HEADER_SIZE + sum(map(len, parts))
    if size > codec.LARGEST_FILE:
        message = f"{size} bytes are more than a file can have ({codec.LARGEST_FILE})"
        raise OverflowError(message)
    if len(parts) > codec.MOST_ENTRIES + 1:
        message = f"{len(parts) - 1} entries are more than a file can have ({codec.MOST_ENTRIES})"
        raise OverflowError(message)
    parts[0] = _HEADER.pack(size, 0)
    return b"".join(parts)


class Layout:
    """The raw keys of a file and the offsets of their values.

    A layout never changes, and files that look alike share one.
    """

    __slots__ = ("_has_read_values", "_read_keys", "_read_values", "keys", "offsets", "used")

    def __init__(
        self,
        keys: tuple[bytes, ...] = (),
        offsets: tuple[int, ...] = (),
        used: int = codec.HEADER_SIZE,
    ) -> None:
        """Take the raw *keys*, the *offsets* of their values, and how many bytes are *used*."""
        self.keys = keys
        self.offsets = offsets
        self.used = used
        self._has_read_values = False
        self._read_values: Callable[[Data], tuple[float, ...]] | None = None
        self._read_keys: Callable[[Data], tuple[bytes, ...]] | None = None

    def extend(self, data: Data, used: int, known: dict[bytes, bytes]) -> Layout:
        """Return the layout of a file that has grown from this one to *used* bytes of *data*.

        *known* maps each raw key to the one copy that is kept, so that files with the same keys
        share them; new keys are added to it. Raises `DamagedError`.
        """
        layout = self
        while layout.used < used:
            layout = layout.grow(data, used, known)
        return layout

    def grow(self, data: Data, used: int, known: dict[bytes, bytes]) -> Layout:
        """Return what `extend` does, after a few megabytes: the caller may refuse what is there."""
        stop = min(used, self.used + _STEP)
        # Slices of `bytes` are hashable and quick to make; those of a reused buffer are not.
        piece = bytes(memoryview(data)[self.used : stop])
        keys, offsets = codec.scan_keys(piece, self.used, is_rest=stop == used)
        if len(self.keys) + len(keys) > codec.MOST_ENTRIES:
            raise TooLargeError(self.used, f"more than {codec.MOST_ENTRIES} entries")
        all_keys = (*self.keys, *map(known.setdefault, keys, keys))
        end = used if stop == used else codec.end_of_entry(offsets[-1])
        return Layout(all_keys, (*self.offsets, *offsets), end)

    def matches(self, data: Data, used: int) -> bool:
        """Return whether the first *used* bytes of *data* begin with exactly these keys."""
        if used < self.used:
            return False
        if not self.keys:
            return True
        # The last key rules out most other files without a look at the rest.
        if not codec.has_key(data, self.keys[-1], self.offsets[-1]):
            return False
        if self._read_keys is None:
            self._read_keys = codec.compile_keys(self.keys)
        return self._read_keys(data) == self.keys

    def values(self, data: Data) -> Sequence[float]:
        """Return the values in *data*, in file order."""
        if self._read_values is not None:
            return self._read_values(data)
        if self._has_read_values:
            self._read_values = codec.compile_values(self.offsets)
            return self._read_values(data)
        # Compiling costs as much as ten calls of `read_values`: too much for a single use.
        self._has_read_values = True
        return codec.read_values(data, self.offsets)

    def stamped_values(self, data: Data) -> Sequence[tuple[float, float]]:
        """Return (timestamp in seconds, value) pairs in *data*, in file order."""
        return list(zip(self.second_numbers(data), self.values(data), strict=True))

    def second_numbers(self, data: Data) -> Sequence[float]:
        """Return the second number of each entry in *data*, in file order."""
        return codec.read_values(data, [offset + _FLOAT64 for offset in self.offsets])
