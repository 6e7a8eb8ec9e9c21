"""Strategies of Hypothesis for the names, entries and bytes of files in a directory."""

from __future__ import annotations

import json
import struct

from hypothesis import strategies as st

from mpmetrics.directory.files import GAUGE_MODES, FileName
from tests.database import Entry, counter, encode, gauge, histogram, summary

ids = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20
)

file_names = st.one_of(
    st.builds(FileName, st.sampled_from(["counter", "histogram", "summary"]), st.just(""), ids),
    st.builds(FileName, st.just("gauge"), st.sampled_from(GAUGE_MODES), ids),
)

# Whole numbers of a size whose sums are exact: rounding is not what these tests are about.
counts = st.integers(0, 2**20).map(float)
labels = st.dictionaries(st.sampled_from("ab"), st.sampled_from(["x", 'é"\\\n', ""]), max_size=2)
BOUNDS = ({"1.0": 0.0, "2.5": 0.0, "+Inf": 0.0}, {"1.0": 0.0, "4.0": 0.0, "+Inf": 0.0})


@st.composite
def entries_of_kind(draw: st.DrawFn, kind: str) -> list[Entry]:
    """Draw the entries of one process's file of a *kind*, each series once."""
    entries: list[Entry] = []
    for series in draw(
        st.lists(labels, max_size=3, unique_by=lambda each: tuple(sorted(each.items())))
    ):
        if kind == "counter":
            entries.append(counter("c", draw(counts), series))
        elif kind == "summary":
            entries += summary("s", draw(counts), draw(counts), series)
        elif kind == "histogram":
            bounds = draw(st.sampled_from(BOUNDS))
            values = {bound: draw(counts) for bound in bounds}
            entries += histogram("h", values, draw(counts), series)
        else:
            stamp = draw(st.integers(0, 5).map(float)) if "mostrecent" in kind else 0.0
            entries.append(gauge(kind, draw(counts), series, stamp))
    return entries


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Draw the bytes of a good file with some damage."""
    entries = draw(entries_of_kind("histogram")) + draw(entries_of_kind("counter"))
    data = bytearray(encode(entries, size=draw(st.sampled_from([0, 4096]))))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data) - 1))
        if draw(st.booleans()):
            data[at] ^= 1 << draw(st.integers(0, 7))
        else:
            struct.pack_into(
                "i", data, at - at % 8 if at >= 8 else 0, draw(st.integers(-(2**31), 2**31 - 1))
            )
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


json_strings = st.one_of(
    st.sampled_from(["le", "1.0", '"le": "2.5"', 'x"le', "+Inf", "\\", '"', "h", "", "\ud800"]),
    st.text(max_size=5),
)


@st.composite
def key_texts(draw: st.DrawFn) -> bytes:
    """Draw the JSON of a key, or a text that looks like one."""
    pairs = draw(st.lists(st.tuples(json_strings, json_strings), max_size=3))
    separator = draw(st.sampled_from([": ", ":", " : "]))
    members = ", ".join(json.dumps(name) + separator + json.dumps(value) for name, value in pairs)
    family, sample, help_text = (json.dumps(draw(json_strings)) for _ in range(3))
    return f"[{family}, {sample}, {{{members}}}, {help_text}]".encode()
