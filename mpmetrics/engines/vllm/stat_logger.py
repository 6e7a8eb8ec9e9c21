"""Stat loggers for vLLM: the load of each data-parallel rank, published and shown.

The engine calls `record` at every step. Whatever its observers do, the engine does not notice.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
from typing import TYPE_CHECKING, Any, Protocol

from mpmetrics.engines.errors import EndpointBoundError
from mpmetrics.engines.observers import ERRORS, Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mpmetrics.engines.dynamo import ComponentGauges, Endpoint

_log = logging.getLogger("mpmetrics")


class Publisher(Protocol):
    """A publisher of load, such as Dynamo's `WorkerMetricsPublisher`.

    One that has `create_endpoint` is given the endpoint before anything is published.
    """

    def publish(self, dp_rank: int | None = None, *, kv_used_blocks: int | None = None) -> None:
        """Publish how many blocks of KV cache a rank has in use."""
        ...  # pragma: no cover - a protocol has no body


class StatLogger:
    """The stat logger of one data-parallel rank."""

    def __init__(
        self,
        dp_rank: int = 0,
        *,
        component_gauges: ComponentGauges | None = None,
        publisher: Publisher | None = None,
        num_gpu_blocks: int | None = None,
    ) -> None:
        """Tell the *publisher* and the gauges, as far as they are given."""
        self.dp_rank = dp_rank
        self.num_gpu_blocks = num_gpu_blocks
        self.publisher = publisher
        self._gauges = component_gauges
        self._publishing = Observer("publisher")
        self._showing = Observer("component_gauges")

    def set_num_gpu_blocks(self, num_gpu_blocks: int) -> None:
        """Take how many blocks of KV cache the engine has, once it says so."""
        self.num_gpu_blocks = num_gpu_blocks
        self._show(None, None)

    def init_publish(self) -> None:
        """Publish zeros, so that a router sees the worker before there is traffic."""
        self._publish(0)
        self._show(0.0, None)

    def record(
        self,
        scheduler_stats: Any = None,
        iteration_stats: object = None,  # noqa: ARG002 - vLLM's signature
        mm_cache_stats: object = None,  # noqa: ARG002
        engine_idx: int = 0,  # noqa: ARG002
        *args: object,  # noqa: ARG002
        **kwargs: object,  # noqa: ARG002
    ) -> None:
        """Take what the scheduler says after a step; nothing if it says nothing. Never raises."""
        if scheduler_stats is None:
            return
        try:
            usage = _finite(scheduler_stats.kv_cache_usage)
            blocks = self.num_gpu_blocks
            active = None if blocks is None else int(blocks * usage)
        except Exception as error:  # an engine must not suffer from its metrics
            ERRORS.count("scheduler_stats", "raised", error)
            return
        try:
            hit_rate = _hit_rate(scheduler_stats)
        except Exception as error:  # an engine must not suffer from its metrics
            ERRORS.count("prefix_cache_stats", "raised", error)
            hit_rate = None
        if active is not None:
            self._publish(active)
        self._show(usage, hit_rate)

    def log(self) -> None:
        """Log nothing: there are others for that."""

    def log_engine_initialized(self) -> None:
        """Log nothing when the engine is ready, either."""

    def record_sleep_state(self, *args: object, **kwargs: object) -> None:
        """Take no notice of whether the engine sleeps."""

    def _publish(self, active: int) -> None:
        if self.publisher is not None:
            self._publishing.notify(_published, self.publisher, self.dp_rank, active)

    def _show(self, usage: float | None, hit_rate: float | None) -> None:
        if self._gauges is not None:
            self._showing.notify(
                _shown, self._gauges, self.dp_rank, self.num_gpu_blocks, usage, hit_rate
            )


# Functions, and not methods: a logger that is dropped goes at once, and its threads with it. What
# an observer lacks is missed here, where it cannot hurt, and not where the engine calls.


def _published(publisher: Any, dp_rank: int, active: int) -> object:
    return publisher.publish(dp_rank, kv_used_blocks=active)


def _shown(
    gauges: ComponentGauges,
    dp_rank: int,
    blocks: int | None,
    usage: float | None,
    hit_rate: float | None,
) -> None:
    """Set what is known; Dynamo's own gauges do not take what is not."""
    if blocks is not None:
        gauges.set_total_blocks(dp_rank, blocks)
    if usage is not None:
        gauges.set_gpu_cache_usage(dp_rank, usage)
    if hit_rate is not None:
        gauges.set_kv_cache_hit_rate(dp_rank, hit_rate)


def _hit_rate(scheduler_stats: Any) -> float | None:
    """Return which part of the tokens that were looked up was found, None if none were."""
    looked_up = getattr(scheduler_stats, "prefix_cache_stats", None)
    if looked_up is None or not looked_up.queries:
        return None
    return _finite(looked_up.hits) / _finite(looked_up.queries)


def _finite(value: Any) -> float:
    """Return *value* as a number to be shown. Raises if it is none."""
    number = float(value)
    if not math.isfinite(number):
        message = f"{number} is not known"
        raise ValueError(message)
    return number


class StatLoggerFactory:
    """Makes a `StatLogger` for each data-parallel rank, when vLLM calls it, and keeps all.

    `created_loggers` has them by rank.
    """

    def __init__(
        self,
        endpoint: Endpoint | None = None,
        component_gauges: ComponentGauges | None = None,
        publisher_factory: Callable[..., Publisher] | None = None,
    ) -> None:
        """Have each logger publish for *endpoint*, if it is known yet.

        *publisher_factory* makes the publisher of one rank; it is called without arguments, or
        with the endpoint if it needs one.
        """
        self.created_loggers: dict[int, StatLogger] = {}
        self._endpoint = endpoint
        self._gauges = component_gauges
        self._publisher_factory = publisher_factory
        self._num_gpu_blocks: int | None = None
        self._connecting: set[asyncio.Task[None]] = set()

    def __call__(self, vllm_config: object, dp_rank: int = 0) -> StatLogger:  # noqa: ARG002
        """Return the logger of a rank: what vLLM calls a stat logger factory."""
        return self.create_stat_logger(dp_rank)

    def create_stat_logger(self, dp_rank: int = 0) -> StatLogger:
        """Return the logger of a rank, always the same."""
        if dp_rank not in self.created_loggers:
            logger = StatLogger(
                dp_rank, component_gauges=self._gauges, num_gpu_blocks=self._num_gpu_blocks
            )
            # Another thread may have been quicker.
            if self.created_loggers.setdefault(dp_rank, logger) is logger:
                self._connect(logger)
        return self.created_loggers[dp_rank]

    def set_num_gpu_blocks_all(self, num_gpu_blocks: int) -> None:
        """Tell all loggers, and those that are yet to come, how many blocks there are."""
        self._num_gpu_blocks = num_gpu_blocks
        for logger in list(self.created_loggers.values()):
            logger.set_num_gpu_blocks(num_gpu_blocks)

    def init_publish(self) -> None:
        """Have all loggers publish zeros."""
        for logger in list(self.created_loggers.values()):
            logger.init_publish()

    def bind_endpoint(self, endpoint: Endpoint) -> None:
        """Take the *endpoint* that was not known at first, as after a restore from a snapshot.

        Raises `EndpointBoundError`, a `RuntimeError`, when there is one already.
        """
        if self._endpoint is not None:
            raise EndpointBoundError(self._endpoint, endpoint)
        self._endpoint = endpoint
        for logger in list(self.created_loggers.values()):
            self._connect(logger)

    def errors(self) -> Mapping[tuple[str, str], int]:
        """Return how often observers in this process have failed, by source and reason."""
        return ERRORS.counts()

    def _connect(self, logger: StatLogger) -> None:
        """Give a logger its publisher, if there is an endpoint for it. Never raises."""
        if self._publisher_factory is None or self._endpoint is None:
            return
        try:
            logger.publisher = _made(self._publisher_factory, self._endpoint)
        except Exception as error:  # an engine must not suffer from its metrics
            ERRORS.count("publisher_factory", "raised", error)
        else:
            self._introduce(logger.publisher, self._endpoint)

    def _introduce(self, publisher: Publisher, endpoint: Endpoint) -> None:
        """Give a *publisher* its endpoint, if it wants one, in the loop that runs. Never raises."""
        try:
            create = getattr(publisher, "create_endpoint", None)
            created = create(endpoint) if callable(create) else None
        except Exception as error:  # sources are anybody's code
            ERRORS.count("create_endpoint", "raised", error)
            return
        if inspect.iscoroutine(created) or isinstance(created, asyncio.Future):
            self._await(created)

    def _await(self, created: Any) -> None:
        waiting = _waited(created)
        try:
            task = asyncio.get_running_loop().create_task(waiting)
        except RuntimeError as error:
            waiting.close()
            if inspect.iscoroutine(created):
                created.close()
            ERRORS.count("create_endpoint", "raised", error)
            return
        # A loop keeps no task alive by itself.
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)


async def _waited(created: Any) -> None:
    try:
        await created
    except Exception as error:  # a family may be anything
        ERRORS.count("create_endpoint", "raised", error)


def _made(factory: Callable[..., Publisher], endpoint: Endpoint) -> Publisher:
    """Call a publisher *factory*, with the *endpoint* if it cannot do without."""
    try:
        inspect.signature(factory).bind()
    except TypeError:
        return factory(endpoint)
    except ValueError:  # a builtin does not tell its signature
        return factory()
    return factory()
