"""Whole directories from entries made by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.database import Entry, write

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


def fill(directory: Path, files: Mapping[str, Entry | Iterable[Entry] | bytes]) -> Path:
    """Write *files*, contents by name, into *directory*; return *directory*."""
    for name, content in files.items():
        if isinstance(content, bytes):
            (directory / name).write_bytes(content)
        else:
            write(directory / name, [content] if isinstance(content, Entry) else content)
    return directory
