"""The sources of a page that are a directory or a registry, and what stands for a source."""

from __future__ import annotations

import inspect
import os
from typing import TYPE_CHECKING, Final, TypeAlias, Union

from mpmetrics.errors import Problem, SourceError
from mpmetrics.pages.directory_source import DirectorySource
from mpmetrics.pages.source import (
    Collector,
    Gathered,
    Source,
    SourceGroup,
    SupportsReadiness,
)
from mpmetrics.pages.text_source import TextSource
from mpmetrics.pages.url_source import UrlSource

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from collections.abc import Set as AbstractSet

    from prometheus_client import Metric


MOST_FAMILIES: Final = 50_000
"""The most families that are read from a registry: one without end must not take all memory."""

SourceLike: TypeAlias = Union[
    Source, str, "os.PathLike[str]", Collector, "Callable[[], str | bytes]"
]
"""What stands for one source.

A `Source` stands for itself, a string with :// in it for a URL, any other path for a directory, an
object with `collect` (a registry or a collector) for its families, and a callable for the page of
text that it returns.
"""

Sources: TypeAlias = Union[
    SourceLike,
    SourceGroup,
    "Sequence[SourceLike | SourceGroup]",
    "AbstractSet[SourceLike | SourceGroup]",
]
"""What stands for the sources of a page.

A `SourceLike`, a `SourceGroup` such as a `mpmetrics.Registration`, or a list, tuple or set of them.
"""


class RegistrySource:
    """The families of this process: a registry, or a single collector."""

    in_process = True

    def __init__(self, registry: Collector, name: str = "registry") -> None:
        """Configure only; nothing is collected yet."""
        self.name = name
        self._registry = registry

    def readiness_errors(self) -> Sequence[str]:
        """Return what the collector says is missing, if it says so."""
        registry = self._registry
        return registry.readiness_errors() if isinstance(registry, SupportsReadiness) else ()

    def gather(self) -> Gathered:
        """Collect; when one of the collectors raises, keep what came before it.

        Raises `SourceError` when there are more than `MOST_FAMILIES`.
        """
        families: list[Metric] = []
        problems = []
        try:
            # Not `list`, which would lose what was yielded before an exception.
            for family in self._registry.collect():
                families.append(family)
                if len(families) > MOST_FAMILIES:
                    break
        except Exception as error:
            if not families:
                raise
            detail = f"a collector raised {type(error).__name__}: {error}; the rest is missing"
            problems.append(Problem(self.name, "source_failed", detail))
        if len(families) > MOST_FAMILIES:
            raise SourceError(self.name, f"it has more than {MOST_FAMILIES} families")
        return Gathered(families, problems)


def as_sources(given: Sources) -> list[Source]:
    """Return the sources that *given* stands for: one, or a list, tuple or set of them.

    Raises `SourceError` for anything that stands for no source.
    """
    # A named tuple, such as a registration, is one object and not several.
    if isinstance(given, list | tuple | set | frozenset) and not hasattr(given, "_fields"):
        return [source for each in given for source in _expand(each)]
    return list(_expand(given))  # type: ignore[arg-type]  # _expand refuses other collections


def _expand(given: SourceLike | SourceGroup) -> Sequence[Source]:
    """Return the sources of a group, or the one that *given* stands for."""
    if isinstance(given, Source) and not isinstance(given, type):
        return [given]
    if isinstance(given, SourceGroup) and callable(given.sources) and not isinstance(given, type):
        return given.sources()
    return [as_source(given)]


def as_source(given: SourceLike) -> Source:
    """Return the source that *given* stands for.

    A string with :// in it is a URL, any other path a directory; something with `collect` a
    registry; a callable a text callback. Raises `SourceError` for anything else, such as a class,
    whose calls and methods give no metrics, an empty path, or a function that cannot be called.
    """
    if isinstance(given, type):
        raise SourceError(repr(given), "a class, where an object of it is needed")
    if isinstance(given, Source):
        return given
    if isinstance(given, str) and "://" in given:
        return UrlSource(given)
    if isinstance(given, str | os.PathLike):
        if not given:
            raise SourceError(repr(given), "the path of the directory is empty")
        return DirectorySource(given)
    if isinstance(given, Collector):
        return RegistrySource(given)
    if callable(given):
        _check_callback(given)
        return TextSource(given, getattr(given, "__name__", "text"))
    raise SourceError(repr(given), "not a directory, a URL, a registry or a callback")


def _check_callback(callback: Callable[..., object]) -> None:
    """Raise `SourceError` for a *callback* that needs arguments, or an event loop."""
    if inspect.iscoroutinefunction(callback):
        raise SourceError(
            repr(callback), "an async function, where one that returns text is needed"
        )
    try:
        inspect.signature(callback).bind()
    except TypeError as error:
        raise SourceError(repr(callback), f"a function that needs arguments: {error}") from error
    except ValueError:  # a function in C, of which nothing is known
        pass
