"""Comparisons of passwords that wait for their turn.

A comparison takes a tenth of a second or more, on purpose. One runs at a time, in a thread of its
own: guesses may use one processor, not all, and pages do not wait for them. The networks that ask
take turns, and those that were served lately have every other turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from mpmetrics.web.networks import KnownNetworks
    from mpmetrics.web.users import Users

MOST_OF_A_NETWORK: Final = 20
"""Comparisons that one network may have waiting: at cost 12 they take five seconds."""

_MOST: Final = 500


class QueueFullError(Exception):
    """A network has so many comparisons waiting that no further one is accepted."""


class _Comparison(NamedTuple):
    """A pair to compare, and the future that gets the outcome."""

    user: str
    password: bytes
    outcome: asyncio.Future[bool]


class PasswordQueue:
    """The comparisons that wait, by network; all methods belong to one event loop."""

    def __init__(self, users: Users, known: KnownNetworks) -> None:
        """Compare with the hashes of *users*; prefer the networks that are *known*."""
        self._users = users
        self._known = known
        self._waiting: dict[str, deque[_Comparison]] = {}
        self._job: asyncio.Future[bool] | None = None
        self._was_known = False
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="mpmetrics-password")

    async def run(self, network: str, user: str, password: bytes) -> bool:
        """Return whether *password* is that of *user*, when it is the turn of *network*.

        Nothing is compared for a caller that was cancelled before. Raises `QueueFullError`.
        """
        queue = self._waiting.get(network, deque())
        waiting = sum(map(len, self._waiting.values()))
        if len(queue) >= MOST_OF_A_NETWORK or waiting >= _MOST:
            raise QueueFullError
        outcome: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        comparison = _Comparison(user, password, outcome)
        queue.append(comparison)
        self._waiting[network] = queue
        self._begin_next()
        try:
            return await outcome
        finally:
            self._withdraw(network, comparison)

    def close(self) -> None:
        """Give up all comparisons; a thread that makes one ends with it."""
        for queue in self._waiting.values():
            for comparison in queue:
                comparison.outcome.cancel()
        self._waiting.clear()
        if self._job is not None:
            self._job.cancel()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _begin_next(self) -> None:
        """Begin the next comparison, unless one is being made."""
        while self._job is None and self._waiting:
            comparison = self._take_next()
            # An equal pair may have been compared meanwhile.
            recalled = self._users.recall(comparison.user, comparison.password)
            if recalled is None:
                self._begin(comparison)
            else:
                _settle(comparison.outcome, recalled)

    def _begin(self, comparison: _Comparison) -> None:
        """Make a *comparison* in the thread."""
        user, password, _ = comparison
        self._job = asyncio.get_running_loop().run_in_executor(
            self._executor, self._users.compare, user, password
        )
        self._job.add_done_callback(partial(self._finish, comparison))

    def _take_next(self) -> _Comparison:
        """Return the comparison whose turn it is; its network is behind all others then."""
        network = self._next_network()
        queue = self._waiting.pop(network)
        comparison = queue.popleft()
        if queue:
            self._waiting[network] = queue
        return comparison

    def _next_network(self) -> str:
        """Return the network whose turn it is; known ones alternate with the others."""
        known = [network for network in self._waiting if network in self._known]
        others = [network for network in self._waiting if network not in self._known]
        self._was_known = bool(known) and not (self._was_known and others)
        return known[0] if self._was_known else others[0]

    def _finish(self, comparison: _Comparison, job: asyncio.Future[bool]) -> None:
        """Remember and pass on the outcome of a *job*, and begin the next one."""
        self._job = None
        if job.cancelled():
            comparison.outcome.cancel()
            return
        error = job.exception()
        if error is None:
            is_right = job.result()
            self._users.remember(comparison.user, comparison.password, is_right=is_right)
            _settle(comparison.outcome, is_right)
        elif not comparison.outcome.done():
            comparison.outcome.set_exception(error)
        self._begin_next()

    def _withdraw(self, network: str, comparison: _Comparison) -> None:
        """Forget a *comparison*, if it still waits."""
        queue = self._waiting.get(network, deque())
        if comparison in queue:
            queue.remove(comparison)
            if not queue:
                del self._waiting[network]


def _settle(outcome: asyncio.Future[bool], result: object) -> None:
    """Set the result of *outcome*, unless its caller was cancelled."""
    if not outcome.done():
        outcome.set_result(bool(result))
