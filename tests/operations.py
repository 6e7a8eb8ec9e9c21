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
    (os, "mkdir"),
    (os, "rmdir"),
    (os, "ftruncate"),
    (fcntl, "fcntl"),
    (fcntl, "flock"),
)

_CHANGES: Final = frozenset(
    {"open", "write", "fsync", "rename", "link", "unlink", "mkdir", "rmdir", "ftruncate"}
)


def is_change(name: str, arguments: tuple[Any, ...]) -> bool:
    """Return whether an operation changes what is on the disk: it can fail on a full or broken one.

    Opening a file does that only if it may make the file.
    """
    return name in _CHANGES and (name != "open" or bool(arguments[1] & os.O_CREAT))


@contextmanager
def watched(before: Hook | None = None, after: Hook | None = None) -> Iterator[None]:
    """Call *before* and *after* each operation with its number, its name and its arguments.

    What those two do themselves is not counted. An exception of *before* is that of the operation.
    `fsync` does nothing: these tests are not about the cache of a disk, and it takes milliseconds.
    """
    number = 0
    is_in_hook = False

    def call(hook: Hook | None, *arguments: Any) -> None:
        nonlocal is_in_hook
        if hook is not None:
            is_in_hook = True
            try:
                hook(*arguments)
            finally:
                is_in_hook = False

    def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*arguments: Any, **options: Any) -> Any:
            nonlocal number
            if is_in_hook:
                return real(*arguments, **options)
            number += 1
            own = number
            call(before, own, name, arguments)
            try:
                return None if name == "fsync" else real(*arguments, **options)
            finally:
                call(after, own, name, arguments)

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

    There is a point after each operation that changes something. A kill before an operation leaves
    what a kill after the last change leaves, since the kernel takes back locks and leases.
    """
    passed = 0

    def kill_after(_number: int, name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal passed
        passed += is_change(name, arguments)
        if passed == point:
            os.kill(os.getpid(), signal.SIGKILL)

    child = fork()
    if child == 0:
        status = 1
        try:
            with watched(after=kill_after):
                work()
            status = 0
        finally:
            os._exit(status)
    ending = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert ending in (0, -signal.SIGKILL), f"the child failed at point {point}"
    return ending != 0
