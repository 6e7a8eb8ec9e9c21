"""The merged view in a registry, whatever state the process is in.

`register` reports every outcome: there is no exception to catch, and no page that silently has
the values of one process only.
"""

from __future__ import annotations

import os
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from prometheus_client import REGISTRY

from mpmetrics._client import collectors_by_name, new_registry, values_in_memory
from mpmetrics._text import enumerate_names, one_line, shorten
from mpmetrics.collector import MultiProcessCollector
from mpmetrics.directory import VARIABLE, directory_from_environment, require_directory
from mpmetrics.errors import DirectoryError
from mpmetrics.exposition import registered_names
from mpmetrics.pages import DirectorySource, Page, RegistrySource
from mpmetrics.scrape import collect

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from prometheus_client import Metric

    from mpmetrics.exposition import Prefixes
    from mpmetrics.pages import Source

    Mode = Literal["shared", "isolated", "in_process"]

_IN_MEMORY: Final = (
    f"{VARIABLE} was not set when prometheus_client was imported, so this process keeps its own "
    "values in memory, where no other process sees them"
)

_NAME_LENGTH: Final = 100
"""Characters of a name in a reason: names come from files, which may have any."""


class Registration(NamedTuple):
    """What `register` did: *mode*, the *reason* as a sentence, and the *registry* to read.

    "shared": the given registry accepted the merged view. "isolated": it already had the same
    timeseries, so *registry* is a new one that holds the merged view alone. "in_process": there
    is no merged view; *registry* is the given one and has this process's values only.

    *path* is the directory, None if there is no usable one; *given* is the given registry.
    *collector* is the merged view that this call put into the given registry, if it did.
    *details* are the names that both have, of which the reason has only the first.
    """

    mode: Mode
    reason: str
    registry: Any
    path: str | None
    given: Any
    collector: MultiProcessCollector | None = None
    details: tuple[str, ...] = ()

    def sources(self) -> list[Source]:
        """Return the sources of a page that has every family once: the merged view comes first."""
        registry = RegistrySource(self.given)
        return [registry] if self.path is None else [DirectorySource(self.path), registry]

    def page(
        self,
        include: Prefixes = (),
        exclude: Prefixes = (),
        labels: Mapping[str, str] | None = None,
        *,
        timeout: float | None = None,
        directory_label: str | None = None,
    ) -> Page:
        """Return a page that has every family once: merged where there is a merged value.

        This includes families that the registry gets later. The arguments are those of `Page`.
        """
        return Page(
            self.sources(),
            include,
            exclude,
            labels,
            timeout=timeout,
            directory_label=directory_label,
        )

    def withdraw(self) -> None:
        """Take the merged view out of the given registry again, if it was put there."""
        if self.collector is not None:
            with suppress(KeyError):  # another caller may have unregistered it
                self.given.unregister(self.collector)
            _accepted_views.remove(self.given, self.collector.path)


def register(
    registry: Any = None,
    path: str | os.PathLike[str] | None = None,
) -> Registration:
    """Register the merged view of *path* (or of the environment's directory) with *registry*.

    None stands for prometheus_client's global registry. If the registry already has timeseries of
    the same names, it stays unchanged and the merged view goes to an isolated registry. If there
    is no directory to merge, nothing is registered, and no error is raised.
    """
    given = REGISTRY if registry is None else registry
    directory = directory_from_environment() if path is None else os.fspath(path)
    if directory is None:
        return _in_process(given, f"{VARIABLE} is not set")
    try:
        return _register_view(given, require_directory(directory))
    except DirectoryError as error:  # it may go away at any moment
        named = "the directory" if path is not None else VARIABLE
        return _in_process(given, f"{named} is of no use: {directory!r}: {error.why}")


def _register_view(given: Any, directory: str) -> Registration:
    """Register the merged view of *directory* with the registry *given*.

    Raises `DirectoryError` when the directory cannot be read.
    """
    families = collect(directory).families
    in_memory = values_in_memory()
    if in_memory and not families:
        # The page reads the directory all the same: other processes may still write to it.
        reason = f"{_IN_MEMORY}, and {directory} is empty"
        return Registration("in_process", reason, given, directory, given)
    remark = f"; but {_IN_MEMORY}" if in_memory else ""
    if _accepted_views.has(given, directory):
        reason = f"the registry has the merged view of {directory} already{remark}"
        return Registration("shared", reason, given, directory, given)
    duplicates = _find_duplicates(given, families)
    if duplicates is None:
        collector = MultiProcessCollector(given, directory)
        _accepted_views.add(given, directory)
        reason = f"the registry accepted the merged view of {directory}{remark}"
        return Registration("shared", reason, given, directory, given, collector)
    isolated = new_registry()
    MultiProcessCollector(isolated, directory)
    shown = enumerate_names([shorten(one_line(each), _NAME_LENGTH) for each in duplicates])
    reason = f"the registry already has timeseries that {directory} has, too: {shown}{remark}"
    return Registration("isolated", reason, isolated, directory, given, details=duplicates)


def _in_process(given: Any, why: str) -> Registration:
    """Return the registration of a process without a usable directory."""
    reason = f"{why}; only the values of this process are served"
    return Registration("in_process", reason, given, None, given)


class _AcceptedViews:
    """Which registries have accepted the merged views of which directories.

    A registry can be passed to `register` again, by another part of the program that knows
    nothing of the first call, and must not get the same view twice.
    """

    def __init__(self) -> None:
        self._paths: weakref.WeakKeyDictionary[Any, set[str]] = weakref.WeakKeyDictionary()

    def add(self, registry: Any, path: str) -> None:
        self._paths.setdefault(registry, set()).add(os.path.realpath(path))

    def remove(self, registry: Any, path: str) -> None:
        self._paths.get(registry, set()).discard(os.path.realpath(path))

    def has(self, registry: Any, path: str) -> bool:
        return os.path.realpath(path) in self._paths.get(registry, ())


_accepted_views: Final = _AcceptedViews()
"""State of the whole process, as the registries are: a registry has no place for a remark."""


class _NameClaim:
    """A collector that claims the names of families and gives nothing."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def describe(self) -> Iterable[Metric]:
        return self._families

    def collect(self) -> Iterable[Metric]:
        return []


def _find_duplicates(registry: Any, families: Sequence[Metric]) -> tuple[str, ...] | None:
    """Return the names in *families* that *registry* refuses, None if it accepts all of them.

    Register a claim of the names, which prometheus_client refuses with a `ValueError`, and take
    it back. The claim reads nothing from disk: the registry holds its lock meanwhile.
    """
    claim = _NameClaim(families)
    try:
        registry.register(claim)
    except ValueError as error:
        names = {name for each in families for name in registered_names(each.name, each.type)}
        taken = names.intersection(collectors_by_name(registry))
        return tuple(sorted(taken)) or (str(error),)
    registry.unregister(claim)
    return None
