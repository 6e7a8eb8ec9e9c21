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
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from mpmetrics._log_limit import get_log
from mpmetrics.errors import DirectoryError

_log = get_log()

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
OLD_VARIABLE: Final = "prometheus_multiproc_dir"

_FORBIDDEN: Final = "the directory cannot be read by this user"

_MISSING: Final = "no such directory"

_QUOTES: Final = "\"'"


def directory_from_environment(*, stacklevel: int = 2) -> str | None:
    """Return the directory that the environment names, None when no variable is set.

    A value that stands for another directory than it seems to is logged once. The lower-case
    variable of old releases of prometheus_client still counts, with a `DeprecationWarning`. Its
    *stacklevel* counts from the caller of this function, which is 1.
    """
    name = VARIABLE
    path = os.environ.get(VARIABLE)
    if path is None:
        name = OLD_VARIABLE
        path = os.environ.get(OLD_VARIABLE)
        if path is not None:
            message = f"the variable {OLD_VARIABLE} is deprecated, use {VARIABLE}"
            warnings.warn(message, DeprecationWarning, stacklevel=stacklevel + 1)
    if path:
        _warn_of_value(name, path)
    return path


@lru_cache(maxsize=16)
def _warn_of_value(name: str, path: str) -> None:
    """Log that a variable has a value which works, but perhaps not as meant; each value once.

    A path with a mistake that does not exist is an error of the caller, who reports it.
    """
    mistake = find_mistake(path)
    if mistake and os.path.isdir(path):
        _log.warning("%s is taken as it is, %r: %s", name, path, mistake)
    elif not mistake and not os.path.isabs(path):
        text = "%s is a relative path, %s: here it is %s, in another current directory it is not"
        _log.warning(text, name, path, os.path.abspath(path))


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
        return _explain_missing(path)
    if not os.path.isdir(path):
        return "not a directory"
    return "" if os.access(path, os.R_OK | os.X_OK) else _FORBIDDEN


def _explain_missing(path: str) -> str:
    """Return that there is no directory *path*, and why that may be."""
    mistake = find_mistake(path)
    if mistake:
        return f"{_MISSING}: {mistake}"
    try:
        target = os.readlink(path)
    except (OSError, ValueError):
        return _MISSING
    return f"{_MISSING}: it is a symbolic link to {target}, where there is nothing"


def unmakeable_reason(path: str) -> str:
    """Return why the directory *path* is not to be made, "" if it is there or can be made.

    To make a path with a mistake would make a directory that is not the one meant.
    """
    if os.path.isdir(path):
        return ""
    if os.path.lexists(path):
        return unusable_reason(path)
    return find_mistake(path)


def find_mistake(path: str) -> str:
    """Return what in *path* only a shell or a browser would replace, "" if there is nothing.

    It is a phrase with the path that may be meant. Such a path is legal, and seldom what a user
    wants: a file of variables, a unit of systemd or a Dockerfile keeps what a shell removes.
    """
    found = [
        what
        for what, is_so in (
            ("a line break in it", "\n" in path or "\r" in path),
            ("a blank at its beginning or end", path != path.strip(" \t")),
            ("quotes around it", path.strip()[:1] in _QUOTES or path.strip()[-1:] in _QUOTES),
            ("a ~ that only a shell replaces", _unquote(path).startswith("~")),
            ("a $ that only a shell replaces", _unquote(path).startswith("$") or "${" in path),
            ("the form of a URL", _unquote(path).startswith("file:") or "://" in path),
        )
        if path.strip() and is_so
    ]
    if not found:
        return ""
    meant = _guess_meant(path)
    return f"the path has {' and '.join(found)}" + (f"; is {meant} meant?" if meant else "")


def _unquote(path: str) -> str:
    """Return *path* without blanks, line breaks and quotes around it."""
    return path.strip().strip(_QUOTES).strip()


def _guess_meant(path: str) -> str:
    """Return the absolute path that may be meant by *path*, "" if there is none."""
    meant = _unquote(path)
    if meant.startswith("file:"):
        meant = unquote("/" + meant.removeprefix("file:").removeprefix("//localhost").lstrip("/"))
    meant = os.path.expandvars(os.path.expanduser(meant))
    is_plain = meant.isprintable() and "$" not in meant
    return meant if is_plain and os.path.isabs(meant) else ""


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


def expect_directory(
    path: str | os.PathLike[str] | None, *, stacklevel: int = 2
) -> tuple[str, str]:
    """Return what `resolve_directory` returns, and why there is no such directory yet, "" if it is.

    Raises `DirectoryError`, a `ValueError`, when the path cannot become a readable directory: it is
    something else, it has a mistake, or this user may not read it.
    """
    directory = resolve_directory(path, stacklevel=stacklevel + 1)
    why = unusable_reason(directory)
    if why and (not why.startswith(_MISSING) or find_mistake(directory)):
        raise DirectoryError(directory, why)
    return directory, why
