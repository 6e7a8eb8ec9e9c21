"""The sources of a page: a directory, a registry, a text callback, a URL.

A source gathers its families when the page calls it, and raises when it cannot. The page decides
what that costs.
"""

from __future__ import annotations

import gzip
import io
import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias, Union, runtime_checkable
from urllib.request import Request, urlopen

from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from mpmetrics.directory import Liveness, is_alive
from mpmetrics.errors import Problem, SourceError
from mpmetrics.scrape import Collection, DirectoryReading, DirectoryView

if TYPE_CHECKING:
    import http.client
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from prometheus_client import Metric

    from mpmetrics.directory import WorkerFile

DEFAULT_TIMEOUT: Final = 5.0
"""Seconds that another exporter has to answer."""

LARGEST_PAGE: Final = 64 << 20
"""The most bytes of another exporter's page, uncompressed, that are read."""

MOST_FAMILIES: Final = 50_000
"""The most families that are read from a registry: one without end must not take all memory."""

_CHUNK: Final = 1 << 16
_GZIP: Final = ("gzip", "x-gzip")
_ACCEPT: Final = (
    "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1"
)


class Gathered(NamedTuple):
    """What a source gave: *families* and *problems*.

    A directory also gives the whole *collection*, and how many *processes* wrote its files, by
    state. Instead of families a source may give *readings* of directories, which are merged with
    those of the other sources, and whether each directory *is_up*, by the end of its name.
    """

    families: Sequence[Metric]
    problems: Sequence[Problem] = ()
    collection: Collection | None = None
    processes: Mapping[str, int] = {}
    readings: Sequence[DirectoryReading] = ()
    is_up: Mapping[str, bool] = {}


def describe_failure(source: str, error: BaseException) -> Problem:
    """Return *error* as the problem that it is for the families of *source*."""
    return Problem(source, "source_failed", f"{type(error).__name__}: {error}")


@runtime_checkable
class Source(Protocol):
    """An object that gives families for a page.

    `name` is the value of the label `source` in the page's self-metrics. The families of a source
    that is `in_process` are this process's share only: the merged view of a directory beats them.
    """

    name: str
    in_process: bool

    def gather(self) -> Gathered:
        """Return the current families; raise any exception when that is impossible."""
        ...  # pragma: no cover - a protocol has no body


@runtime_checkable
class SegmentSource(Source, Protocol):
    """A source that reads directories, whose segments are merged with those of other sources."""

    def read_segments(self) -> Gathered:
        """Return current readings instead of families; raise any exception if impossible."""
        ...  # pragma: no cover - a protocol has no body


@runtime_checkable
class Collector(Protocol):
    """A `prometheus_client.CollectorRegistry`, or anything else that collects."""

    def collect(self) -> Iterable[Metric]:
        """Return or yield families."""
        ...  # pragma: no cover - a protocol has no body


@runtime_checkable
class SourceGroup(Protocol):
    """An object that stands for several sources: a `mpmetrics.Registration`."""

    def sources(self) -> Sequence[Source]:
        """Return the sources."""
        ...  # pragma: no cover - a protocol has no body


@runtime_checkable
class SupportsReadiness(Protocol):
    """A source or a collector that knows when what it reads is missing."""

    def readiness_errors(self) -> Sequence[str]:
        """Return a line for each thing that is missing now."""
        ...  # pragma: no cover - a protocol has no body


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


class DirectorySource:
    """The merged view of a multiprocess directory, or its part of that of several directories."""

    in_process = False

    def __init__(
        self, path: str | os.PathLike[str], *, name: str = "", liveness: bool = False
    ) -> None:
        """Configure only; the directory *path* need not exist yet.

        The *name* stands for the directory on the page; without one, the path does. With
        *liveness*, ask the kernel at each scrape which of its processes are alive.
        """
        self.path = os.fspath(path)
        self.name = name or self.path
        self._view = DirectoryView(self.path)
        self._state_of = is_alive if liveness else _unknown

    def gather(self) -> Gathered:
        """Read and merge the directory. Raises `DirectoryError` when it cannot be listed."""
        collection = self._view.collect()
        processes = count_processes(collection.files, self._state_of)
        return Gathered(collection.families, collection.problems, collection, processes)

    def read_segments(self) -> Gathered:
        """Read the directory, to merge it with others. Raises `DirectoryError` as `gather`."""
        reading = self._view.read()
        processes = count_processes(reading.files, self._state_of)
        readings = [reading._replace(processes=processes)]
        return Gathered((), reading.problems, readings=readings)


def count_processes(
    files: Iterable[WorkerFile], state_of: Callable[[str], Liveness]
) -> Mapping[str, int]:
    """Count the processes that wrote *files*, by state; one file of each decides."""
    one_each = {file.name.id: file for file in files if not file.name.is_archive}
    return Counter(state_of(file.path).value for file in one_each.values())


def _unknown(_: str) -> Liveness:
    return Liveness.UNKNOWN


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


class TextSource:
    """A callback that returns a page of text, in either format."""

    in_process = False

    def __init__(self, callback: Callable[[], str | bytes], name: str = "text") -> None:
        """Configure only; *callback* is not called yet."""
        self.name = name
        self._callback = callback

    def gather(self) -> Gathered:
        """Call and parse. Raises whatever the callback or the parser raises."""
        return Gathered(parse_page(self._callback()))


class UrlSource:
    """Another exporter's page."""

    in_process = False

    def __init__(
        self, url: str, timeout: float = DEFAULT_TIMEOUT, largest: int = LARGEST_PAGE
    ) -> None:
        """Configure only; *url* is http or https.

        The server has *timeout* seconds for each part of its answer, and for the whole page,
        which may have *largest* bytes, uncompressed. Raises `SourceError` for other schemes.
        """
        if not url.startswith(("http://", "https://")):
            raise SourceError(url, "only http and https URLs can be scraped")
        self.name = url
        self._timeout = timeout
        self._largest = largest

    def gather(self) -> Gathered:
        """Fetch and parse. Raises `OSError`, `SourceError`, or what the parser raises."""
        deadline = time.monotonic() + self._timeout
        headers = {"Accept": _ACCEPT, "Accept-Encoding": "gzip", "User-Agent": "mpmetrics"}
        request = Request(self.name, headers=headers)
        with urlopen(request, timeout=self._timeout) as response:
            body = self._read(response, deadline)
            length = response.headers.get("Content-Length", "")
            coding = response.headers.get("Content-Encoding", "")
        if length.isdecimal() and len(body) < int(length):
            raise SourceError(self.name, f"its page ends after {len(body)} of {length} bytes")
        if coding.lower() in _GZIP:
            with gzip.GzipFile(fileobj=io.BytesIO(body)) as stream:
                body = stream.read(self._largest + 1)
            self._check_size(len(body))
        return Gathered(parse_page(body))

    def _read(self, response: http.client.HTTPResponse, deadline: float) -> bytes:
        """Read to the end, the deadline or the largest size. Raises `SourceError`."""
        body = bytearray()
        # Not `read`, which waits for all the bytes that it was asked for, whatever the deadline.
        while chunk := response.read1(_CHUNK):
            body += chunk
            self._check_size(len(body))
            if time.monotonic() > deadline:
                raise SourceError(self.name, f"its page took more than {self._timeout} s")
        return bytes(body)

    def _check_size(self, size: int) -> None:
        """Raise `SourceError` when *size* bytes are too many for a page."""
        if size > self._largest:
            raise SourceError(self.name, f"its page has more than {self._largest} bytes")


def parse_page(page: str | bytes) -> list[Metric]:
    """Return the families of a text page in either format.

    Raises `ValueError` for what is neither (and, as prometheus_client's parsers do for some
    malformed lines, other exceptions).
    """
    text = page.decode() if isinstance(page, bytes) else page
    if text.rstrip().endswith("# EOF"):
        return list(openmetrics_parser.text_string_to_metric_families(text.rstrip() + "\n"))
    return list(text_string_to_metric_families(text))


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
    if isinstance(given, SourceGroup) and callable(given.sources) and not isinstance(given, type):
        return given.sources()
    return [as_source(given)]


def as_source(given: SourceLike) -> Source:
    """Return the source that *given* stands for.

    A string with :// in it is a URL, any other path a directory; something with `collect` a
    registry; a callable a text callback. Raises `SourceError` for anything else, such as a class,
    whose calls and methods give no metrics, or an empty path.
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
        return TextSource(given, getattr(given, "__name__", "text"))
    raise SourceError(repr(given), "not a directory, a URL, a registry or a callback")
