"""What stands for sources on an endpoint's page, and two kinds that only such a page has."""

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
    from mpmetrics.pages import Source


def sources_of(registry: Any) -> list[Source]:
    """Return the sources that *registry* stands for. Raises `SourceError`."""
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
    """The families of a page, with its labels."""

    in_process = False

    def __init__(self, page: Page, name: str = "page") -> None:
        """Scrape *page* whenever asked."""
        self.name = name
        self._page = page

    def gather(self) -> Gathered:
        """Scrape the page, which raises nothing for what its sources do."""
        return Gathered(self._page.families())


class EngineDirectorySource:
    """The merged view of the directory that an engine's processes write to, wherever that is.

    The environment may come to name one later, and one that vanishes is made anew, so that
    processes that are still to be started can write.
    """

    in_process = False

    def __init__(self, path: str | None) -> None:
        """Read *path*, or if that is None whatever directory the environment names."""
        self.name = path or VARIABLE
        self._path = path
        self._source: DirectorySource | None = None

    @property
    def path(self) -> str | None:
        """The directory as of now, None if there is none."""
        return self._path or directory_from_environment()

    def gather(self) -> Gathered:
        """Merge the directory; without one there is nothing. Raises `DirectoryError`."""
        path = self.path
        if not path:
            return Gathered(())
        if self._source is None or self._source.path != path:
            self._source = DirectorySource(path)
        lost = recreate_if_missing(path)
        gathered = self._source.gather()
        if not lost:
            return gathered
        problem = Problem(path, "directory_lost", "it was gone and has been made anew")
        return gathered._replace(problems=[*gathered.problems, problem])
