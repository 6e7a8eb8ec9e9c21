"""The directories that a page reads itself: collectors of the same ones return no families.

A page may have a directory and a registry as sources, and the registry may hold a
`MultiProcessCollector` of the same directory. Its families would be read a second time. The
registry's interface has no argument for that, and other callers of the registry must get all its
families at the same time. Hence a context variable: the page sets it around each
source that it asks (`mpmetrics.pages.gathering`), and the collector looks at it
(`mpmetrics.collector`). Each thread and each asyncio task has a value of its own.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_covered: ContextVar[frozenset[str]] = ContextVar("covered", default=frozenset())
"""The real paths of the covered directories."""


@contextmanager
def cover_directories(paths: Iterable[str]) -> Iterator[None]:
    """Have collectors of the directories *paths* return no families in this context and block."""
    token = _covered.set(frozenset(map(_real_path, paths)))
    try:
        yield
    finally:
        _covered.reset(token)


def is_covered(path: str) -> bool:
    """Return whether a page reads the directory *path* itself, under this name or another."""
    return _real_path(path) in _covered.get()


def _real_path(path: str) -> str:
    """Return *path* without symbolic links, or as it is if no directory can have such a path."""
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):
        return path
