"""The codec scans the keys of entries, and reads their values."""

from __future__ import annotations

import struct

import pytest

from mpmetrics.errors import DamagedError
from mpmetrics.format import codec
from tests.database import Entry, counter, encode

BODY = encode([counter("a", 1.0), counter("bb", 2.0)])[8:]


@pytest.mark.parametrize(
    ("header", "used"),
    [
        pytest.param(b"", 8, id="a file that was just created"),
        pytest.param(bytes(4), 8, id="a file that was just preallocated"),
        pytest.param(struct.pack("i", 8), 8, id="no entries"),
        pytest.param(struct.pack("i", 4096), 4096, id="entries"),
    ],
)
def test_used_is_read_from_the_header(header: bytes, used: int) -> None:
    """The used size is that of the header; in a new file it is the size of the header."""
    assert codec.read_used(header) == used


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b"\x10\0\0", id="cut inside the number"),
        pytest.param(struct.pack("i", -8), id="negative"),
        pytest.param(struct.pack("i", 4), id="less than the header"),
        pytest.param(struct.pack("i", 4097), id="unaligned"),
        pytest.param(b"SQLite format 3\0", id="another program's file"),
    ],
)
def test_a_header_that_no_writer_writes_is_refused(header: bytes) -> None:
    """A header with an impossible size is damaged at offset 0."""
    with pytest.raises(DamagedError) as caught:
        codec.read_used(header)
    assert caught.value.offset == 0


def test_keys_are_found_with_the_offsets_of_their_values() -> None:
    """Every key is found, with the offset of its value from the beginning of the file."""
    keys, offsets = codec.scan_keys(BODY, 8)
    assert [key[4:] for key in keys] == [counter("a", 0).key(), counter("bb", 0).key()]
    assert list(codec.read_values(encode([counter("a", 1.0), counter("bb", 2.0)]), offsets)) == [
        1,
        2,
    ]


@pytest.mark.parametrize("length", [0, -1, -(2**31), 2**31 - 1, len(BODY), 1 << 20])
def test_a_key_of_impossible_length_is_refused_where_it_stands(length: int) -> None:
    """An impossible length is reported at the offset of its entry."""
    first = len(counter("a", 1.0).encode())
    data = BODY[:first] + struct.pack("i", length) + BODY[first + 4 :]
    with pytest.raises(DamagedError) as caught:
        codec.scan_keys(data, 8)
    assert caught.value.offset == 8 + first


@pytest.mark.parametrize("cut", range(8, len(BODY), 8))
def test_a_cut_off_entry_is_refused(cut: int) -> None:
    """Data that ends inside an entry is damaged; data that ends after one is not."""
    first = len(counter("a", 1.0).encode())
    if cut == first:
        assert len(codec.scan_keys(BODY[:cut], 8)[0]) == 1
    else:
        with pytest.raises(DamagedError):
            codec.scan_keys(BODY[:cut], 8)


@pytest.mark.parametrize("length", range(1, 25))
def test_keys_of_every_length_are_padded_to_eight_bytes(length: int) -> None:
    """At least one space follows every key, also one that ends at a multiple of eight."""
    entries = [Entry("", "", raw_key=b"k" * length, value=1.5), counter("next", 2.5)]
    data = encode(entries)
    keys, offsets = codec.scan_keys(data[8:], 8)
    assert keys[0] == struct.pack("i", length) + b"k" * length
    assert codec.compile_values(offsets)(data) == (1.5, 2.5)
    assert codec.compile_keys(keys)(data) == tuple(keys)
    assert all(codec.has_key(data, key, at) for key, at in zip(keys, offsets, strict=True))
