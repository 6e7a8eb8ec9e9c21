"""The wrapper of a server of several processes, which the server does not notice. Linux only.

`wrapper` puts the parts together. `machine` decides, `runner` acts, `watcher` notices workers.
"""

from __future__ import annotations

from mpmetrics.supervisor.launch import reproduce_exit
from mpmetrics.supervisor.wrapper import RunOptions, run_command

__all__ = [
    "RunOptions",
    "reproduce_exit",
    "run_command",
]
