"""One page that is given out in parts: all callbacks of a runtime together.

Dynamo appends the text of its callbacks, one after the other, and looks at none of it; those of
all endpoints of a runtime are on one page. So they have to agree: the sources of all are gathered
and joined as one page, and each family is given out by one callback, that of the source which has
it first. Where one of them brings the merged view and another this process's own share, the
merged view is that.
"""

from __future__ import annotations

import threading
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass
from types import MethodDescriptorType
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

from prometheus_client.core import CounterMetricFamily

from mpmetrics._problem_log import ProblemLog
from mpmetrics._shared_call import SharedCall
from mpmetrics.engines.dynamo.endpoint import DEFAULT_TIMEOUT
from mpmetrics.engines.observers import ERRORS
from mpmetrics.errors import Problem
from mpmetrics.exposition import Format, exposed_name, is_native, render_families
from mpmetrics.pages import (
    AboutScrape,
    Contribution,
    Gathering,
    add_labels,
    is_up,
    join_families,
    problems_family,
    sources_up,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from prometheus_client import Metric

    from mpmetrics.engines.dynamo.endpoint import TypedFamily, TypedSample
    from mpmetrics.exposition import PrefixFilter
    from mpmetrics.format import Labels
    from mpmetrics.pages import Answer, Source

_Given = TypeVar("_Given")

_SAME_SCRAPE: Final = 0.05
"""Seconds after one part within which another is taken to be asked for by the same scrape."""


class Brought(NamedTuple):
    """What a part brings: *sources*, which of their families are *chosen*, and *labels* to add.

    A part that *tells* has what the page says of itself, too. Families of a part that is *alone*
    are shown as they are: what others bring under the same names is left out. Each source has
    *timeout* seconds.
    """

    sources: Sequence[Source]
    chosen: PrefixFilter
    labels: Labels = ()
    timeout: float = DEFAULT_TIMEOUT
    tells: bool = False
    alone: bool = False


class Part:
    """What one callback gives: its share of the page of all parts of a `Board`."""

    def __init__(self, board: Board, brought: Brought) -> None:
        """Give what falls to this part once what all have *brought* is joined."""
        self.gathering = Gathering(brought.sources, brought.timeout)
        self.tells = brought.tells
        self.alone = brought.alone
        self._board = board
        self._brought = brought

    def text(self) -> str:
        """Return the families of this part in the text format, "" if there are none."""
        return self._board.give(self, _Surface("text", _text, ""))

    def typed(self) -> list[TypedFamily]:
        """Return the families of this part as Dynamo's typed callback has them."""
        return self._board.give(self, _Surface("typed", _typed, []))

    def close(self) -> None:
        """Give nothing from now on."""
        self._board.remove(self)

    def choose(self, families: Sequence[Metric]) -> list[Metric]:
        """Return what of *families* this part brings, with its labels."""
        accepts = self._brought.chosen.accepts
        return [self.label(each) for each in families if accepts(each.name, each.type)]

    def label(self, family: Metric) -> Metric:
        """Return *family* with the labels of this part."""
        return add_labels(family, self._brought.labels)


@dataclass(frozen=True)
class _Surface(Generic[_Given]):  # Python 3.10 has no named tuple that is generic
    """A way to give families: its *name*, how it *writes* them, and *nothing*."""

    name: str
    writes: Callable[[Sequence[Metric]], _Given]
    nothing: _Given


class _Reading:
    """One gathering, as one reader has it: which *shares* there are, and who was *given* his."""

    def __init__(self, shares: Mapping[Part, Sequence[Metric]]) -> None:
        self.shares = shares
        self.given: set[Part] = set()
        self.at = 0.0

    @property
    def is_over(self) -> bool:
        """Whether the scrape that this is of has certainly ended."""
        return time.monotonic() - self.at > _SAME_SCRAPE

    def has_for(self, part: Part) -> bool:
        """Tell whether the share of *part* was left for it, just now."""
        return part in self.shares and part not in self.given and not self.is_over


class Board:
    """All parts of one page."""

    def __init__(self) -> None:
        """Begin without parts."""
        self._parts: tuple[Part, ...] = ()
        self._problem_log = ProblemLog()
        self._gather = SharedCall(self._gather_now)
        self._readings: dict[tuple[int, str], _Reading] = {}

    def add(self, brought: Brought) -> Part:
        """Add a part. Of one series that several bring, the first counts."""
        part = Part(self, brought)
        self._parts = (*self._parts, part)
        return part

    def remove(self, part: Part) -> None:
        """Remove a part, if it is there."""
        self._parts = tuple(each for each in self._parts if each is not part)

    def problems(self) -> Mapping[str, int]:
        """Return how often each reason of a problem has come up."""
        return self._problem_log.counts()

    def give(self, part: Part, surface: _Surface[_Given]) -> _Given:
        """Give the share of *part* on one *surface*. Nothing is ever raised into the engine."""
        if part not in self._parts:
            return surface.nothing
        try:
            return self._give(part, surface)
        except Exception as error:  # it is to go, whatever it says
            detail = f"{type(error).__name__}: {error}"
            self._problem_log.report(
                [Problem(f"{surface.name} callback", "callback_failed", detail)]
            )
            return surface.nothing

    def _give(self, part: Part, surface: _Surface[_Given]) -> _Given:
        """Write the share of *part* in what this reader has gathered, or gathers now.

        A scrape asks for all parts in a row, from one thread: they are to be of one gathering.
        """
        reader = (threading.get_ident(), surface.name)
        reading = self._readings.pop(reader, None)
        if reading is None or not reading.has_for(part):
            reading = _Reading(self._gather())
        reading.given.add(part)
        written = surface.writes(reading.shares.get(part, ()))
        reading.at = time.monotonic()
        if len(reading.given) < len(reading.shares):
            self._readings[reader] = reading
        for other, left in list(self._readings.items()):
            if left.is_over:
                self._readings.pop(other, None)
        return written

    def _gather_now(self) -> Mapping[Part, Sequence[Metric]]:
        """Ask all sources of all parts, join what they give, and share it out."""
        start = time.perf_counter()
        parts = self._parts
        gathered = _asked(parts)
        union = join_families(_contributions(gathered))
        problems = [each for _, _, answer in gathered for each in answer.gathered.problems]
        self._problem_log.report(problems + union.problems)
        answers = [(source, answer) for _, source, answer in gathered]
        about = AboutScrape(answers, union.shadowed, self._problem_log.counts())
        teller, told = _told(parts, about, time.perf_counter() - start)
        shares: dict[Part, list[Metric]] = {part: [] for part in parts}
        if teller is not None:
            shares[teller] += [teller.label(family) for family in told]
        names = {_written_name(family) for family in told}
        for family, owner in zip(union.families, union.owners, strict=True):
            name = _written_name(family)
            if name not in names:
                names.add(name)
                shares[gathered[owner].part].append(family)
        return shares


class _Gathered(NamedTuple):
    """What a *source* of a *part* has answered."""

    part: Part
    source: Source
    answer: Answer


def _asked(parts: Sequence[Part]) -> list[_Gathered]:
    """Ask the sources of all *parts* at once."""
    for part in parts:
        part.gathering.ask()
    return [
        _Gathered(part, source, answer)
        for part in parts
        for source, answer in zip(part.gathering.sources, part.gathering.answers(), strict=True)
    ]


def _contributions(gathered: Sequence[_Gathered]) -> list[Contribution]:
    """Return what each source brings, without what others want to show alone."""
    brought = [(each, each.part.choose(each.answer.gathered.families)) for each in gathered]
    alone = {family.name for each, families in brought if each.part.alone for family in families}
    return [
        Contribution(
            each.source.name,
            each.source.in_process,
            [family for family in families if each.part.alone or family.name not in alone],
        )
        for each, families in brought
    ]


def _told(
    parts: Sequence[Part], about: AboutScrape, duration: float
) -> tuple[Part | None, Sequence[Metric]]:
    """Return which part tells of the scrape, and what.

    When nobody does, it is still told which sources are up if one is not, and how many problems
    there were if there were any: no page is silently empty.
    """
    for part in parts:
        if part.tells:
            failed = _observe_errors()
            return part, [*about.families(duration), *([failed] if failed.samples else [])]
    told = []
    if not all(is_up(answer.gathered) for _, answer in about.gathered):
        told.append(sources_up(about.gathered))
    if about.problems:
        told.append(problems_family(about.problems))
    return (parts[0] if told else None), told


def _observe_errors() -> Metric:
    """Return how often observers have failed in this process."""
    family = CounterMetricFamily(
        "mpmetrics_observe_errors",
        "Calls of observers of an engine that failed",
        labels=["source", "reason"],
    )
    for (source, reason), count in sorted(ERRORS.counts().items()):
        family.add_metric([source, reason], count)
    return family


def _written_name(family: Metric) -> str:
    """Return the name of *family* as the page has it: characters that it lacks are replaced."""
    return Format().name(exposed_name(family.name, family.type))


def _text(families: Sequence[Metric]) -> str:
    return render_families(families, Format()).decode()


def _typed(families: Sequence[Metric]) -> list[TypedFamily]:
    typed: list[TypedFamily] = []
    for family in families:
        samples = [_typed_sample(sample) for sample in family.samples if not is_native(sample)]
        if samples:
            typed.append((family.name, family.documentation, family.type, family.unit, samples))
    return typed


def _typed_sample(sample: Any) -> TypedSample:
    labels = sorted((name, str(value)) for name, value in sample.labels.items())
    timestamp = None if sample.timestamp is None else float(sample.timestamp)
    return sample.name, labels, float(sample.value), timestamp


_boards: dict[object, tuple[Board, object]] = {}


def board_of(endpoint: object) -> Board:
    """Return the board of the page that an *endpoint* is on.

    That of a Dynamo runtime is of all its endpoints. Any other object has a page of its own, for
    as long as it lives; one that cannot be referred to weakly is kept.
    """
    key = _runtime_of(endpoint) or id(endpoint)
    if key not in _boards:
        kept = None
        if key == id(endpoint):
            try:
                weakref.finalize(endpoint, _boards.pop, key, None).atexit = False
            except TypeError:
                kept = endpoint
        _boards[key] = (Board(), kept)
    return _boards[key][0]


def _runtime_of(endpoint: Any) -> tuple[type, object] | None:
    """Return what the endpoints of one Dynamo runtime have in common, None for all others.

    It gives out a new object each time that it is asked for an endpoint, and does not say which
    runtime it is; but the number of the connection is the runtime's.
    """
    kind = type(endpoint)
    if isinstance(getattr(kind, "connection_id", None), MethodDescriptorType):  # not Python code
        with suppress(Exception):
            return kind, endpoint.connection_id()
    return None
