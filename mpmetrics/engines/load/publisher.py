"""The publisher of a worker's load, which drops changes that come too fast.

A router needs to know how many blocks of KV cache each data-parallel rank uses. The engine reports
that at every step, many times a second. `WorkerLoadPublisher` debounces the reports and sends them
from a thread of its own, so that the engine never waits.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from operator import index
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, SupportsIndex

from mpmetrics._forks import reset_in_children
from mpmetrics.engines.errors import LoadError
from mpmetrics.engines.load.debounce import Debounce, DebounceTiming
from mpmetrics.engines.observers import ERRORS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from prometheus_client import Metric

TOPIC: Final = "kv_metrics"
"""The topic of Dynamo's event plane under which load is published."""

_SECONDS_TO_END: Final = 1.0
"""How long `close` waits for the load that is being sent, and for the last ones."""

_OUTCOMES: Final = ("published", "suppressed", "failed")

_RANKS: Final = 1 << 32
_BLOCKS: Final = 1 << 64
"""The exclusive limits of numbers: Dynamo has 32 bits for a rank, and 64 for blocks."""

_MOST_RANKS: Final = 1024
"""The limit of ranks, since each takes memory for good."""


class ActiveLoad(NamedTuple):
    """The load of one rank, with the names of Dynamo; None means unknown."""

    worker_id: int
    dp_rank: int
    active_decode_blocks: int | None = None
    kv_used_blocks: int | None = None

    def fields(self) -> dict[str, int]:
        """Return the known fields, by name."""
        return {name: value for name, value in self._asdict().items() if value is not None}


class Clock(Protocol):
    """The clock of a publisher, which tests replace."""

    def now(self) -> float:
        """Return the time in seconds, from any origin."""
        ...  # pragma: no cover - a protocol has no body

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        """Wait for a held *condition*, at most *seconds* if they are not None."""
        ...  # pragma: no cover - a protocol has no body


class MonotonicClock:
    """The monotonic clock of the system."""

    def now(self) -> float:
        """Return the time in seconds, from any origin."""
        return time.monotonic()

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        """Wait for a held *condition*, at most *seconds* if they are not None."""
        condition.wait(None if seconds is None else min(seconds, threading.TIMEOUT_MAX))


class WorkerLoadPublisher:
    """A debounced publisher of the load of a worker's ranks.

    Its `publish` has the parameters of Dynamo's own publisher. *send* is called with an
    `ActiveLoad`, in a thread of this publisher, and raises if it fails. A load that equals the one
    before is dropped. A changed load is sent once it has not changed for `window` seconds, at the
    latest after `max_wait`, and again after a failure. The load of an idle rank is sent after every
    `heartbeat`. These times are those of *timing*.
    """

    def __init__(
        self,
        send: Callable[[ActiveLoad], object],
        worker_id: int,
        *,
        timing: DebounceTiming | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Publish for the worker *worker_id*. Raises `DebounceTimingError`."""
        self._send = send
        self._worker_id = worker_id
        self._timing = (timing or DebounceTiming()).check()
        self._clock = clock or MonotonicClock()
        self.reset_after_fork()
        reset_in_children(self)

    def reset_after_fork(self) -> None:
        """Start from scratch in a forked child: load and thread are those of the parent."""
        self._changed = threading.Condition()
        self._ranks: dict[int, Debounce[ActiveLoad]] = {}
        self._counts: Counter[str] = Counter()
        self._thread: threading.Thread | None = None
        self._closing = False

    def publish(
        self,
        dp_rank: int | None = None,
        kv_used_blocks: int | None = None,
        active_decode_blocks: int | None = None,
    ) -> None:
        """Set the load of a rank (None: rank 0); a number that is None keeps its last value.

        Pass both numbers by keyword: Dynamo's own publisher has them in the opposite order. Raises
        `LoadError` when both are None, for numbers that Dynamo cannot represent, and for more than
        1024 ranks. After `close`, this does nothing.
        """
        rank = 0 if dp_rank is None else _to_integer(dp_rank, "dp_rank", dp_rank, _RANKS)
        given = {"active_decode_blocks": active_decode_blocks, "kv_used_blocks": kv_used_blocks}
        known = {
            name: _to_integer(rank, name, number)
            for name, number in given.items()
            if number is not None
        }
        if not known:
            raise LoadError(rank, "neither active_decode_blocks nor kv_used_blocks is given")
        with self._changed:
            if self._closing:
                return
            debounce = self._get_debounce(rank)
            before = debounce.newest or ActiveLoad(self._worker_id, rank)
            load = before._replace(**known)
            is_replacing = debounce.is_waiting
            is_new = debounce.change(load, self._clock.now())
            if is_replacing or not is_new:
                self._counts["suppressed"] += 1
            if not is_new:
                return
            self._start_thread()
            self._changed.notify()

    def close(self) -> None:
        """Send the loads that are waiting, and end the thread; wait for it one second at most.

        Afterwards, call `close` of *send* if it has such a method.
        """
        with self._changed:
            self._closing = True
            thread = self._thread
            self._changed.notify()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_SECONDS_TO_END)
        close_sender = getattr(self._send, "close", None)
        if callable(close_sender):
            try:
                close_sender()
            except Exception as error:  # an engine must not suffer from its metrics
                ERRORS.count("load", "raised", error)

    def counts(self) -> Mapping[str, int]:
        """Return the numbers of published, suppressed and failed loads, by these words.

        A load is suppressed if it equals the one before, or is replaced before it is sent.
        """
        with self._changed:
            return {outcome: self._counts[outcome] for outcome in _OUTCOMES}

    def collect(self) -> Iterable[Metric]:
        """Return the counts as a family: a publisher is a collector, and can be registered."""
        from prometheus_client.core import CounterMetricFamily

        family = CounterMetricFamily(
            "mpmetrics_load_publications",
            "Loads of this worker's ranks, by outcome",
            labels=["outcome"],
        )
        for outcome, count in self.counts().items():
            family.add_metric([outcome], count)
        return [family]

    def _get_debounce(self, rank: int) -> Debounce[ActiveLoad]:
        """Return the debounce of a *rank*. Raises `LoadError` if there are too many ranks."""
        if rank not in self._ranks:
            if len(self._ranks) >= _MOST_RANKS:
                raise LoadError(rank, f"there are {_MOST_RANKS} ranks already")
            self._ranks[rank] = Debounce(self._timing)
        return self._ranks[rank]

    def _start_thread(self) -> None:
        """Start the thread if it is not running."""
        if self._thread is not None:
            return
        thread = threading.Thread(target=self._run, name="mpmetrics-load", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no thread can be started, or the interpreter is ending
            ERRORS.count("load", "raised", error)
        else:
            self._thread = thread

    def _run(self) -> None:
        """Send loads when they are due, until `close`; then send those that are waiting."""
        while True:
            with self._changed:
                closing = self._closing
                due = self._take_due(everything=closing)
                if not due and not closing:
                    self._clock.wait(self._changed, self._seconds_until_due())
                    continue
            for debounce, load in due:
                self._send_load(debounce, load)
            if closing:
                return

    def _take_due(self, *, everything: bool) -> list[tuple[Debounce[ActiveLoad], ActiveLoad]]:
        """Take the loads that are due now, or with *everything* all that are waiting."""
        now = self._clock.now()
        due = []
        for debounce in self._ranks.values():
            at = debounce.due()
            is_due = debounce.is_pending if everything else at is not None and at <= now
            if is_due and (load := debounce.take()) is not None:
                due.append((debounce, load))
        return due

    def _seconds_until_due(self) -> float | None:
        """Return the seconds until the next load is due, None if none is."""
        times = [at for each in self._ranks.values() if (at := each.due()) is not None]
        return max(0.0, min(times) - self._clock.now()) if times else None

    def _send_load(self, debounce: Debounce[ActiveLoad], load: ActiveLoad) -> None:
        """Send one load, without the lock, and record the outcome."""
        failure: BaseException | None = None
        try:
            self._send(load)
        except BaseException as error:  # what comes of Rust may be no `Exception`
            failure = error
        with self._changed:
            now = self._clock.now()
            if failure is None:
                debounce.record_success(load, now)
            else:
                debounce.record_failure(now)
            self._counts["published" if failure is None else "failed"] += 1
        if failure is not None:
            ERRORS.count("load", "raised", failure)


def _to_integer(rank: int, name: str, given: SupportsIndex, end: int = _BLOCKS) -> int:
    """Return *given* as an int of Python. Raises `LoadError` unless it is from 0 to *end* - 1."""
    try:
        number = int(index(given))
    except TypeError as error:
        raise LoadError(rank, f"{name} is no whole number: {given!r}") from error
    if not 0 <= number < end:
        raise LoadError(rank, f"{name} is not from 0 to {end - 1}: {number}")
    return number
