"""The multiprocess directory: which files there are, which count, and whose process is alive."""

from __future__ import annotations

from mpmetrics.directory.atomic import (
    find_free_name,
    rename_if_free,
    sync_directory,
    write_new_file,
)
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
    list_directory,
    list_files,
    list_inodes,
)
from mpmetrics.directory.liveness import (
    PROBE_PREFIX,
    Liveness,
    has_proven_leases,
    has_waiting_writer,
    is_alive,
    open_for_lease,
    release_lease,
    take_lease,
)
from mpmetrics.directory.locks import make_compaction_lock
from mpmetrics.directory.manifest import (
    Manifest,
    Selection,
    find_manifest,
    select_files,
    temporary_name,
)
from mpmetrics.directory.run_directory import (
    RunDirectory,
    make_private_directory,
    make_run_directory,
    sweep_below,
    sweep_run_directories,
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
    "directory_from_environment",
    "find_free_name",
    "find_manifest",
    "has_proven_leases",
    "has_waiting_writer",
    "is_alive",
    "list_directory",
    "list_files",
    "list_inodes",
    "make_compaction_lock",
    "make_private_directory",
    "make_run_directory",
    "open_for_lease",
    "release_lease",
    "rename_if_free",
    "require_directory",
    "resolve_directory",
    "select_files",
    "sweep_below",
    "sweep_run_directories",
    "sync_directory",
    "take_lease",
    "take_run_directory",
    "temporary_name",
    "unusable_reason",
    "write_new_file",
]
