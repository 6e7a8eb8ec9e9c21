"""The multiprocess directory of an engine: taken from the environment, or made and owned.

To be called before anything imports prometheus_client, which looks at the environment once, at
that moment. So nothing here imports it, either.
"""

from __future__ import annotations

import logging
import os
import tempfile
from contextlib import AbstractContextManager, suppress
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING

from mpmetrics._client import names_of_metrics, values_in_memory
from mpmetrics.directory import (
    VARIABLE,
    directory_from_environment,
    make_run_directory,
    sweep_below,
    unusable_reason,
)
from mpmetrics.errors import RunDirectoryError

if TYPE_CHECKING:
    from types import TracebackType

    from mpmetrics.directory import RunDirectory

_log = logging.getLogger("mpmetrics")

_LAST = -100
"""The priority at which multiprocessing lets us go: below 0, after it has waited for children."""


class MultiprocDirectory(AbstractContextManager["MultiprocDirectory"]):
    """A multiprocess directory: its *path*, and what is to be known about it.

    `owned`: it was made here, and is removed by `close`, at the latest when the interpreter ends.
    `recreated`: it was not there any more and has been made anew, empty. `unusable_reason`: a
    sentence, "" if all is well. `latched`: prometheus_client was imported too early, and this
    process keeps its values in memory; `lost` are the names of the metrics that are not in the
    directory for that reason.

    It can be used wherever a path can, and in a `with` statement.
    """

    def __init__(
        self,
        path: str,
        *,
        workplace: RunDirectory | None = None,
        recreated: bool = False,
    ) -> None:
        """Take the directory *path*; with a *workplace* it is ours."""
        self.path = path
        self.recreated = recreated
        self.latched = values_in_memory()
        self.lost = _metrics_in_memory() if self.latched else ()
        self.unusable_reason = unusable_reason(path)
        self._workplace = workplace
        self._pid = os.getpid()
        # Not by atexit, which may come before multiprocessing ends the children that still use
        # the directory, and which does not come at all in a child that has one of its own.
        self._at_exit = Finalize(None, self.close, exitpriority=_LAST) if workplace else None

    @property
    def owned(self) -> bool:
        """Whether it is for this process to remove."""
        return self._workplace is not None and self._pid == os.getpid()

    def close(self) -> bool:
        """Remove the directory if it is owned and no other process uses it; tell whether it went.

        One that stays is removed by the next start with the same prefix that finds it unused.
        """
        workplace, is_owned = self._workplace, self.owned
        self._workplace = None
        if workplace is None or not is_owned:
            return False
        if self._at_exit is not None:
            self._at_exit.cancel()
        # Whoever is started from here on must not look for it.
        if os.environ.get(VARIABLE) == self.path:
            del os.environ[VARIABLE]
        try:
            return not workplace.release(keep=False, besides=str(self._pid))
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
    """See to it that the environment names a multiprocess directory that is there.

    One that the environment names already is taken as it is, and made anew if it has vanished.
    Otherwise a private one is made whose name begins with *prefix*, the variable is set, and the
    caller owns it. What owners that were killed have left under the same prefix is removed.

    Raises nothing: a directory that is of no use is logged as an error, and metrics that are in
    no file, because prometheus_client was imported too early, are named in a warning.
    """
    path = directory_from_environment()
    directory = _taken(path) if path else _made(prefix)
    if directory.unusable_reason:
        _log.error("%s=%r is of no use: %s", VARIABLE, directory.path, directory.unusable_reason)
    if directory.latched:
        _log.warning(
            "prometheus_client was imported before %s was set: this process keeps its values in "
            "memory, and all of its metrics are missing in %s, those that are yet to be made and "
            "these: %s",
            VARIABLE,
            directory.path,
            ", ".join(directory.lost) or "none",
        )
    return directory


def recreate_if_missing(path: str) -> bool:
    """Make the directory *path* anew if it is missing; tell whether that was so and is no more."""
    if os.path.lexists(path):
        return False
    try:
        os.makedirs(path, exist_ok=True)
    except (OSError, ValueError):
        return False
    _log.warning("%s was missing and has been made anew; what was in it is lost", path)
    return True


def _taken(path: str) -> MultiprocDirectory:
    """Return the directory that the environment names."""
    os.environ.setdefault(VARIABLE, path)  # the lower-case one is deprecated
    recreated = recreate_if_missing(path)
    return MultiprocDirectory(path, recreated=recreated)


def _made(prefix: str) -> MultiprocDirectory:
    """Make a directory, and have the environment name it."""
    try:
        base = tempfile.gettempdir()
        for path in sweep_below(base, prefix):
            _log.info("%s was left behind and has been removed", path)
        workplace = make_run_directory(base, prefix)
    except (RunDirectoryError, OSError) as error:  # there may be no room for a file anywhere
        _log.error("there is no multiprocess directory: %s", error)
        return MultiprocDirectory("")
    os.environ[VARIABLE] = workplace.path
    return MultiprocDirectory(workplace.path, workplace=workplace)


def _metrics_in_memory() -> tuple[str, ...]:
    """Return the names of the metrics in the global registry; none while it is being imported."""
    with suppress(ImportError):
        from prometheus_client import REGISTRY

        return tuple(names_of_metrics(REGISTRY))
    return ()
