"""What Linux tells of this machine: its processes and its mounts (proc(5))."""

from __future__ import annotations

from mpmetrics.system.mounts import Mount, Space, find_mount, measure_space
from mpmetrics.system.processes import (
    PROC,
    Process,
    boot_time,
    list_children,
    list_descendants,
    read_process,
    select_workers,
)

__all__ = [
    "PROC",
    "Mount",
    "Process",
    "Space",
    "boot_time",
    "find_mount",
    "list_children",
    "list_descendants",
    "measure_space",
    "read_process",
    "select_workers",
]
