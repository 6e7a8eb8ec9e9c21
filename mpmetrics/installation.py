"""`install`: this library in the place of prometheus_client's multiprocess collector.

Many libraries construct that collector themselves, at every scrape. They imported its class, or
will import it. So the class stays, and its methods are replaced.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from mpmetrics._client import (
    MULTIPROCESS,
    CollectorMethods,
    merged_directories,
    replace_collector,
)
from mpmetrics._forks import ForkSafeLock
from mpmetrics._import_hook import ImportHook
from mpmetrics._log_limit import get_log
from mpmetrics.errors import DirectoryError, UnsupportedReleaseError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from prometheus_client import Metric
    from typing_extensions import Self

    from mpmetrics.collector import MultiProcessCollector

_MOST_DIRECTORIES: Final = 8
"""Directories that are remembered from one scrape to the next; a process rarely has two."""

_log = get_log()


class Installation:
    """What a call of `install` has put in place; `uninstall` or the end of a `with` ends it."""

    def __init__(self, replacement: _Replacement) -> None:
        """Belong to a *replacement*, which is in place as long as any installation is."""
        self._replacement = replacement

    def uninstall(self) -> None:
        """Take back what the call has put in place, unless another installation needs it.

        A second call does nothing.
        """
        self._replacement.release(self)

    def __enter__(self) -> Self:
        """Return the installation itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Uninstall."""
        self.uninstall()


def install(*, collector: bool = True) -> Installation:
    """Put mpmetrics in the place of prometheus_client's parts, for all libraries of this process.

    With *collector*, prometheus_client's `MultiProcessCollector` merges as
    `mpmetrics.MultiProcessCollector` does, and its `mark_process_dead` is ours. The names stay the
    same objects: it does not matter who imported them, or when, and collectors that exist already
    follow. Before its import, prometheus_client is not imported, but changed when it is.

    Each call returns an installation of its own. Once all of them are uninstalled, everything is
    as it was before. Any thread may call. Raises `UnsupportedReleaseError` if the release of
    prometheus_client lacks a part; if it is imported later, that is logged.
    """
    installation = Installation(_collector_replacement)
    if collector:
        _collector_replacement.hold(installation)
    return installation


class _Replacement:
    """The methods of prometheus_client's collector, replaced while any installation holds it."""

    def __init__(self, replace: Callable[..., Callable[[], None] | None]) -> None:
        """Begin without installations; *replace* returns the way back, None if it is too early."""
        self._replace = replace
        self._lock = ForkSafeLock()
        self._holders: set[Installation] = set()
        # One for each class: importers keep the former ones of a module that is reloaded.
        self._restores: list[Callable[[], None]] = []
        self._is_replaced = False
        self._hook = ImportHook(MULTIPROCESS, self._replace_after_import)

    def hold(self, installation: Installation) -> None:
        """Replace the methods, now or after their import, at least until *installation* ends."""
        with self._lock:
            if not self._holders:
                self._hook.set()
            self._holders.add(installation)
        if MULTIPROCESS in sys.modules:
            # Another thread may be importing it: wait for that, without the lock.
            import_module(MULTIPROCESS)
        try:
            self._replace_once()
        except UnsupportedReleaseError:
            self.release(installation)
            raise

    def release(self, installation: Installation) -> None:
        """Put the methods back if *installation* is the last one."""
        with self._lock:
            if installation not in self._holders:
                return
            self._holders.remove(installation)
            if not self._holders:
                self._hook.remove()
                while self._restores:
                    self._restores.pop()()
                self._is_replaced = False

    def _replace_once(self, *, is_executed: bool = False) -> None:
        """Replace the methods, if that is to be done, and can be."""
        with self._lock:
            if not self._holders or self._is_replaced:
                return
            restore = self._replace(is_executed=is_executed)
            if restore is not None:
                self._restores.append(restore)
                self._is_replaced = True

    def _replace_after_import(self) -> None:
        """Replace the methods of a module that has just been executed."""
        with self._lock:
            self._is_replaced = False  # that was its former class, if it was reloaded
        try:
            self._replace_once(is_executed=True)
        except UnsupportedReleaseError as error:  # the import must succeed all the same
            _log.warning("prometheus_client's collector stays in place: %s", error)


def _replace_collector(*, is_executed: bool) -> Callable[[], None] | None:
    """Replace the methods, if their module is imported. Raises `UnsupportedReleaseError`."""
    return replace_collector(_make_methods, is_executed=is_executed)


def _make_methods(former: CollectorMethods) -> CollectorMethods:
    """Return the methods that take the place of the *former* ones.

    Raises `UnsupportedReleaseError` if mpmetrics cannot work with the release.
    """
    # Now, not at the first scrape: if a process forks while a thread imports a module, the child
    # waits for ever when it needs that module.
    try:
        import_module("mpmetrics.collector")
    except ImportError as error:
        raise UnsupportedReleaseError(
            package="prometheus_client", release="", why=str(error)
        ) from error
    return CollectorMethods(_make_collect(former), _merge, _mark_process_dead)


_collector_replacement: Final = _Replacement(_replace_collector)
"""State of the whole process, as the class is whose methods are replaced."""


def _make_collect(former: CollectorMethods) -> Callable[[Any], Iterable[Metric]]:
    """Return a method `collect` for the class of the *former* methods."""

    def collect(self: Any) -> Iterable[Metric]:
        """Return the merged families of the directory."""
        paths = merged_directories(self)
        if not paths or type(self).merge is not _merge:  # a subclass with rules of its own
            return former.collect(self)
        try:
            return _collector_of(paths[0]).collect()
        except DirectoryError:  # it has gone since the collector was made
            return []

    return collect


@lru_cache(maxsize=_MOST_DIRECTORIES)
def _collector_of(path: str) -> MultiProcessCollector:
    """Return a collector that remembers *path* from one scrape to the next.

    Raises `DirectoryError`, which is not remembered.
    """
    from mpmetrics.collector import MultiProcessCollector

    return MultiProcessCollector(None, path)


def _merge(
    files: Iterable[str | os.PathLike[str]],
    accumulate: bool = True,  # noqa: FBT001, FBT002 - prometheus_client's signature
) -> Iterable[Metric]:
    """Merge *files* as `mpmetrics.MultiProcessCollector.merge` does."""
    from mpmetrics.collector import MultiProcessCollector

    return MultiProcessCollector.merge(files, accumulate)


def _mark_process_dead(pid: int | str, path: str | None = None) -> None:
    # These instructions become those of prometheus_client's function, with the globals of its
    # module: they import what they need.
    from mpmetrics.collector import mark_process_dead

    mark_process_dead(pid, path)
