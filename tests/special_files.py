"""Entries of a directory that are no regular files."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _make_pipe(path: Path) -> None:
    os.mkfifo(path)


def _make_socket(path: Path) -> None:
    # The name of a socket may not be long.
    with socket.socket(socket.AF_UNIX) as listener:
        parent = os.open(path.parent, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{parent}/{path.name}")
        os.close(parent)


def _link_to_pipe(path: Path) -> None:
    target = path.parent / "elsewhere"
    with suppress(FileExistsError):
        target.mkdir()
    with suppress(FileExistsError):
        os.mkfifo(target / "pipe")
    path.symlink_to(target / "pipe")


_MAKERS: Final[dict[str, Callable[[Path], None]]] = {
    "pipe": _make_pipe,
    "socket": _make_socket,
    "directory": os.mkdir,
    "link-to-pipe": _link_to_pipe,
    "link-to-zero": lambda path: path.symlink_to("/dev/zero"),
    "link-to-terminal": lambda path: path.symlink_to("/dev/tty"),
    "link-to-nothing": lambda path: path.symlink_to("/no/such/file"),
    "link-to-itself": lambda path: path.symlink_to(path),
}

SPECIAL: Final = tuple(_MAKERS)
"""The kinds of entries."""


def make_special(path: Path, kind: str) -> None:
    """Make an entry of this *kind* at *path*."""
    _MAKERS[kind](path)
