"""Scanning of keys and reading of values, on bytes only: no files, no metrics.

The bytes of a `.db` file (written by prometheus_client's ``mmap_dict``), native byte order::

    int32 used | 4 bytes of padding | entry | entry | … | zeros up to the preallocated size
    entry = int32 length | key, UTF-8 | spaces to the next multiple of 8, at least one
          | float64 value | float64 timestamp

``used`` counts from the beginning of the file. A *raw key* here is the entry's length field
together with its key: two entries are the same exactly when their raw keys are.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from mpmetrics.errors import DamagedError, TooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


Data = bytes | bytearray | memoryview
"""Any object that can hold the bytes of a file."""

HEADER_SIZE: Final = 8
"""Bytes before the first entry: ``used`` and its padding."""

LENGTH_SIZE: Final = 4
"""Bytes of an entry's length field, the first part of a raw key."""

LARGEST_FILE: Final = 256 << 20
"""Used bytes of the largest file that is read or written."""

MOST_ENTRIES: Final = 500_000
"""Entries of the largest file that is read or written: in memory they take a gigabyte."""

LARGEST_KEY: Final = 1 << 20
"""Bytes of the longest key that is read: names, labels and help of one series."""

_ALIGNMENT: Final = 8
_NUMBERS_SIZE: Final = 16

_int32 = Struct("i")


def read_used(header: Data) -> int:
    """Return the ``used`` field of a file that starts with *header*, checked for plausibility.

    A new file that is still empty, or all zeros, uses `HEADER_SIZE` bytes. Raises `DamagedError`
    for a number that no writer can have written, `TooLargeError` for one above `LARGEST_FILE`.
    """
    if len(header) < LENGTH_SIZE:
        if not header:
            return HEADER_SIZE
        raise DamagedError(0, f"the file ends after {len(header)} bytes, inside its header")
    (used,) = _int32.unpack_from(header)
    if used == 0:
        return HEADER_SIZE
    if used < HEADER_SIZE or used % _ALIGNMENT:
        raise DamagedError(0, f"{used} used bytes is not a size that a writer can reach")
    if used > LARGEST_FILE:
        raise TooLargeError(0, f"{used} used bytes are more than are read ({LARGEST_FILE})")
    return int(used)


def check_entries(data: bytearray, start: int, stop: int) -> tuple[int, int]:
    """Check the entries between *start* and *stop*.

    Returns where the first incomplete one begins, and how many there are before it.

    The reader of a large file checks its beginning before it reads on: behind it there may be a
    hole of gigabytes that takes no space on the disk, but would in memory. Raises `DamagedError`.
    """
    int32_at, find = _int32.unpack_from, data.find
    count = 0
    while start + LENGTH_SIZE <= stop:
        (length,) = int32_at(data, start)
        end = start + LENGTH_SIZE + length
        if not 0 < length <= LARGEST_KEY:
            raise _refuse_length(start, length)
        # No text of JSON has a null byte.
        if find(0, start + LENGTH_SIZE, min(end, stop)) >= 0:
            raise DamagedError(start, "a key with a null byte")
        end += _ALIGNMENT - end % _ALIGNMENT + _NUMBERS_SIZE
        if end > stop:
            break
        start = end
        count += 1
    return start, count


def scan_keys(data: bytes, base: int, *, is_rest: bool = True) -> tuple[list[bytes], list[int]]:
    """Scan the entries that fill *data*, which starts at offset *base* of its file.

    Returns the raw keys and the offsets of their values in the file, in file order. Raises
    `DamagedError` if an entry does not fit into *data*, unless *is_rest* is False: then more data
    follows, and the scan stops there. Raises `TooLargeError` for a key above `LARGEST_KEY`.
    """
    keys: list[bytes] = []
    offsets: list[int] = []
    add_key, add_offset, int32_at = keys.append, offsets.append, _int32.unpack_from
    position, size = 0, len(data)
    last_value_at = size - _NUMBERS_SIZE
    while position < last_value_at:
        (length,) = int32_at(data, position)
        end = position + LENGTH_SIZE + length
        value_at = end + _ALIGNMENT - end % _ALIGNMENT
        if not 0 < length <= LARGEST_KEY or value_at > last_value_at:
            if is_rest or not 0 < length <= LARGEST_KEY:
                raise _refuse_length(base + position, length, fits=value_at <= last_value_at)
            return keys, offsets
        add_key(data[position:end])
        add_offset(base + value_at)
        position = value_at + _NUMBERS_SIZE
    if is_rest and position != size:
        raise DamagedError(base + position, f"{size - position} bytes are too few for an entry")
    return keys, offsets


def _refuse_length(offset: int, length: int, *, fits: bool = True) -> DamagedError:
    """Return the error for a key of this *length*, which *fits* into the data or does not."""
    if fits and length > LARGEST_KEY:
        return TooLargeError(offset, f"a key of {length} bytes, more than {LARGEST_KEY}")
    return DamagedError(offset, f"a key of {length} bytes does not fit here")


def read_values(data: Data, offsets: Sequence[int]) -> list[float]:
    """Return the float64 at each of the *offsets*, which are multiples of eight."""
    size = len(data) - len(data) % _ALIGNMENT
    with memoryview(data)[:size].cast("d") as doubles:
        return [doubles[offset >> 3] for offset in offsets]


def compile_values(
    offsets: Iterable[int],
) -> Callable[[Data], tuple[float, ...]]:
    """Return a function that does what `read_values` does for ascending *offsets*, but faster.

    It is one `struct.Struct` with pad bytes from value to value, so that the loop runs in C.
    """
    parts = []
    position = 0
    for offset in offsets:
        parts.append(f"{offset - position}xd")
        position = offset + 8
    return Struct("".join(parts)).unpack_from


def has_key(data: Data, key: bytes, value_at: int) -> bool:
    """Return whether the raw *key* stands before the value at offset *value_at*."""
    start = key_offset(key, value_at)
    return data[start : start + len(key)] == key


def key_offset(key: bytes, value_at: int) -> int:
    """Return the offset of the entry that has the raw *key* and its value at *value_at*."""
    return value_at - len(key) - padding(len(key))


def end_of_entry(value_at: int) -> int:
    """Return the offset behind the entry that has its value at *value_at*."""
    return value_at + _NUMBERS_SIZE


def padding(size: int) -> int:
    """Return how many spaces follow a raw key of *size* bytes, so that its value is aligned."""
    return _ALIGNMENT - size % _ALIGNMENT


def compile_keys(
    keys: Iterable[bytes],
) -> Callable[[Data], tuple[bytes, ...]]:
    """Return a function that takes, from a buffer, the bytes at the offsets of the raw *keys*.

    The buffer has the layout of these keys exactly if the result equals *keys*.
    """
    parts = [f"{HEADER_SIZE}x"]
    parts += [f"{len(key)}s{padding(len(key)) + _NUMBERS_SIZE}x" for key in keys]
    return Struct("".join(parts)).unpack_from
