"""The load of a worker, published when it changes, but not for every change.

A router wants to know how many blocks of KV cache each data-parallel rank has in use. The engine
says so at every step, many times a second; `WorkerLoadPublisher` passes on what is worth it,
from a thread of its own, so that whoever publishes is never kept.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from operator import index
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, SupportsIndex

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
"""How long `close` waits for what is being published."""

_OUTCOMES: Final = ("published", "suppressed", "failed")

_RANKS: Final = 1 << 32
_BLOCKS: Final = 1 << 64
"""What numbers are below: Dynamo has 32 bits for a rank, and 64 for blocks."""

_MOST_RANKS: Final = 1024
"""How many ranks there may be, since each is remembered for good."""


class ActiveLoad(NamedTuple):
    """The load of one rank, as Dynamo has it; what is None is not known."""

    worker_id: int
    dp_rank: int
    active_decode_blocks: int | None = None
    kv_used_blocks: int | None = None

    def fields(self) -> dict[str, int]:
        """Return what is known, by name."""
        return {name: value for name, value in self._asdict().items() if value is not None}


class Clock(Protocol):
    """What a publisher needs of time."""

    def now(self) -> float:
        """Return the time in seconds, from whenever."""
        ...  # pragma: no cover - a protocol has no body

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        """Wait for *condition*, which is held, but no longer than *seconds* if they are given."""
        ...  # pragma: no cover - a protocol has no body


class MonotonicClock:
    """The time of the machine."""

    def now(self) -> float:
        """Return the time in seconds, from whenever."""
        return time.monotonic()

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        """Wait for *condition*, which is held, but no longer than *seconds* if they are given."""
        condition.wait(None if seconds is None else min(seconds, threading.TIMEOUT_MAX))


class WorkerLoadPublisher:
    """Publishes the load of a worker's ranks; `publish` is what Dynamo's publisher has, too.

    *send* is called with an `ActiveLoad`, in a thread of this publisher, and raises when that
    fails. A value that is like the one before is dropped; one that changes is sent when it has
    been quiet for a moment, at the latest after `max_wait`, and again after a failure. An idle
    rank is sent now and then. Times are those of *timing*.
    """

    def __init__(
        self,
        send: Callable[[ActiveLoad], object],
        worker_id: int,
        *,
        timing: DebounceTiming | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Publish for the worker with this id. Raises `DebounceTimingError`."""
        self._send = send
        self._worker_id = worker_id
        self._timing = (timing or DebounceTiming()).checked()
        self._clock = clock or MonotonicClock()
        self.reset_after_fork()
        reset_in_children(self)

    def reset_after_fork(self) -> None:
        """Start anew in a forked child: the load is its parent's, and so is the thread."""
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
        """Take the load of a rank (None: rank 0); what is None stays as it was last.

        Name the two when you call it: Dynamo's own publisher has them the other way round.
        Raises `LoadError` when both are None, for numbers that Dynamo does not have, and for more
        ranks than there can be. After `close`, nothing is taken any more.
        """
        rank = 0 if dp_rank is None else _whole(dp_rank, "dp_rank", dp_rank, _RANKS)
        if active_decode_blocks is None and kv_used_blocks is None:
            raise LoadError(rank, "neither active_decode_blocks nor kv_used_blocks is given")
        if active_decode_blocks is not None:
            active_decode_blocks = _whole(
                rank, "active_decode_blocks", active_decode_blocks, _BLOCKS
            )
        if kv_used_blocks is not None:
            kv_used_blocks = _whole(rank, "kv_used_blocks", kv_used_blocks)
        with self._changed:
            if self._closing:
                return
            slot = self._slot(rank)
            before = slot.newest or ActiveLoad(self._worker_id, rank)
            load = before._replace(
                active_decode_blocks=_known(active_decode_blocks, before.active_decode_blocks),
                kv_used_blocks=_known(kv_used_blocks, before.kv_used_blocks),
            )
            is_replacing = slot.is_waiting
            is_new = slot.change(load, self._clock.now())
            if is_replacing or not is_new:
                self._counts["suppressed"] += 1
            if not is_new:
                return
            self._start()
            self._changed.notify()

    def close(self) -> None:
        """Send what has not been sent yet, and end; wait for that a second at the most.

        What *send* has to close is closed, too.
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
            except Exception as error:  # somebody else may have gauges of these names
                ERRORS.count("load", "raised", error)

    def counts(self) -> Mapping[str, int]:
        """Return how many loads were published, were suppressed, and failed to be published.

        Those are suppressed that say nothing new, or are replaced before they are sent.
        """
        with self._changed:
            return {outcome: self._counts[outcome] for outcome in _OUTCOMES}

    def collect(self) -> Iterable[Metric]:
        """Return the counts as a family: this can be registered with a registry."""
        from prometheus_client.core import CounterMetricFamily

        family = CounterMetricFamily(
            "mpmetrics_load_publications",
            "Loads of this worker's ranks, by what became of them",
            labels=["outcome"],
        )
        for outcome, count in self.counts().items():
            family.add_metric([outcome], count)
        return [family]

    def _slot(self, rank: int) -> Debounce[ActiveLoad]:
        """Return the slot of a *rank*. Raises `LoadError` if there are too many."""
        if rank not in self._ranks:
            if len(self._ranks) >= _MOST_RANKS:
                raise LoadError(rank, f"there are {_MOST_RANKS} ranks already")
            self._ranks[rank] = Debounce(self._timing)
        return self._ranks[rank]

    def _start(self) -> None:
        """Start the thread when there is something to do for it."""
        if self._thread is not None:
            return
        thread = threading.Thread(target=self._run, name="mpmetrics-load", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no thread to be had, or the interpreter ends
            ERRORS.count("load", "raised", error)
        else:
            self._thread = thread

    def _run(self) -> None:
        """Send what is due, until `close`, and then what is left."""
        while True:
            with self._changed:
                closing = self._closing
                due = self._due(everything=closing)
                if not due and not closing:
                    self._clock.wait(self._changed, self._pause())
                    continue
            for slot, load in due:
                self._try(slot, load)
            if closing:
                return

    def _due(self, *, everything: bool) -> list[tuple[Debounce[ActiveLoad], ActiveLoad]]:
        """Return what is to be sent now, or all that has not been sent."""
        now = self._clock.now()
        due = []
        for slot in self._ranks.values():
            at = slot.due()
            is_due = slot.is_pending if everything else at is not None and at <= now
            if is_due and (load := slot.take()) is not None:
                due.append((slot, load))
        return due

    def _pause(self) -> float | None:
        """Return the seconds until something is due, None if nothing is."""
        times = [at for slot in self._ranks.values() if (at := slot.due()) is not None]
        return max(0.0, min(times) - self._clock.now()) if times else None

    def _try(self, slot: Debounce[ActiveLoad], load: ActiveLoad) -> None:
        """Send one load, without holding anybody up meanwhile."""
        failure: BaseException | None = None
        try:
            self._send(load)
        except BaseException as error:  # an observer may raise anything
            failure = error
        with self._changed:
            now = self._clock.now()
            if failure is None:
                slot.published(load, now)
            else:
                slot.failed(now)
            self._counts["published" if failure is None else "failed"] += 1
        if failure is not None:
            ERRORS.count("load", "raised", failure)


def _whole(rank: int, name: str, given: SupportsIndex, end: int = _BLOCKS) -> int:
    """Return a number below *end* as one of Python's own. Raises `LoadError` for another."""
    try:
        number = int(index(given))
    except TypeError as error:
        raise LoadError(rank, f"{name} is no whole number: {given!r}") from error
    if not 0 <= number < end:
        raise LoadError(rank, f"{name} is not from 0 to {end - 1}: {number}")
    return number


def _known(value: int | None, before: int | None) -> Any:
    return before if value is None else value
