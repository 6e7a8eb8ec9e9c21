"""The supervisor of a server, called the *wrapper*: the process that starts the server. Linux only.

The server does not notice the wrapper. `wrapper` puts the parts together. `launch` starts the
server and reproduces its exit, `machine` decides, `runner` acts, and `watcher` notices workers.
`signals` blocks the signals that `runner` waits for; `process_metrics` are for the page.

`lookout` looks where the server writes and how much space is left: `writer_watch` and
`space_alarm` decide what is worth a line, and `adoption` takes over directories that the server
itself has chosen.
"""

from __future__ import annotations

from mpmetrics.supervisor.launch import reproduce_exit
from mpmetrics.supervisor.wrapper import RunOptions, run_command

__all__ = [
    "RunOptions",
    "reproduce_exit",
    "run_command",
]
