"""A server of several processes under a wrapper that nobody notices. Linux only."""

from __future__ import annotations

from mpmetrics.supervisor.launch import end_like
from mpmetrics.supervisor.wrapper import RunOptions, run_command

__all__ = [
    "RunOptions",
    "end_like",
    "run_command",
]
