"""A watch over an engine: is it alive, and what is to be done when it is not any more."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from mpmetrics.directory import Liveness, is_alive, list_directory

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from mpmetrics.engines.directory import MultiprocDirectory

    Check = Callable[[], Awaitable[object] | object]
    """Is called for the engine's health; it is dead if that raises, is late or returns False.

    What is no coroutine function is called in a thread of its own.
    """

    Step = Callable[[], Awaitable[object] | object]

_log = logging.getLogger("mpmetrics")


class Clock(Protocol):
    """What a monitor needs of time."""

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""
        ...  # pragma: no cover - a protocol has no body


class EventLoopClock:
    """The time of the event loop."""

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""
        await asyncio.sleep(seconds)


class MonitorTiming(NamedTuple):
    """How often an engine is asked, and how long it has for an answer; all in seconds.

    *grace* is what each step after its death may take.
    """

    interval: float = 2.0
    timeout: float = 30.0
    grace: float = 5.0

    @classmethod
    def from_environment(cls, variables: Mapping[str, str] = os.environ) -> MonitorTiming:
        """Return what Dynamo's variables say; one that makes no sense is passed over."""
        found = {
            field: _seconds(variables.get(name, ""), cls._field_defaults[field])
            for field, name in _VARIABLES.items()
        }
        return cls(**found)


_VARIABLES: Final = {
    "interval": "DYN_ENGINE_HEALTH_CHECK_INTERVAL",
    "timeout": "DYN_ENGINE_HEALTH_CHECK_TIMEOUT",
}


def _seconds(text: str, default: float) -> float:
    """Return *text* as seconds, the *default* if that would mean never or all the time."""
    try:
        seconds = float(text)
    except ValueError:
        return default
    return seconds if math.isfinite(seconds) and seconds > 0 else default


class EngineMonitor:
    """Asks an engine for its health, and cleans up after it when it is dead.

    On its death the monitor logs why; removes the live gauges of processes that are dead, as
    `mark_process_dead` does; calls everything in *flush*; removes the *directory*, if it is ours
    and nobody uses it; and calls *shutdown*, whatever became of the other steps.
    """

    def __init__(
        self,
        check: Check,
        shutdown: Step,
        *,
        directory: MultiprocDirectory | None = None,
        flush: Iterable[Step] = (),
        is_stopping: Callable[[], bool] = bool,
        timing: MonitorTiming | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Take what to call; *is_stopping* says whether the engine is meant to end."""
        self.reason = ""
        """Why the engine is dead, "" as long as it is not."""
        self._check = _apart(check)
        self._shutdown = shutdown
        self._directory = directory
        self._flush = tuple(flush)
        self._is_stopping = is_stopping
        self._timing = timing or MonitorTiming.from_environment()
        self._clock = clock or EventLoopClock()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch, in the event loop that runs."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self.run())

    async def stop(self) -> None:
        """Watch no longer; what is being done after the engine's death goes on.

        It may be called by that, too, in whatever task.
        """
        if self.reason:
            return
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def run(self) -> None:
        """Watch until the engine is dead and everything is done, or it is meant to end."""
        while not self._is_stopping():
            reason = await self._why_dead()
            if self._is_stopping():
                return
            if reason:
                self.reason = reason
                await self._bury()
                return
            await self._clock.sleep(self._timing.interval)

    async def _why_dead(self) -> str:
        """Ask the engine once; return what is wrong with it, "" if it is well."""
        try:
            answer = await self._within(self._timing.timeout, self._check)
        except _LateError:
            return f"no answer within {self._timing.timeout:g} s"
        except Exception as error:  # an engine must not suffer from its metrics
            return f"{type(error).__name__}: {error}"
        return "it says so" if answer is False else ""

    async def _bury(self) -> None:
        """Do all that is to be done after the engine's death, each step whatever the others did."""
        _log.error("the engine is dead: %s", self.reason)
        steps: list[tuple[str, Step]] = [("marking the dead", _apart(self._mark))]
        steps += [(f"flushing by {_name(step)}", _apart(step)) for step in self._flush]
        if self._directory is not None:
            steps.append(("removing the directory", _apart(self._directory.close)))
        for name, step in steps:
            try:
                await self._within(self._timing.grace, step)
            except _LateError:
                _log.error("%s takes more than %g s", name, self._timing.grace)
            except Exception:  # the next step is to be done all the same
                _log.exception("%s failed", name)
        try:
            result = self._shutdown()
            if inspect.isawaitable(result):
                await result
        except Exception:  # there is nobody who could do anything about it
            _log.exception("the shutdown failed")

    def _mark(self) -> None:
        """Remove the live gauges of processes that are provably dead."""
        if self._directory is None:
            return
        for file in list_directory(self._directory.path).files:
            if file.name.is_live and is_alive(file.path) is Liveness.DEAD:
                with suppress(FileNotFoundError):
                    os.unlink(file.path)

    async def _within(self, seconds: float, call: Step) -> object:
        """Return what *call* returns. Raises what it raises, or `_LateError`."""
        calling = asyncio.ensure_future(_called(call))
        sleeping = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait([calling, sleeping], return_when=asyncio.FIRST_COMPLETED)
            if not calling.done():
                raise _LateError
            if calling.cancelled():
                raise _CancelledError
            return calling.result()
        finally:
            for task in (calling, sleeping):
                task.cancel()


class _LateError(Exception):
    """There was no answer in time."""


class _CancelledError(Exception):
    """The engine cancelled what asked it."""

    def __str__(self) -> str:
        return "the health check was cancelled"


class _NoExceptionError(Exception):
    """What was called raised something that would end more than the call, as a panic in Rust."""

    def __str__(self) -> str:
        return repr(self.__cause__)


async def _called(call: Step) -> object:
    try:
        result = call()
        return await result if inspect.isawaitable(result) else result
    except (Exception, asyncio.CancelledError, KeyboardInterrupt):
        raise
    except BaseException as error:  # with no answer, nobody would ask again
        raise _NoExceptionError from error


def _name(step: Step) -> str:
    return getattr(step, "__qualname__", None) or repr(step)


def _apart(step: Step) -> Step:
    """Return *step* as one that blocks nobody: what is no coroutine runs in its own thread."""
    if inspect.iscoroutinefunction(step):
        return step

    async def apart() -> object:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def settle(method: str, value: object) -> None:
            if not future.done():
                getattr(future, method)(value)

        def run() -> None:
            try:
                outcome: tuple[str, object] = ("set_result", step())
            except StopIteration as error:  # no future takes that
                outcome = ("set_exception", RuntimeError(repr(error)))
            except BaseException as error:
                outcome = ("set_exception", error)
            with suppress(RuntimeError):  # nobody waits any more
                loop.call_soon_threadsafe(settle, *outcome)

        # Not by an executor, whose threads the interpreter waits for when it ends.
        threading.Thread(target=run, name="mpmetrics-monitor", daemon=True).start()
        result = await future
        return await result if inspect.isawaitable(result) else result

    return apart
