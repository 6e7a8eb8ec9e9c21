"""The environment variable that names the multiprocess directory.

Only the command, ``path=None`` and the engine adapters read it; all other code takes the directory
as an argument. prometheus_client reads the variable once, when it is first imported, so a process
that sets it later goes on to keep its values in memory. Therefore the library sets it in two places
only: `adopt_old_variable` for programs that have set the old name, and
`mpmetrics.engines.ensure_multiproc_dir` for engines, before prometheus_client is imported.
"""

from __future__ import annotations

import os
import warnings
from typing import Final

from mpmetrics.errors import DirectoryError

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
OLD_VARIABLE: Final = "prometheus_multiproc_dir"

_FORBIDDEN: Final = "the directory cannot be read by this user"


def directory_from_environment(*, stacklevel: int = 2) -> str | None:
    """Return the directory that the environment names, None when no variable is set.

    The lower-case variable of old releases of prometheus_client still counts, with a
    `DeprecationWarning`. Its *stacklevel* counts from the caller of this function, which is 1.
    """
    path = os.environ.get(VARIABLE)
    if path is None:
        path = os.environ.get(OLD_VARIABLE)
        if path is not None:
            message = f"the variable {OLD_VARIABLE} is deprecated, use {VARIABLE}"
            warnings.warn(message, DeprecationWarning, stacklevel=stacklevel + 1)
    return path


def adopt_old_variable(*, stacklevel: int = 2) -> None:
    """Copy the lower-case variable to the new one if only the old one is set.

    prometheus_client's `MultiProcessCollector` does the same, and code that relies on the old
    name relies on the copy, too. So only our replacement of that class calls this.
    """
    if VARIABLE not in os.environ:
        path = directory_from_environment(stacklevel=stacklevel + 1)
        if path is not None:
            os.environ[VARIABLE] = path


def unusable_reason(path: str) -> str:
    """Return why *path* cannot serve as a multiprocess directory, "" when it can."""
    if not path:
        return "the path is empty"
    try:
        os.stat(path)
    except PermissionError:
        return _FORBIDDEN
    except (OSError, ValueError):
        return "no such directory"
    if not os.path.isdir(path):
        return "not a directory"
    return "" if os.access(path, os.R_OK | os.X_OK) else _FORBIDDEN


def resolve_directory(path: str | os.PathLike[str] | None, *, stacklevel: int = 2) -> str:
    """Return *path*, or if that is None, the directory that the environment names.

    Raises `DirectoryError`, a `ValueError`, when there is neither.
    """
    if path is None:
        path = directory_from_environment(stacklevel=stacklevel + 1)
        if path is None:
            raise DirectoryError(path="", why=f"no directory given and {VARIABLE} is not set")
    return os.fspath(path)


def require_directory(path: str | os.PathLike[str] | None, *, stacklevel: int = 2) -> str:
    """Return what `resolve_directory` returns, after checking that it is a readable directory.

    Raises `DirectoryError`, a `ValueError`, when it is not.
    """
    directory = resolve_directory(path, stacklevel=stacklevel + 1)
    why = unusable_reason(directory)
    if why:
        raise DirectoryError(directory, why)
    return directory
