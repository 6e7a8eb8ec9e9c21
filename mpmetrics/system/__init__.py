"""What Linux tells of this machine: its processes and its mounts (proc(5))."""

from __future__ import annotations

from mpmetrics.system.mounts import Mount, Space, mount_of, space_of
from mpmetrics.system.processes import (
    PROC,
    Process,
    boot_time,
    children,
    descendants,
    read_process,
    workers,
)

__all__ = [
    "PROC",
    "Mount",
    "Process",
    "Space",
    "boot_time",
    "children",
    "descendants",
    "mount_of",
    "read_process",
    "space_of",
    "workers",
]
