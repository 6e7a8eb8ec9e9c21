"""Any bytes either decode or raise `DamagedError`, and always in finite time."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from mpmetrics.directory.files import FileName
from mpmetrics.errors import DamagedError
from mpmetrics.format import codec
from mpmetrics.format.keys import KeyTable, parse_key
from mpmetrics.format.layout import Layout
from mpmetrics.scrape.view import collect
from tests.database import counter, encode, write
from tests.strategies import file_names, key_texts, mutated

if TYPE_CHECKING:
    from mpmetrics.format.keys import Key


@given(file_names)
def test_a_file_name_is_read_back(name: FileName) -> None:
    """A file name that was formatted is parsed to the same parts, whatever the id is."""
    assert FileName.parse(name.format()) == name


@given(st.text(max_size=30))
def test_a_name_that_is_read_is_written_back(text: str) -> None:
    """A text that parses as a file name is the one that formatting gives."""
    name = FileName.parse(text)
    assert name is None or name.format() == text


def decode(data: bytes) -> Layout | DamagedError:
    """Return the layout of *data*, or the error."""
    try:
        used = codec.read_used(data[: codec.HEADER_SIZE])
        if used > max(len(data), codec.HEADER_SIZE):
            return DamagedError(len(data), "cut")
        layout = Layout().extend(data, used, {})
    except DamagedError as error:
        return error
    assert len(layout.values(data)) == len(layout.keys) == len(layout.offsets)
    return layout


@given(st.one_of(st.binary(max_size=300), mutated()))
def test_any_bytes_decode_or_raise_our_error(data: bytes) -> None:
    """Bytes that decode have all values within them, and match the layout that they gave."""
    layout = decode(data)
    if isinstance(layout, Layout):
        assert all(offset + 16 <= len(data) for offset in layout.offsets)
        assert layout.matches(data, layout.used)


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.floats(allow_nan=False))))
def test_written_entries_are_decoded(items: list[tuple[bytes, float]]) -> None:
    """Keys of any bytes and any length are decoded with their values."""
    body = b"".join(
        struct.pack("i", len(key))
        + key
        + b" " * (8 - (4 + len(key)) % 8)
        + struct.pack("dd", value, 0)
        for key, value in items
    )
    data = struct.pack("ii", 8 + len(body), 0) + body
    layout = decode(data)
    assert isinstance(layout, Layout)
    assert [key[4:] for key in layout.keys] == [key for key, _ in items]
    assert list(layout.values(data)) == [value for _, value in items]


def meaning(raw: bytes) -> Key | None:
    """Return the meaning of a raw key, None if it is damaged."""
    try:
        return parse_key(raw)
    except DamagedError:
        return None


@given(st.lists(st.one_of(key_texts(), st.binary(max_size=30)), max_size=12))
def test_a_key_means_the_same_beside_any_other_keys(texts: list[bytes]) -> None:
    """A table gives a key the meaning of `parse_key`, whatever it has learnt before."""
    raws = [struct.pack("i", len(text)) + text for text in texts]
    table = KeyTable()
    for raw in raws:
        try:
            table.learn([raw])
        except DamagedError:
            assert meaning(raw) is None
    assert table.meanings == {raw: meaning(raw) for raw in raws if meaning(raw) is not None}


def openmetrics_error(page: str) -> str | None:
    """Return the error of prometheus_client's parser for *page*, None if it accepts the page.

    Errors of values are ignored, since a damaged file may have any: counts that are negative, fall
    or are not whole.
    """
    try:
        list(openmetrics.text_string_to_metric_families(page))
    except ValueError as error:
        if not any(word in str(error) for word in ("integer", "negative", "NaN", "out of order")):
            return str(error)
    return None


@given(st.dictionaries(st.integers(1, 6), mutated(), max_size=4))
def test_a_page_stays_valid_and_complete_beside_damaged_files(damaged: dict[int, bytes]) -> None:
    """A page has all undamaged files, and both parsers of prometheus_client can read it."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        for number, data in damaged.items():
            kind = ("counter", "histogram", "summary", "gauge_all", "gauge_sum", "gauge_max")
            (path / f"{kind[number - 1]}_9.db").write_bytes(data)
        write(path / "counter_1.db", [counter("mine", 5.0)])
        collection = collect(path)
    assert "mine_total 5.0\n" in collection.render().decode()
    names = [family.name for family in text_string_to_metric_families(collection.render().decode())]
    assert len(names) == len(set(names))
    assert openmetrics_error(collection.render(openmetrics=True).decode()) is None
    series = [line.rsplit(" ", 1)[0] for line in collection.render().decode().splitlines()]
    assert len(series) == len(set(series))


@given(st.lists(st.integers(0, 3)))
def test_a_layout_is_the_same_in_steps_and_at_once(steps: list[int]) -> None:
    """A file that was read while it grew has the layout of a file that was read at once."""
    entries = [counter(f"c{number}", number) for number in range(sum(steps))]
    layout, done = Layout(), 0
    for step in steps:
        done += step
        data = encode(entries[:done])
        assert layout.matches(data, len(data))
        layout = layout.extend(data, len(data), {})
    whole = Layout().extend(encode(entries), len(encode(entries)), {})
    assert (layout.keys, layout.offsets, layout.used) == (whole.keys, whole.offsets, whole.used)
