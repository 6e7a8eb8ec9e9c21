"""Stat loggers for vLLM, which publish and show the load of each data-parallel rank.

The engine calls `record` at every step. An observer, which is a publisher or a set of gauges, can
neither raise into the engine nor block it.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Protocol

from mpmetrics.engines.errors import EndpointBoundError
from mpmetrics.engines.observers import ERRORS, TIMEOUT, Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from mpmetrics.engines.dynamo import ComponentGauges, Endpoint

_DYNAMO: Final = "dynamo.llm"
"""The module of Dynamo's own load publisher: a program with an endpoint has imported it."""


class MetricsPublisher(Protocol):
    """What a stat logger needs of a publisher such as Dynamo's `WorkerMetricsPublisher`.

    If it has a method `create_endpoint`, that gets the endpoint before the first load.
    """

    def publish(self, dp_rank: int | None = None, *, kv_used_blocks: int | None = None) -> None:
        """Publish the number of KV cache blocks that a rank uses."""
        ...  # pragma: no cover - a protocol has no body


if TYPE_CHECKING:
    PublisherFactory: TypeAlias = Callable[..., MetricsPublisher]


class StatLogger:
    """The stat logger of one data-parallel rank."""

    def __init__(
        self,
        dp_rank: int = 0,
        *,
        component_gauges: ComponentGauges | None = None,
        publisher: MetricsPublisher | None = None,
        num_gpu_blocks: int | None = None,
        observer_timeout: float = TIMEOUT,
    ) -> None:
        """Report to the *publisher* and to the gauges, either of which may be missing.

        The engine waits for one of them at most *observer_timeout* seconds; see `Observer`.
        """
        self.dp_rank = dp_rank
        self.num_gpu_blocks = num_gpu_blocks
        self.publisher = publisher
        self._gauges = component_gauges
        self._publishing = Observer("publisher", timeout=observer_timeout)
        self._showing = Observer("component_gauges", timeout=observer_timeout)

    def set_num_gpu_blocks(self, num_gpu_blocks: int) -> None:
        """Set the number of KV cache blocks, which the engine knows only after its start."""
        self.num_gpu_blocks = num_gpu_blocks
        self._show(None, None)

    def set_num_gpu_block(self, num_blocks: int) -> None:
        """Set the number of KV cache blocks: `set_num_gpu_blocks` under Dynamo's name."""
        self.set_num_gpu_blocks(num_blocks)

    def init_publish(self) -> None:
        """Publish zeros, so that a router sees the worker before there is traffic."""
        self._publish(0)
        self._show(0.0, None)

    def record(
        self,
        scheduler_stats: Any = None,
        iteration_stats: object = None,
        mm_cache_stats: object = None,
        engine_idx: int = 0,
        *args: object,
        **kwargs: object,
    ) -> None:
        """Publish and show the scheduler's statistics of a step, if there are any. Never raises."""
        del iteration_stats, mm_cache_stats, engine_idx, args, kwargs  # vLLM passes them
        if scheduler_stats is None:
            return
        try:
            usage = _to_finite(scheduler_stats.kv_cache_usage)
            blocks = self.num_gpu_blocks
            active = None if blocks is None else int(blocks * usage)
        except Exception as error:  # an engine must not suffer from its metrics
            ERRORS.count("scheduler_stats", "raised", error)
            return
        try:
            hit_rate = _compute_hit_rate(scheduler_stats)
        except Exception as error:  # an engine must not suffer from its metrics
            ERRORS.count("prefix_cache_stats", "raised", error)
            hit_rate = None
        if active is not None:
            self._publish(active)
        self._show(usage, hit_rate)

    def log(self) -> None:
        """Do nothing: vLLM's own logger writes the log."""

    def log_engine_initialized(self) -> None:
        """Do nothing: the engine's start changes no value here."""

    def record_sleep_state(self, *args: object, **kwargs: object) -> None:
        """Do nothing: no value here depends on whether the engine sleeps."""

    def _publish(self, active: int) -> None:
        if self.publisher is not None:
            self._publishing.notify(_publish_blocks, self.publisher, self.dp_rank, active)

    def _show(self, usage: float | None, hit_rate: float | None) -> None:
        if self._gauges is not None:
            self._showing.notify(
                _set_gauges, self._gauges, self.dp_rank, self.num_gpu_blocks, usage, hit_rate
            )


# These are functions and not methods so that the observers' threads hold no reference to the
# logger: a logger without references is freed at once, and its threads end. If an observer lacks a
# method, they raise in the observer's thread and not in the engine's.


def _publish_blocks(publisher: Any, dp_rank: int, active: int) -> object:
    return publisher.publish(dp_rank, kv_used_blocks=active)


def _set_gauges(
    gauges: ComponentGauges,
    dp_rank: int,
    blocks: int | None,
    usage: float | None,
    hit_rate: float | None,
) -> None:
    """Set the gauges whose values are known; Dynamo's own gauges refuse None."""
    if blocks is not None:
        gauges.set_total_blocks(dp_rank, blocks)
    if usage is not None:
        gauges.set_gpu_cache_usage(dp_rank, usage)
    if hit_rate is not None:
        gauges.set_kv_cache_hit_rate(dp_rank, hit_rate)


def _compute_hit_rate(scheduler_stats: Any) -> float | None:
    """Return the share of the queried tokens that were hits, None if none were queried."""
    cache = getattr(scheduler_stats, "prefix_cache_stats", None)
    if cache is None or not cache.queries:
        return None
    return _to_finite(cache.hits) / _to_finite(cache.queries)


def _to_finite(value: Any) -> float:
    """Return *value* as a finite number. Raises, for example, `ValueError` for NaN."""
    number = float(value)
    if not math.isfinite(number):
        message = f"{number} is not finite"
        raise ValueError(message)
    return number


class StatLoggerFactory:
    """The factory that vLLM calls to make a `StatLogger` for each data-parallel rank.

    `created_loggers` has the loggers by rank. `component_gauges` may be set until the first is
    made.
    """

    def __init__(
        self,
        endpoint: Endpoint | None = None,
        component_gauges: ComponentGauges | None = None,
        embedding_worker: bool | PublisherFactory | None = False,  # noqa: FBT001, FBT002 - Dynamo's signature
        *,
        publisher_factory: PublisherFactory | None = None,
        observer_timeout: float = TIMEOUT,
    ) -> None:
        """Let each logger publish for *endpoint*, which may become known later.

        The first three parameters are Dynamo's. The loggers of an *embedding_worker*, which has no
        KV cache, do nothing. *publisher_factory*, which may also be the third argument, makes the
        publisher of one rank; the default is Dynamo's own. It is called without arguments, or with
        the endpoint if it requires one argument. *observer_timeout* is that of the loggers, in
        seconds.
        """
        if callable(embedding_worker):
            publisher_factory, embedding_worker = embedding_worker, False
        self.created_loggers: dict[int, StatLogger] = {}
        self.component_gauges = component_gauges
        self.embedding_worker = bool(embedding_worker)
        self._endpoint = endpoint
        self._publisher_factory = publisher_factory or _make_own_publisher
        self._observer_timeout = observer_timeout
        self._num_gpu_blocks: int | None = None
        self._connecting: set[asyncio.Task[None]] = set()

    def __call__(self, vllm_config: object, dp_rank: int = 0) -> StatLogger:
        """Return the logger of a rank: the call that vLLM makes."""
        del vllm_config  # vLLM passes it
        return self.create_stat_logger(dp_rank)

    def create_stat_logger(self, dp_rank: int = 0) -> StatLogger:
        """Return the logger of a rank; each call for one rank returns the same logger."""
        if dp_rank not in self.created_loggers:
            logger = StatLogger(
                dp_rank,
                component_gauges=None if self.embedding_worker else self.component_gauges,
                num_gpu_blocks=self._num_gpu_blocks,
                observer_timeout=self._observer_timeout,
            )
            # Another thread may have stored one meanwhile.
            if self.created_loggers.setdefault(dp_rank, logger) is logger:
                self._connect(logger)
        return self.created_loggers[dp_rank]

    def set_num_gpu_blocks_all(self, num_gpu_blocks: int) -> None:
        """Set the number of KV cache blocks in all loggers, those of the future included."""
        self._num_gpu_blocks = num_gpu_blocks
        for logger in list(self.created_loggers.values()):
            logger.set_num_gpu_blocks(num_gpu_blocks)

    def init_publish(self) -> None:
        """Publish zeros for all loggers."""
        for logger in list(self.created_loggers.values()):
            logger.init_publish()

    @property
    def endpoint(self) -> Endpoint | None:
        """The endpoint for which the loggers publish, None as long as it is not known."""
        return self._endpoint

    def bind_endpoint(self, endpoint: Endpoint) -> None:
        """Set the *endpoint* if it was not known at first, as after a restore from a snapshot.

        Raises `EndpointBoundError`, a `RuntimeError`, when one is set already.
        """
        if self._endpoint is not None:
            raise EndpointBoundError(self._endpoint, endpoint)
        self._endpoint = endpoint
        for logger in list(self.created_loggers.values()):
            self._connect(logger)

    def errors(self) -> Mapping[tuple[str, str], int]:
        """Return how often observers in this process have failed, by source and reason.

        The counts belong to the whole process, and so include those of other loggers.
        """
        return ERRORS.counts()

    def _connect(self, logger: StatLogger) -> None:
        """Make the publisher of a logger, once there is an endpoint. Never raises."""
        if self.embedding_worker or self._endpoint is None:
            return
        try:
            logger.publisher = _make_publisher(self._publisher_factory, self._endpoint)
        except Exception as error:  # an engine must not suffer from its metrics
            ERRORS.count("publisher_factory", "raised", error)
        else:
            self._create_endpoint(logger.publisher, self._endpoint)

    def _create_endpoint(self, publisher: MetricsPublisher, endpoint: Endpoint) -> None:
        """Pass the endpoint to a *publisher* that has `create_endpoint`. Never raises.

        If that is a coroutine function, a task of the running event loop awaits it.
        """
        try:
            create = getattr(publisher, "create_endpoint", None)
            created = create(endpoint) if callable(create) else None
        except Exception as error:  # an engine must not suffer from its metrics
            ERRORS.count("create_endpoint", "raised", error)
            return
        if inspect.iscoroutine(created) or isinstance(created, asyncio.Future):
            self._start_task(created)

    def _start_task(self, created: Any) -> None:
        """Await *created* in a task of the running event loop; without a loop, count an error."""
        waiting = _await_endpoint(created)
        try:
            task = asyncio.get_running_loop().create_task(waiting)
        except RuntimeError as error:
            waiting.close()
            if inspect.iscoroutine(created):
                created.close()
            ERRORS.count("create_endpoint", "raised", error)
            return
        # The event loop holds only a weak reference to a task.
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)


def _make_own_publisher() -> MetricsPublisher:
    """Make a load publisher of Dynamo. Raises `ImportError` where Dynamo is not installed."""
    made: MetricsPublisher = import_module(_DYNAMO).WorkerMetricsPublisher()
    return made


async def _await_endpoint(created: Any) -> None:
    try:
        await created
    except Exception as error:  # an engine must not suffer from its metrics
        ERRORS.count("create_endpoint", "raised", error)


def _make_publisher(
    factory: Callable[..., MetricsPublisher], endpoint: Endpoint
) -> MetricsPublisher:
    """Call a publisher *factory*, with the *endpoint* if it requires an argument."""
    try:
        inspect.signature(factory).bind()
    except TypeError:
        return factory(endpoint)
    except ValueError:  # some builtins have no signature
        return factory()
    return factory()
