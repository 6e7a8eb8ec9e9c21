"""The multiprocess directory of an engine: the environment's, or a private one.

`ensure_multiproc_dir` sets the variable `PROMETHEUS_MULTIPROC_DIR`, and `MultiprocDirectory.close`
removes it. Call `ensure_multiproc_dir` before anything imports prometheus_client, which reads the
variable once, when it is imported. For the same reason this module does not import it.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import AbstractContextManager, suppress
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Final

from mpmetrics._client import names_of_metrics, values_in_memory
from mpmetrics._log_limit import get_log
from mpmetrics._text import enumerate_names
from mpmetrics.directory import (
    VARIABLE,
    directory_from_environment,
    find_mistake,
    make_run_directory,
    sweep_below,
    unusable_reason,
)
from mpmetrics.errors import RunDirectoryError

if TYPE_CHECKING:
    from types import TracebackType

    from mpmetrics.directory import RunDirectory

_log = get_log()

_EXIT_PRIORITY: Final = -100
"""Priority of our finalizer: multiprocessing runs those below 0 after it has joined children."""


class MultiprocDirectory(AbstractContextManager["MultiprocDirectory"]):
    """A multiprocess directory: its *path*, and what is known about it.

    `owned`: this process made it, and `close` removes it, at the latest when the interpreter ends.
    `recreated`: it was missing and has been created again, empty. `unusable_reason`: a sentence,
    "" if the directory can be used. `latched`: prometheus_client was imported too early, so this
    process keeps its values in memory; `lost` are the names of the metrics that are not in the
    directory for that reason.

    You can use it wherever a path is accepted, and in a `with` statement.
    """

    def __init__(
        self,
        path: str,
        *,
        run_directory: RunDirectory | None = None,
        recreated: bool = False,
    ) -> None:
        """Describe the directory *path*; this process owns it if there is a *run_directory*."""
        self.path = path
        self.recreated = recreated
        self.latched = values_in_memory()
        self.lost = _find_lost_metrics() if self.latched else ()
        self.unusable_reason = unusable_reason(path)
        self._run_directory = run_directory
        self._pid = os.getpid()
        # Not with atexit, which may run before multiprocessing ends the children that still use
        # the directory, and which does not run at all in a child that owns a directory.
        self._finalizer = (
            Finalize(None, self.close, exitpriority=_EXIT_PRIORITY) if run_directory else None
        )

    @property
    def owned(self) -> bool:
        """Whether this process has made the directory, and removes it."""
        return self._run_directory is not None and self._pid == os.getpid()

    def close(self) -> bool:
        """Remove the directory if it is owned and unused by others; return whether it is removed.

        If another process uses it, the next start with the same prefix removes it, as soon as no
        process uses it any more.
        """
        run_directory, is_owned = self._run_directory, self.owned
        self._run_directory = None
        if run_directory is None or not is_owned:
            return False
        if self._finalizer is not None:
            self._finalizer.cancel()
        # Processes that start from here on must not look for the directory.
        if os.environ.get(VARIABLE) == self.path:
            del os.environ[VARIABLE]
        try:
            return not run_directory.release(keep=False, besides=str(self._pid))
        except OSError as error:
            _log.warning("%s is left behind: %s", self.path, error)
            return False

    def __fspath__(self) -> str:
        """Return the path."""
        return self.path

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()


def ensure_multiproc_dir(prefix: str = "mpmetrics-engine-") -> MultiprocDirectory:
    """Make sure that the environment names an existing multiprocess directory; return it.

    If `PROMETHEUS_MULTIPROC_DIR` is set, its directory is used, and recreated if it is missing.
    Otherwise a private directory is made, inside one whose name begins with *prefix*; the variable
    is set in the environment of this process and its children, and the caller owns the directory.
    Directories under the same prefix that killed owners have left are removed, once no process
    uses them.

    Raises nothing: a directory that cannot be used is logged as an error. If prometheus_client was
    imported too early, a warning names the metrics that are in no file for that reason.
    """
    path = directory_from_environment()
    directory = _use_directory(path) if path else _make_directory(prefix)
    if directory.unusable_reason:
        _log.error("%s=%r is of no use: %s", VARIABLE, directory.path, directory.unusable_reason)
    if directory.latched:
        _log.warning(
            "prometheus_client was imported before %s was set: this process keeps its values in "
            "memory, and all of its metrics are missing in %s, those that are yet to be made and "
            "these: %s",
            VARIABLE,
            directory.path,
            enumerate_names(directory.lost, 5) or "none",
        )
    return directory


def recreate_if_missing(path: str) -> bool:
    """Recreate the directory *path* if it is missing; return whether it was and has been.

    A path that has a mistake is not made.
    """
    if os.path.lexists(path) or find_mistake(path):
        return False
    try:
        os.makedirs(path, exist_ok=True)
    except (OSError, ValueError):
        return False
    _log.warning("%s was missing and has been recreated; what was in it is lost", path)
    return True


def _use_directory(path: str) -> MultiprocDirectory:
    """Return the directory *path*, which the environment names."""
    os.environ.setdefault(VARIABLE, path)  # the lower-case variable is deprecated
    recreated = recreate_if_missing(path)
    return MultiprocDirectory(path, recreated=recreated)


def _make_directory(prefix: str) -> MultiprocDirectory:
    """Make a private directory, and set the variable to its path."""
    try:
        base = tempfile.gettempdir()
        for path in sweep_below(base, prefix):
            _log.info("%s was left behind and has been removed", path)
        run_directory = make_run_directory(base, prefix)
    except (RunDirectoryError, OSError) as error:  # no temporary directory may be writable
        _log.error("there is no multiprocess directory: %s", error)
        return MultiprocDirectory("")
    os.environ[VARIABLE] = run_directory.path
    return MultiprocDirectory(run_directory.path, run_directory=run_directory)


def _find_lost_metrics() -> tuple[str, ...]:
    """Return the names of the metrics in the global registry; none while it is being imported."""
    with suppress(ImportError):
        from prometheus_client import REGISTRY

        return tuple(names_of_metrics(REGISTRY))
    return ()
