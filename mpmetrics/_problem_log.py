"""Problems over time: each is logged and counted once, for as long as it lasts.

A damaged file is still damaged at the next scrape, seconds later. A log line for each scrape would
only bury the others.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final

from mpmetrics._forks import ForkSafeLock
from mpmetrics._log_limit import get_log

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mpmetrics.errors import Problem

_NUMBER: Final = re.compile(r"0x[0-9a-fA-F]+|[0-9]+")

_log = get_log()


class ProblemLog:
    """The problems of the last report, and how often each reason has come up."""

    def __init__(self) -> None:
        """Start without problems."""
        self._lock = ForkSafeLock()
        self._seen: set[Problem] = set()  # as `_cause` returns them
        self._counts: Counter[str] = Counter()

    def report(self, problems: Iterable[Problem]) -> None:
        """Take all *problems* of this moment; log and count those that the last report lacked."""
        now: dict[Problem, Problem] = {}
        for problem in problems:
            now.setdefault(_cause(problem), problem)
        with self._lock:
            new = [problem for cause, problem in now.items() if cause not in self._seen]
            self._counts.update(problem.reason for problem in new)
            self._seen = set(now)
        for problem in new:
            _log.warning("%s", problem, extra={"kind": problem.reason})

    def counts(self) -> dict[str, int]:
        """Return how often each reason has come up."""
        with self._lock:
            return dict(self._counts)


def _cause(problem: Problem) -> Problem:
    """Return *problem* without the numbers that the message of an exception may have.

    An address, a time or a count differs from scrape to scrape while the cause is the same.
    """
    if not problem.reason.endswith("_failed"):
        return problem
    return problem._replace(detail=_NUMBER.sub("0", problem.detail))
