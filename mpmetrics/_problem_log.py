"""Problems over time: each is logged and counted once, for as long as it lasts.

A damaged file is as damaged at the next scrape; saying so every few seconds would help nobody.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from typing import TYPE_CHECKING, Final

from mpmetrics._forks import ForkSafeLock

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mpmetrics.errors import Problem

_NUMBER: Final = re.compile(r"0x[0-9a-fA-F]+|[0-9]+")

_log = logging.getLogger("mpmetrics")


class ProblemLog:
    """What was wrong at the last look, and how often each reason has come up."""

    def __init__(self) -> None:
        """Start with nothing wrong."""
        self._lock = ForkSafeLock()
        self._seen: set[Problem] = set()  # without what varies
        self._counts: Counter[str] = Counter()

    def report(self, problems: Iterable[Problem]) -> None:
        """Take note of all problems that there are now; log and count those that are new."""
        now: dict[Problem, Problem] = {}
        for problem in problems:
            now.setdefault(_cause(problem), problem)
        with self._lock:
            new = [problem for cause, problem in now.items() if cause not in self._seen]
            self._counts.update(problem.reason for problem in new)
            self._seen = set(now)
        for problem in new:
            _log.warning("%s", problem)

    def counts(self) -> dict[str, int]:
        """Return how often each reason has come up."""
        with self._lock:
            return dict(self._counts)


def _cause(problem: Problem) -> Problem:
    """Return *problem* without the numbers that the message of an exception may have.

    An address, a time or a count is another one at every scrape, and no other cause.
    """
    if not problem.reason.endswith("_failed"):
        return problem
    return problem._replace(detail=_NUMBER.sub("0", problem.detail))
