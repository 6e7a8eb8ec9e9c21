"""The file-system operations of the code under test, counted, so that a test can interfere."""

from __future__ import annotations

import fcntl
import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

from tests.workers import fork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Hook = Callable[[int, str, tuple[Any, ...]], None]

# Operations that only read are not here: they change nothing that a test could see.
OPERATIONS: Final = (
    (os, "open"),
    (os, "close"),
    (os, "write"),
    (os, "fsync"),
    (os, "rename"),
    (os, "link"),
    (os, "unlink"),
    (os, "ftruncate"),
    (fcntl, "fcntl"),
    (fcntl, "flock"),
)

CHANGES: Final = frozenset({"open", "write", "fsync", "rename", "link", "unlink", "ftruncate"})
"""The operations that can fail on a full or broken disk."""


@contextmanager
def watched(before: Hook | None = None, after: Hook | None = None) -> Iterator[None]:
    """Call *before* and *after* each operation with its number, its name and its arguments.

    An exception of *before* is that of the operation. `fsync` does nothing: these tests are not
    about the cache of a disk, and it takes milliseconds.
    """
    number = 0

    def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*arguments: Any, **options: Any) -> Any:
            nonlocal number
            number += 1
            own = number
            if before is not None:
                before(own, name, arguments)
            try:
                return None if name == "fsync" else real(*arguments, **options)
            finally:
                if after is not None:
                    after(own, name, arguments)

        return operation

    patches = [
        mock.patch.object(module, name, wrapped(name, getattr(module, name)))
        for module, name in OPERATIONS
    ]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()


def killed_at(point: int, work: Callable[[], object]) -> bool:
    """Do *work* in a child that is killed at *point*; return whether it came that far.

    There is a point before each operation, and one after each that changes something.
    """
    passed = 0

    def kill() -> None:
        nonlocal passed
        passed += 1
        if passed == point:
            os.kill(os.getpid(), signal.SIGKILL)

    def kill_before(_number: int, _name: str, _arguments: tuple[Any, ...]) -> None:
        kill()

    def kill_after(_number: int, name: str, _arguments: tuple[Any, ...]) -> None:
        if name in CHANGES:
            kill()

    child = fork()
    if child == 0:
        status = 1
        try:
            with watched(kill_before, kill_after):
                work()
            status = 0
        finally:
            os._exit(status)
    ending = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert ending in (0, -signal.SIGKILL), f"the child failed at point {point}"
    return ending != 0
