"""Everything that the doctor knows of a directory at one moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from prometheus_client import Metric

    from mpmetrics.directory import Liveness, WorkerFile
    from mpmetrics.doctor.server_processes import ServerProcess
    from mpmetrics.errors import Problem
    from mpmetrics.system import Mount, Space

_SHOWN: Final = 3
"""How many names or examples a finding lists."""


class Examination(NamedTuple):
    """What is known of the directory *path*.

    *families* are merged from *files*, and *problems* are those of reading and merging them.
    *is_writable* is whether this user may make files there. *old* are the paths of files that were
    last written before this machine was started. *liveness* has by path whether the worker of a
    file is alive; archives have none. *quarantined* are the paths of damaged files that compaction
    has set aside. *mount* and *space* are those of the file system. *processes* are those of the
    server that run now.
    """

    path: str
    files: Sequence[WorkerFile]
    families: Sequence[Metric]
    problems: Sequence[Problem]
    is_writable: bool = True
    old: Collection[str] = ()
    liveness: Mapping[str, Liveness] = {}
    quarantined: Sequence[str] = ()
    mount: Mount | None = None
    space: Space | None = None
    processes: Sequence[ServerProcess] = ()


def list_some(names: Sequence[str], separator: str) -> str:
    """Return a list of the first few *names*, and how many more there are, as text."""
    more = len(names) - _SHOWN
    return separator.join([*names[:_SHOWN], *([f"and {more:,} more"] if more > 0 else [])])
