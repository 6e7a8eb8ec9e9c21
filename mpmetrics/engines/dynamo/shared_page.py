"""One page that several callbacks return in parts.

Dynamo appends the texts of its callbacks one after the other without parsing them, and the
callbacks of all endpoints of a runtime are on one page. So the callbacks have to agree: all their
sources are gathered and joined as one page, and each callback returns its share of that page.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics._problem_log import ProblemLog
from mpmetrics._shared_call import SharedCall
from mpmetrics.engines.dynamo.callback_shares import gather_shares
from mpmetrics.engines.dynamo.encoders import TEXT, TYPED
from mpmetrics.engines.dynamo.endpoint import DEFAULT_TIMEOUT
from mpmetrics.errors import Problem
from mpmetrics.pages import Gathering, add_labels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from prometheus_client import Metric

    from mpmetrics.engines.dynamo.encoders import Encoded, Encoder
    from mpmetrics.engines.dynamo.endpoint import TypedFamily
    from mpmetrics.exposition import PrefixFilter
    from mpmetrics.format import Labels
    from mpmetrics.pages import Source

_SAME_SCRAPE: Final = 0.05
"""Seconds after one part within which another part is taken to belong to the same scrape."""


class CallbackSpec(NamedTuple):
    """What one callback brings to the page: families of *sources* that pass the *prefix_filter*.

    The *labels* are added to them. Each source has *timeout* seconds. With *has_self_metrics* the
    callback has the self-metrics of the page, too. With *exclusive* its families are shown from
    it alone: families of other callbacks with the same names are left out.
    """

    sources: Sequence[Source]
    prefix_filter: PrefixFilter
    labels: Labels = ()
    timeout: float = DEFAULT_TIMEOUT
    has_self_metrics: bool = False
    exclusive: bool = False


class PagePart:
    """The part of a `SharedPage` that one callback returns."""

    def __init__(self, page: SharedPage, spec: CallbackSpec) -> None:
        """Make the part of *page* that the callback with this *spec* returns."""
        self.gathering = Gathering(spec.sources, spec.timeout)
        self.has_self_metrics = spec.has_self_metrics
        self.is_exclusive = spec.exclusive
        self._page = page
        self._spec = spec

    def text(self) -> str:
        """Return the families of this part in the text format, "" if it has none."""
        return self._page.render(self, TEXT)

    def typed(self) -> list[TypedFamily]:
        """Return the families of this part as Dynamo's typed callback returns them."""
        return self._page.render(self, TYPED)

    def close(self) -> None:
        """Remove the part from the page: from now on its callback returns no families."""
        self._page.remove(self)

    def select(self, families: Sequence[Metric]) -> list[Metric]:
        """Return those of *families* that pass the prefix filter, with the labels of this part."""
        accepts = self._spec.prefix_filter.accepts
        return [self.label(each) for each in families if accepts(each.name, each.type)]

    def label(self, family: Metric) -> Metric:
        """Return *family* with the labels of this part."""
        return add_labels(family, self._spec.labels)


class _Scrape:
    """One gathering, whose *shares* a reader takes part by part."""

    def __init__(self, shares: Mapping[PagePart, Sequence[Metric]]) -> None:
        self._shares = shares
        self._taken: set[PagePart] = set()
        self._touched_at = 0.0

    @property
    def is_complete(self) -> bool:
        """Whether every share has been taken."""
        return len(self._taken) >= len(self._shares)

    @property
    def is_over(self) -> bool:
        """Whether the scrape that this gathering was made for has certainly ended."""
        return time.monotonic() - self._touched_at > _SAME_SCRAPE

    def has_share_of(self, part: PagePart) -> bool:
        """Return whether the share of *part* is left from the scrape that is going on."""
        return part in self._shares and part not in self._taken and not self.is_over

    def take(self, part: PagePart) -> Sequence[Metric]:
        """Return the share of *part*, and mark it as taken."""
        self._taken.add(part)
        return self._shares.get(part, ())

    def touch(self) -> None:
        """Let the time until `is_over` begin now."""
        self._touched_at = time.monotonic()


class SharedPage:
    """A page whose parts are returned by several callbacks."""

    def __init__(self) -> None:
        """Make a page without parts."""
        self._parts: tuple[PagePart, ...] = ()
        self._problem_log = ProblemLog()
        self._gather = SharedCall(lambda: gather_shares(self._parts, self._problem_log))
        self._scrapes: dict[tuple[int, str], _Scrape] = {}
        """The unfinished scrape of each reader: a thread, and the name of an encoder."""

    def add(self, spec: CallbackSpec) -> PagePart:
        """Add a part. Of a series that several parts bring, the first counts."""
        part = PagePart(self, spec)
        self._parts = (*self._parts, part)
        return part

    def remove(self, part: PagePart) -> None:
        """Remove *part* if the page has it."""
        self._parts = tuple(each for each in self._parts if each is not part)

    def problems(self) -> Mapping[str, int]:
        """Return how often each reason of a problem has come up."""
        return self._problem_log.counts()

    def render(self, part: PagePart, encoder: Encoder[Encoded]) -> Encoded:
        """Return the share of *part* in the form of *encoder*.

        Never raises into the engine: an exception is reported as a problem, and the share is empty.
        """
        if part not in self._parts:
            return encoder.encode(())
        try:
            return self._render(part, encoder)
        except Exception as error:  # whatever it is, the engine goes on
            detail = f"{type(error).__name__}: {error}"
            self._problem_log.report(
                [Problem(f"{encoder.name} callback", "callback_failed", detail)]
            )
            return encoder.encode(())

    def _render(self, part: PagePart, encoder: Encoder[Encoded]) -> Encoded:
        """Return the share of *part* from the scrape that this reader is in, or from a new one.

        Dynamo calls all callbacks of a scrape in a row, from one thread: they have to return
        shares of one gathering.
        """
        reader = (threading.get_ident(), encoder.name)
        scrape = self._scrapes.pop(reader, None)
        if scrape is None or not scrape.has_share_of(part):
            scrape = _Scrape(self._gather())
        encoded = encoder.encode(scrape.take(part))
        scrape.touch()
        if not scrape.is_complete:
            self._scrapes[reader] = scrape
        for other, unfinished in list(self._scrapes.items()):
            if unfinished.is_over:
                self._scrapes.pop(other, None)
        return encoded
