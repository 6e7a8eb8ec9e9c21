"""The environment variable that names the multiprocess directory.

Only the command, ``path=None`` and the engine adapters come here; everything else is given its
directory. Nothing here sets the variable: prometheus_client looks at it once, when it is first
imported, and a value set later would be half believed.
"""

from __future__ import annotations

import os
import warnings
from typing import Final

from mpmetrics.errors import DirectoryError

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
OLD_VARIABLE: Final = "prometheus_multiproc_dir"


def directory_from_environment(*, stacklevel: int = 2) -> str | None:
    """Return the directory that the environment names, None when no variable is set.

    The lower-case variable of old releases still counts, with a `DeprecationWarning`.
    """
    path = os.environ.get(VARIABLE)
    if path is None:
        path = os.environ.get(OLD_VARIABLE)
        if path is not None:
            message = f"the variable {OLD_VARIABLE} is deprecated, use {VARIABLE}"
            warnings.warn(message, DeprecationWarning, stacklevel=stacklevel + 1)
    return path


def why_unusable(path: str) -> str:
    """Return why *path* cannot serve as a multiprocess directory, "" when it can."""
    if not path:
        return "the path is empty"
    if not os.path.lexists(path):
        return "no such directory"
    if not os.path.isdir(path):
        return "not a directory"
    if not os.access(path, os.R_OK | os.X_OK):
        return "the directory cannot be read by this user"
    return ""


def usable_directory(path: str | os.PathLike[str] | None, *, stacklevel: int = 2) -> str:
    """Return *path*, or the directory that the environment names, as an existing directory.

    Raises `DirectoryError`, a `ValueError`, when there is none.
    """
    if path is None:
        path = directory_from_environment(stacklevel=stacklevel + 1)
        if path is None:
            raise DirectoryError("", f"no directory given and {VARIABLE} is not set")
    text = os.fspath(path)
    why = why_unusable(text)
    if why:
        raise DirectoryError(text, why)
    return text
