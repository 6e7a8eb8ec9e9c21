"""The multiprocess directory: which files there are, which count, and whose process is alive."""

from __future__ import annotations

from mpmetrics.directory.atomic import free_name, rename_if_free, sync_directory, write_new
from mpmetrics.directory.buffer import Identity, ReadBuffer
from mpmetrics.directory.environment import (
    OLD_VARIABLE,
    VARIABLE,
    adopt_old_variable,
    directory_from_environment,
    require_directory,
    resolve_directory,
    unusable_reason,
)
from mpmetrics.directory.files import (
    FOLDING,
    MANIFEST,
    OWN_PREFIX,
    QUARANTINED,
    SUFFIX,
    FileName,
    Listing,
    WorkerFile,
    inodes,
    list_directory,
    worker_files,
)
from mpmetrics.directory.liveness import (
    PROBE_PREFIX,
    Liveness,
    can_tell,
    give_lease_back,
    is_alive,
    is_wanted,
    open_to_lease,
    take_lease,
)
from mpmetrics.directory.locks import compaction_lock
from mpmetrics.directory.manifest import (
    Manifest,
    Selection,
    look_for_manifest,
    select,
    temporary,
)
from mpmetrics.directory.run_directory import (
    RunDirectory,
    make_private_directory,
    make_run_directory,
    sweep,
    sweep_below,
    take_run_directory,
)

__all__ = [
    "FOLDING",
    "MANIFEST",
    "OLD_VARIABLE",
    "OWN_PREFIX",
    "PROBE_PREFIX",
    "QUARANTINED",
    "SUFFIX",
    "VARIABLE",
    "FileName",
    "Identity",
    "Listing",
    "Liveness",
    "Manifest",
    "ReadBuffer",
    "RunDirectory",
    "Selection",
    "WorkerFile",
    "adopt_old_variable",
    "can_tell",
    "compaction_lock",
    "directory_from_environment",
    "free_name",
    "give_lease_back",
    "inodes",
    "is_alive",
    "is_wanted",
    "list_directory",
    "look_for_manifest",
    "make_private_directory",
    "make_run_directory",
    "open_to_lease",
    "rename_if_free",
    "require_directory",
    "resolve_directory",
    "select",
    "sweep",
    "sweep_below",
    "sync_directory",
    "take_lease",
    "take_run_directory",
    "temporary",
    "unusable_reason",
    "worker_files",
    "write_new",
]
