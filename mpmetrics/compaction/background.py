"""Compaction in the background: at an interval, and soon after a worker has ended."""

from __future__ import annotations

import random
import threading
from collections import Counter
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily

from mpmetrics._log_limit import get_log
from mpmetrics._problem_log import ProblemLog
from mpmetrics.directory import refill_reserve, release_reserve
from mpmetrics.errors import MpmetricsError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from mpmetrics.compaction.compactor import Compactor

_log = get_log()

DEFAULT_INTERVAL: Final = 15.0
"""Seconds between two compactions while no worker ends."""

_JITTER: Final = 0.1
"""By which share an interval is longer or shorter, so that several compactors fall out of step."""

_SETTLING: Final = 1.0
"""Seconds from a request to its compaction, in which more workers may end."""

_LONGEST_STOP: Final = 10.0
"""Seconds that the thread has to end."""

_OUTCOMES: Final = ("folded", "nothing", "busy", "failed")


class BackgroundCompactor:
    """A thread in which a *compactor* works, about every *interval* seconds."""

    def __init__(self, compactor: Compactor, interval: float = DEFAULT_INTERVAL) -> None:
        """Start no thread yet."""
        self._compactors: tuple[Compactor, ...] = (compactor,)
        self._interval = interval
        self._counts = Counter(dict.fromkeys(_OUTCOMES, 0))
        self._problem_log = ProblemLog()
        self._requested = threading.Event()
        self._stopping = threading.Event()
        self._compacts_at_end = False
        self._thread = threading.Thread(target=self._run, name="mpmetrics-compact", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def add(self, compactor: Compactor) -> None:
        """Have the thread work with one more *compactor*; any thread may call this."""
        self._compactors = (*self._compactors, compactor)
        self.request()

    def request(self) -> None:
        """Have the thread compact soon; this does not block."""
        self._requested.set()

    def stop(self, *, compact: bool = False, seconds: float = _LONGEST_STOP) -> None:
        """Stop the thread, after a last compaction if *compact*, which takes milliseconds.

        If the thread has not ended after so many *seconds*, go on without it: a compaction may be
        killed at any moment.
        """
        self._compacts_at_end = compact
        self._stopping.set()
        self._requested.set()
        if self._thread.ident is None:
            return
        self._thread.join(seconds)
        if self._thread.is_alive():
            _log.warning(
                "%s: a compaction has not ended within %g s: going on without it",
                *(self._compactors[0].path, seconds),
            )

    def compact(self) -> None:
        """Compact once and count the outcome; a failure is logged once for as long as it lasts."""
        self._problem_log.report([*filter(None, map(self._compact_one, self._compactors))])

    def _compact_one(self, compactor: Compactor) -> Problem | None:
        """Compact with one *compactor* and count the outcome; return the problem of a failure."""
        try:
            outcome = compactor.compact().outcome
        except Exception as error:
            self._counts["failed"] += 1
            why = str(error) if isinstance(error, MpmetricsError) else repr(error)
            return Problem(compactor.path, "uncompacted", why)
        finally:
            # Also after a failure: what has been kept may have gone into it.
            refill_reserve(compactor.path)
        self._counts[outcome] += 1
        return None

    def collect(self) -> Iterator[Metric]:
        """Yield `mpmetrics_compactions_total`."""
        family = CounterMetricFamily(
            "mpmetrics_compactions", "Compactions of the directory", labels=["outcome"]
        )
        for outcome, count in self._counts.items():
            family.add_metric([outcome], count)
        yield family

    def _run(self) -> None:
        try:
            for compactor in self._compactors:
                refill_reserve(compactor.path)
            self._compact_repeatedly()
        finally:
            for compactor in self._compactors:
                release_reserve(compactor.path)

    def _compact_repeatedly(self) -> None:
        while not self._stopping.is_set():
            jitter = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - nothing secret
            self._requested.wait(self._interval * jitter)
            if self._requested.is_set():
                self._stopping.wait(_SETTLING)
            self._requested.clear()
            if not self._stopping.is_set():
                self.compact()
        if self._compacts_at_end:
            self.compact()
