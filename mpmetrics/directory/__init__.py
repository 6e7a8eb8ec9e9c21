"""The multiprocess directory: its files, which of them count, and whether a worker is alive."""

from __future__ import annotations

from mpmetrics._opening import open_regular, read_regular
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
    expect_directory,
    find_mistake,
    require_directory,
    resolve_directory,
    unmakeable_reason,
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
    PROVER,
    LeaseProver,
    Liveness,
    has_waiting_writer,
    is_alive,
    open_for_lease,
    prove_leases,
    release_lease,
    take_lease,
)
from mpmetrics.directory.locks import make_compaction_lock, try_lock
from mpmetrics.directory.manifest import (
    Manifest,
    Selection,
    find_manifest,
    select_files,
    temporary_name,
)
from mpmetrics.directory.reserve import refill_reserve, release_reserve
from mpmetrics.directory.run_directory import (
    RunDirectory,
    make_private_directory,
    make_run_directory,
    sweep_below,
    sweep_run_directories,
    take_run_directory,
)
from mpmetrics.directory.run_home import is_made_for_run
from mpmetrics.directory.writers import PLACES, Writer, find_writer

__all__ = [
    "FOLDING",
    "MANIFEST",
    "OLD_VARIABLE",
    "OWN_PREFIX",
    "PLACES",
    "PROBE_PREFIX",
    "PROVER",
    "QUARANTINED",
    "SUFFIX",
    "VARIABLE",
    "FileName",
    "Identity",
    "LeaseProver",
    "Listing",
    "Liveness",
    "Manifest",
    "ReadBuffer",
    "RunDirectory",
    "Selection",
    "WorkerFile",
    "Writer",
    "adopt_old_variable",
    "directory_from_environment",
    "expect_directory",
    "find_free_name",
    "find_manifest",
    "find_mistake",
    "find_writer",
    "has_waiting_writer",
    "is_alive",
    "is_made_for_run",
    "list_directory",
    "list_files",
    "list_inodes",
    "make_compaction_lock",
    "make_private_directory",
    "make_run_directory",
    "open_for_lease",
    "open_regular",
    "prove_leases",
    "read_regular",
    "refill_reserve",
    "release_lease",
    "release_reserve",
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
    "try_lock",
    "unmakeable_reason",
    "unusable_reason",
    "write_new_file",
]
