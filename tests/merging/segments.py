"""Segments and their values from entries, without files."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from mpmetrics.directory import FileName, WorkerFile
from mpmetrics.format import KeyTable
from mpmetrics.merging import Segment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mpmetrics.format import Key
    from tests.database import Entry


class Segments(NamedTuple):
    """A list of *segments*, the meanings of their *keys*, and all of their values (*flat*)."""

    segments: list[Segment]
    keys: Mapping[bytes, Key]
    flat: list[Any]


def make_segments(files: Mapping[str, Sequence[Entry]]) -> Segments:
    """Return the segments that *files* with these names and entries are."""
    segments, flat, table = [], [], KeyTable()
    for path, entries in files.items():
        name = FileName.parse(path)
        assert name is not None
        raws = tuple(struct.pack("i", len(entry.key())) + entry.key() for entry in entries)
        table.learn(raws)
        segments.append(Segment(WorkerFile(path, name), raws))
        stamped = "mostrecent" in name.mode
        for entry in entries:
            value = float(entry.value)
            flat.append((entry.timestamp, value) if stamped else value)
    return Segments(segments, table.meanings, flat)
