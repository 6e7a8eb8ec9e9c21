"""The sources of an endpoint's page: what an argument stands for, and two kinds of source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import REGISTRY

from mpmetrics._client import merged_directories
from mpmetrics.directory import VARIABLE, directory_from_environment
from mpmetrics.engines.directory import recreate_if_missing
from mpmetrics.errors import Problem
from mpmetrics.pages import DirectorySource, Gathered, Page, RegistrySource, as_source
from mpmetrics.registration import Registration

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpmetrics.pages import Source


def resolve_sources(registry: Any) -> list[Source]:
    """Return the sources that the argument *registry* stands for. Raises `SourceError`."""
    if registry is None:
        registry = REGISTRY
    if isinstance(registry, Registration):
        return registry.sources()
    if isinstance(registry, Page):
        return [PageSource(registry)]
    source = as_source(registry)
    if not isinstance(source, RegistrySource):
        return [source]
    # In a registry, what another collector has merged looks like this process's share.
    return [*(DirectorySource(path) for path in merged_directories(registry)), source]


class PageSource:
    """The families of a page, with the labels that the page adds."""

    in_process = False

    def __init__(self, page: Page, name: str = "page") -> None:
        """Take families from *page*."""
        self.name = name
        self._page = page

    def gather(self) -> Gathered:
        """Scrape the page, which raises nothing when its sources fail."""
        return Gathered(self._page.families())


class EngineDirectorySource:
    """The merged view of the directory that an engine's processes write to.

    The environment may come to name another directory later. A directory that vanishes is
    recreated, so that processes that start later can write.
    """

    in_process = False

    def __init__(self, path: str | None) -> None:
        """Read the directory *path*, or if that is None the one that the environment names."""
        self.name = DirectorySource(path).name if path else VARIABLE
        self._path = path
        self._source: DirectorySource | None = None

    @property
    def path(self) -> str | None:
        """The current directory, None if there is none."""
        return self._path or directory_from_environment()

    def gather(self) -> Gathered:
        """Merge the directory; without a directory there are no families.

        Raises `DirectoryError`.
        """
        return self._ask(DirectorySource.gather)

    def read_segments(self) -> Gathered:
        """Read the directory, to merge it with others. Raises `DirectoryError`."""
        return self._ask(DirectorySource.read_segments)

    def _ask(self, how: Callable[[DirectorySource], Gathered]) -> Gathered:
        """Ask the source of the current directory, which is recreated if it is missing."""
        path = self.path
        if not path:
            return Gathered(())
        if self._source is None or self._source.path != path:
            self._source = DirectorySource(path)
        is_lost = recreate_if_missing(path)
        gathered = how(self._source)
        if not is_lost:
            return gathered
        problem = Problem(path, "directory_lost", "it was missing and has been recreated")
        return gathered._replace(problems=[*gathered.problems, problem])
