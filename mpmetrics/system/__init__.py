"""Facts about this machine: when it was started, its mounts, its processes, what it has removed.

The names are loaded on first use: those of processes need psutil, which comes with the extra
`serve`; the others do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpmetrics._lazy import lazy_exports

if TYPE_CHECKING:
    from mpmetrics.system.births import read_birth
    from mpmetrics.system.clock import boot_time
    from mpmetrics.system.mentions import (
        Mentions,
        find_mentions,
        read_boot,
        read_control_group,
        read_pid_namespace,
        read_tick,
    )
    from mpmetrics.system.mounts import Mount, Space, find_mount, measure_space
    from mpmetrics.system.moves import move_without_replacing
    from mpmetrics.system.open_files import OpenFile, list_open_files, read_variable
    from mpmetrics.system.processes import (
        UNREADABLE,
        Process,
        has_own_proc,
        list_children,
        list_descendants,
        read_age,
        read_exit_status,
        select_workers,
    )
    from mpmetrics.system.removals import RemovalWatch
    from mpmetrics.system.uwsgi import UWSGI_ADVICE, reloads_at_sigterm

_MODULES = {
    "births": ["read_birth"],
    "clock": ["boot_time"],
    "mentions": [
        "Mentions",
        "find_mentions",
        "read_boot",
        "read_control_group",
        "read_pid_namespace",
        "read_tick",
    ],
    "mounts": ["Mount", "Space", "find_mount", "measure_space"],
    "open_files": ["OpenFile", "list_open_files", "read_variable"],
    "moves": ["move_without_replacing"],
    "processes": [
        "UNREADABLE",
        "Process",
        "has_own_proc",
        "list_children",
        "list_descendants",
        "read_age",
        "read_exit_status",
        "select_workers",
    ],
    "removals": ["RemovalWatch"],
    "uwsgi": ["UWSGI_ADVICE", "reloads_at_sigterm"],
}

__all__ = [
    "UNREADABLE",
    "UWSGI_ADVICE",
    "Mentions",
    "Mount",
    "OpenFile",
    "Process",
    "RemovalWatch",
    "Space",
    "boot_time",
    "find_mentions",
    "find_mount",
    "has_own_proc",
    "list_children",
    "list_descendants",
    "list_open_files",
    "measure_space",
    "move_without_replacing",
    "read_age",
    "read_birth",
    "read_boot",
    "read_control_group",
    "read_exit_status",
    "read_pid_namespace",
    "read_tick",
    "read_variable",
    "reloads_at_sigterm",
    "select_workers",
]

if not TYPE_CHECKING:  # or every name would pass for one of this module's
    __getattr__, __dir__ = lazy_exports(__name__, _MODULES, globals())
