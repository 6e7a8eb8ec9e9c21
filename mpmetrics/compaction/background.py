"""Compaction in the background: now and then, and soon after somebody has died."""

from __future__ import annotations

import random
import threading
from collections import Counter
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily  # see the package

from mpmetrics._problem_log import ProblemLog
from mpmetrics.errors import MpmetricsError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from mpmetrics.compaction.compactor import Compactor

DEFAULT_INTERVAL: Final = 15.0
"""Seconds between two compactions when nobody dies."""

_JITTER: Final = 0.1
_PAUSE: Final = 1.0
"""Seconds that the deaths of several workers are waited for."""

_OUTCOMES: Final = ("folded", "nothing", "busy", "failed")


class BackgroundCompactor:
    """Has a *compactor* work in a thread of its own, every *interval* seconds, about."""

    def __init__(self, compactor: Compactor, interval: float = DEFAULT_INTERVAL) -> None:
        """Do nothing yet."""
        self._compactor = compactor
        self._interval = interval
        self._counts = Counter(dict.fromkeys(_OUTCOMES, 0))
        self._problem_log = ProblemLog()
        self._wanted = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="mpmetrics-compact", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def want(self) -> None:
        """Compact soon; blocks nobody."""
        self._wanted.set()

    def stop(self) -> None:
        """End; a compaction that is going on is finished first, which takes milliseconds."""
        self._ended.set()
        self._wanted.set()
        if self._thread.ident is not None:
            self._thread.join()

    def compact(self) -> None:
        """Compact once; what goes wrong is logged once for as long as it lasts, and counted."""
        try:
            outcome = self._compactor.compact().outcome
        except Exception as error:  # an engine must not suffer from its metrics
            self._counts["failed"] += 1
            why = str(error) if isinstance(error, MpmetricsError) else repr(error)
            self._problem_log.report([Problem(self._compactor.path, "uncompacted", why)])
        else:
            self._counts[outcome] += 1
            self._problem_log.report([])

    def collect(self) -> Iterator[Metric]:
        """Yield `mpmetrics_compactions_total`."""
        family = CounterMetricFamily(
            "mpmetrics_compactions", "Compactions of the directory", labels=["outcome"]
        )
        for outcome, count in self._counts.items():
            family.add_metric([outcome], count)
        yield family

    def _work(self) -> None:
        while not self._ended.is_set():
            self._wanted.wait(self._interval * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311
            if self._wanted.is_set():
                self._ended.wait(_PAUSE)
            self._wanted.clear()
            if not self._ended.is_set():
                self.compact()
