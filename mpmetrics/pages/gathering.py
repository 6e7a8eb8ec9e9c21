"""The sources of a page, asked together.

A source runs code that is not ours. Whatever it raises or returns costs its own families only.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from mpmetrics.errors import DirectoryError
from mpmetrics.pages.directories import DirectorySet
from mpmetrics.pages.source import Gathered, SegmentSource, describe_failure
from mpmetrics.pages.subdirectories import SubdirectoriesSource
from mpmetrics.pages.timed_source import Answer, TimedSource
from mpmetrics.pages.validation import drop_invalid_families
from mpmetrics.scrape import cover_directories, unique_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mpmetrics.pages.source import Source


class Gathering:
    """The *sources* of one page, asked again and again by one caller at a time.

    With a *timeout*, in seconds, all are called at once, each in a thread of its own. All
    directories among them are merged as one. Series of single processes then have the
    *directory_label*: see `mpmetrics.Page`.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        timeout: float | None = None,
        *,
        directory_label: str | None = None,
    ) -> None:
        """Configure only; nothing is read yet. Raises `LabelError`."""
        self.sources = sources
        self.names = unique_names(source.name for source in sources)
        """The name of each source, which no other source has."""
        self._directories = DirectorySet(sources, self.names, directory_label)
        self._calls = [
            partial(self._gather, name, _make_call(source, name))
            for source, name in zip(sources, self.names, strict=True)
        ]
        self._timed: list[TimedSource] = []
        if timeout is not None:
            self._timed = [
                TimedSource(name, call, timeout)
                for name, call in zip(self.names, self._calls, strict=True)
            ]

    def start(self) -> None:
        """Start to call the sources if there is a time limit, which begins now."""
        for source in self._timed:
            source.start()

    def wait(self, within: float | None = None) -> list[Answer]:
        """Return the answer of each source, *within* that many seconds after `start`.

        Without a time limit, call the sources one after the other.
        """
        if self._timed:
            answers = [source.wait(within) for source in self._timed]
        else:
            answers = [Answer(call()) for call in self._calls]
        return self._directories.merge(answers)

    def give_up_waiting(self) -> None:
        """End the `wait` of the caller now; sources that have not answered are late."""
        for source in self._timed:
            source.give_up_waiting()

    def _gather(self, name: str, call: Callable[[], Gathered]) -> Gathered:
        """Call the source that has this *name* here; an exception becomes a problem."""
        # A collector in a registry must not read a directory that is a source itself.
        with cover_directories(self._paths()):
            try:
                return call()
            except Exception as error:  # whatever it was, the next call may succeed
                return Gathered((), [describe_failure(name, error)])

    def _paths(self) -> Iterator[str]:
        """Yield the directories that the sources read now; a source may change to another."""
        for source in self.sources:
            path = getattr(source, "path", None)
            if isinstance(source, SubdirectoriesSource):
                with suppress(DirectoryError):  # the source itself reports it
                    yield from source.paths()
            elif isinstance(path, str):
                yield path


def _make_call(source: Source, name: str) -> Callable[[], Gathered]:
    """Return the function that asks the *source*, which has this *name* here."""
    if isinstance(source, SegmentSource):
        return source.read_segments
    return lambda: drop_invalid_families(name, source.gather())


def ask_all(gatherings: Sequence[Gathering]) -> Iterator[list[tuple[Source, Answer]]]:
    """Ask the sources of all *gatherings* at once; yield the answers of each gathering."""
    for gathering in gatherings:
        gathering.start()
    for gathering in gatherings:
        yield list(zip(gathering.sources, gathering.wait(), strict=True))
