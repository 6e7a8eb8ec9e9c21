"""A server for the page of a directory, for as long as a `with` block."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mpmetrics import Page
from mpmetrics.pages import DirectorySource
from mpmetrics.web import PageServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def serving(directory: Path, listen: str = "127.0.0.1:0", **options: Any) -> Iterator[PageServer]:
    """Serve *directory* until the end of the block; *options* are those of the server."""
    server = PageServer(Page([DirectorySource(directory)]), listen, **options)
    server.start()
    try:
        yield server
    finally:
        server.stop()
