"""The questions that a diagnosis asks the machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from mpmetrics.directory import is_alive, unusable_reason
from mpmetrics.doctor.server_processes import ServerProcess, find_server_processes
from mpmetrics.system import boot_time, find_mount, measure_space

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mpmetrics.directory import Liveness
    from mpmetrics.system import Mount, Space


def is_writable(directory: str) -> bool:
    """Return whether this user may make files in the *directory*."""
    return os.access(directory, os.W_OK | os.X_OK)


class Probes(NamedTuple):
    """The functions that a diagnosis calls to learn about the machine.

    The defaults ask the real machine. All but *boot_time* take a path; see the defaults for what
    each of them returns.
    """

    unusable_reason: Callable[[str], str] = unusable_reason
    is_writable: Callable[[str], bool] = is_writable
    is_alive: Callable[[str], Liveness] = is_alive
    boot_time: Callable[[], float | None] = boot_time
    find_mount: Callable[[str], Mount | None] = find_mount
    measure_space: Callable[[str], Space | None] = measure_space
    find_server_processes: Callable[[str], Sequence[ServerProcess]] = find_server_processes
