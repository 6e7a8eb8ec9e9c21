"""Files in prometheus_client's `.db` format, written from its description and not by our code."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from prometheus_client import Metric

PREALLOCATED = 1 << 16


class Entry(NamedTuple):
    """One entry of a file; *raw_key* replaces the JSON key when given."""

    family: str
    sample: str
    labels: Mapping[str, str] = {}
    value: float = 0.0
    timestamp: float = 0.0
    help: str = "help"
    raw_key: bytes | None = None

    def key(self) -> bytes:
        """Return the key as prometheus_client writes it."""
        if self.raw_key is not None:
            return self.raw_key
        fields = [self.family, self.sample, dict(self.labels), self.help]
        return json.dumps(fields, sort_keys=True).encode()

    def encode(self) -> bytes:
        """Return the bytes of the entry."""
        key = self.key()
        padding = b" " * (8 - (4 + len(key)) % 8)
        numbers = struct.pack("dd", self.value, self.timestamp)
        return struct.pack("i", len(key)) + key + padding + numbers


def encode(entries: Iterable[Entry], *, size: int = 0) -> bytes:
    """Return the bytes of a file, with zeros up to *size*."""
    body = b"".join(entry.encode() for entry in entries)
    return (struct.pack("ii", 8 + len(body), 0) + body).ljust(size, b"\0")


def write(path: Path, entries: Iterable[Entry], *, size: int = PREALLOCATED) -> Path:
    """Write a file of *entries*, in place if there is one; return its path."""
    path.write_bytes(encode(entries, size=size))
    return path


def counter(name: str, value: float, labels: Mapping[str, str] | None = None) -> Entry:
    """Return the entry of a counter."""
    return Entry(name, f"{name}_total", labels or {}, value)


def gauge(
    name: str, value: float, labels: Mapping[str, str] | None = None, timestamp: float = 0.0
) -> Entry:
    """Return the entry of a gauge."""
    return Entry(name, name, labels or {}, value, timestamp)


def histogram(
    name: str,
    counts: Mapping[str, float],
    total: float | None = 0.0,
    labels: Mapping[str, str] | None = None,
) -> list[Entry]:
    """Return the entries of a histogram; *counts* are those of each bucket alone, by bound."""
    labels = labels or {}
    entries = [] if total is None else [Entry(name, f"{name}_sum", labels, total)]
    return entries + [
        Entry(name, f"{name}_bucket", {**labels, "le": bound}, count)
        for bound, count in counts.items()
    ]


def summary(
    name: str, count: float, total: float, labels: Mapping[str, str] | None = None
) -> list[Entry]:
    """Return the entries of a summary."""
    labels = labels or {}
    return [
        Entry(name, f"{name}_count", labels, count),
        Entry(name, f"{name}_sum", labels, total),
    ]


def entries_of(family: Metric, timestamp: float = 0.0) -> list[Entry]:
    """Return the entries of a file that holds the samples of *family*."""
    return [
        Entry(
            family.name, sample.name, sample.labels, sample.value, timestamp, family.documentation
        )
        for sample in family.samples
    ]
