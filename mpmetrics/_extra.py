"""The packages of the extra `serve`, which may be missing."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from mpmetrics.errors import MissingExtraError


def require_module(name: str, *, package: str = "") -> None:
    """Import the module *name* of a *package*. Raises `MissingExtraError`.

    The caller imports it again, where type checkers see it.
    """
    try:
        import_module(name)
    except ImportError as error:
        raise MissingExtraError(package=package or name, extra="serve") from error


def installed_version(package: str) -> str:
    """Return the version of an installed *package*, "" if its metadata are missing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
