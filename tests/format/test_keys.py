"""Keys: their meaning, and what is damage."""

from __future__ import annotations

import json
import struct

import pytest

from mpmetrics.errors import DamagedError
from mpmetrics.format.keys import KeyTable, parse_key, with_bound


def raw(text: str | bytes) -> bytes:
    """Return the raw key whose JSON is *text*."""
    key = text if isinstance(text, bytes) else text.encode()
    return struct.pack("i", len(key)) + key


def key(*fields: object) -> bytes:
    """Return the raw key of *fields*."""
    return raw(json.dumps(fields))


MEANINGS = {
    "plain": (key("c", "c_total", {}, "help"), ("c", ("c_total", (), None), "help")),
    "labels are sorted": (
        key("c", "c_total", {"b": "2", "a": "1"}, ""),
        ("c", ("c_total", (("a", "1"), ("b", "2")), None), ""),
    ),
    "the bound stands apart": (
        key("h", "h_bucket", {"a": "1", "le": "0.5"}, ""),
        ("h", ("h_bucket", (("a", "1"),), "0.5"), ""),
    ),
    "text beyond ASCII": (
        raw('["ü:c", "ü:c_total", {"é": "\\u00e8\\n\\""}, "€"]'),
        ("ü:c", ("ü:c_total", (("é", 'è\n"'),), None), "€"),
    ),
    "a surrogate pair": (
        key("c", "c_total", {"a": "😀"}, ""),
        ("c", ("c_total", (("a", "😀"),), None), ""),
    ),
    "a lone surrogate": (
        raw('["c", "c_total", {"a": "x\\ud800"}, "\\uDFFF"]'),
        ("c", ("c_total", (("a", "x\ufffd"),), None), "\ufffd"),
    ),
    "blanks around": (raw('  ["c","c",{},""]  '), ("c", ("c", (), None), "")),
}


@pytest.mark.parametrize("name", MEANINGS)
def test_a_key_means_what_its_json_says(name: str) -> None:
    """A key has the meaning of its JSON, parsed alone and in a table."""
    text, meaning = MEANINGS[name]
    assert parse_key(text) == meaning
    table = KeyTable()
    table.learn([text])
    assert table.meanings == {text: meaning}


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"\xff", b'["c"', b"nonsense", b"[" * 100_000, b'"abcd"', b"1", b"null"),
        *(b"[]", b'["c", "c", {}]', b'["c", "c", {}, "", 1]', b'["c", "c", [], ""]'),
        *(b'[1, "c", {}, ""]', b'["c", null, {}, ""]', b'["c", "c", {"a": 1}, ""]'),
        *(b'["c", "c", {}, 1]', b'["", "c", {}, ""]', b'["c", "", {}, ""]'),
        *(b'["c", "c", {"": "x"}, ""]', b'["c", "c", {"__name__": "x"}, ""]'),
        *(b'["c", "c", "abc", ""]', b'["c", "c", {"a": ["x"]}, ""]', b'["c", "c", {}, ""] x'),
    ],
)
def test_anything_else_is_damage(text: bytes) -> None:
    """Bytes that are no key raise `DamagedError`, and no other exception."""
    with pytest.raises(DamagedError):
        parse_key(raw(text))


def test_keys_of_buckets_have_the_meaning_of_their_json() -> None:
    """A table gives keys of buckets their meaning in any order, also beside look-alikes."""
    texts = [
        key("h", "h_bucket", {"le": bound, name: value}, 'say "le": "9"')
        for name, value in (("a", "1"), ('x\\"le', "2"), ('"le', "3"), ("z", '"le": "5"'))
        for bound in ("1.0", "2.5", "+Inf", "\u0661", '4"')
    ]
    texts += [raw(b'["h", "h", {"le": "1.0", "le": "2.5"}, ""]')]
    texts += [raw(b'["h", "h", {"le": "2.5", "le": "1.0"}, ""]')]
    texts += [raw(b'["h", "h", {"le": "2.5", "le" : "1.0"}, ""]')]
    texts += [raw(b'["h", "h", {"x\\"le": "2.5"}, ""]'), raw(b'["h", "h", {"x\\"le": "1.0"}, ""]')]
    for order in (texts, texts[::-1], texts[1::2] + texts[::2]):
        table = KeyTable()
        table.learn(order)
        assert table.meanings == {text: parse_key(text) for text in texts}


def test_a_table_forgets_keys_that_are_not_kept() -> None:
    """A kept key has its meaning, and a table can learn a forgotten key again."""
    kept, forgotten = key("a", "a_total", {}, ""), key("b", "b_bucket", {"le": "1.0"}, "")
    table = KeyTable()
    table.learn([kept, forgotten])
    table.keep({kept})
    assert table.meanings == {kept: parse_key(kept)}
    table.learn([forgotten])
    assert table.meanings[forgotten] == parse_key(forgotten)


def test_the_bound_is_sorted_among_the_labels() -> None:
    """Labels with a bound are sorted by name, with `le` among them."""
    assert with_bound((("a", "1"), ("z", "2")), "+Inf") == (("a", "1"), ("le", "+Inf"), ("z", "2"))
    assert with_bound((("a", "1"),), None) == (("a", "1"),)
