"""The inner functions of the hot path: entries are scanned, and numbers are written."""

from __future__ import annotations

import math
import struct

import pytest
from prometheus_client.utils import floatToGoString

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
    assert list(codec.gather(encode([counter("a", 1.0), counter("bb", 2.0)]), offsets)) == [1, 2]


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
    assert codec.compile_gather(offsets)(data) == (1.5, 2.5)
    assert codec.compile_keys(keys)(data) == tuple(keys)
    assert all(codec.has_key(data, key, at) for key, at in zip(keys, offsets, strict=True))


@pytest.mark.parametrize(
    "value",
    [
        *(0.0, -0.0, 1.0, -1.0, 0.1, 1e-5, 1e-300, 5e-324, 123456.0, 999999.9999),
        *(1e6, 1000000.5, 1234567.0, 1e7, 12345678.9, 1e15, 1e16, 1.5e16, 1e22, 1e300),
        *(-1e6, -1e17, math.inf, -math.inf, math.nan),
    ],
)
def test_numbers_are_written_as_prometheus_writes_them(value: float) -> None:
    """Every number is written as prometheus_client's own function writes it."""
    assert codec.format_value(value) == floatToGoString(value)


def test_only_lines_with_another_value_are_formatted() -> None:
    """A line whose value is the same is the old line, except for zero, which has a sign."""
    values = [1.0, 2.0, -0.0, math.nan, 2e6]
    prefixes = ["a ", "b ", "c ", "d ", "e "]
    old = ["A", "B", "C", "D", "E"]
    lines = codec.format_lines(prefixes, values, [1.0, 3.0, 0.0, math.nan, 1.0], old)
    assert lines == ["A", "b 2.0\n", "c -0.0\n", "d NaN\n", "e 2e+06\n"]
