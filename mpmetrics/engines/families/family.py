"""The type of a row in the tables of families."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import TypeAlias

    Edges: TypeAlias = tuple[float, ...]
    """The upper bounds of a histogram's buckets, without the infinite one."""


class Family(NamedTuple):
    """A family that an engine emits, as prometheus_client is asked to make it.

    *name*, *type*, *help* and *labels* are prometheus_client's arguments. A gauge has the
    multiprocess *mode*, a histogram has *buckets*.

    *rollup* is how to aggregate over `worker_id`, where each worker of an engine has a series:
    "max" where all workers count the same, "sum" where each has its own share, "min" for the worst
    of several rates, "merge" for histograms. A family that is not *in_files* belongs to a callback,
    which never reaches the files of a multiprocess directory. *condition* names the option of the
    engine without which the family does not exist.
    """

    name: str
    type: str
    labels: tuple[str, ...]
    help: str
    mode: str = ""
    buckets: tuple[float, ...] = ()
    rollup: str = ""
    in_files: bool = True
    condition: str = ""
