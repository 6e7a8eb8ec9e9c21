"""A monitor of the health of an engine: it checks the engine, and cleans up when that is dead."""

from __future__ import annotations

import asyncio
import inspect
import math
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from mpmetrics._log_limit import get_log
from mpmetrics.directory import Liveness, is_alive, list_directory
from mpmetrics.engines.steps import LateError, call_within

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from mpmetrics.engines.directory import MultiprocDirectory
    from mpmetrics.engines.steps import Step

    Check = Callable[[], Awaitable[object] | object]
    """Checks the engine's health; it is dead if the check raises, is late or returns False.

    A function that is not a coroutine function is called in a thread of its own.
    """

_log = get_log()


class Clock(Protocol):
    """What a monitor needs of time."""

    async def sleep(self, seconds: float) -> None:
        """Return after *seconds*."""
        ...  # pragma: no cover - a protocol has no body


class EventLoopClock:
    """The time of the event loop."""

    async def sleep(self, seconds: float) -> None:
        """Return after *seconds*."""
        await asyncio.sleep(seconds)


class MonitorTiming(NamedTuple):
    """The times of a monitor, in seconds.

    *interval* is the pause between two checks, *timeout* the time that a check may take, and
    *grace* the time that each step after the engine's death may take.
    """

    interval: float = 2.0
    timeout: float = 30.0
    grace: float = 5.0

    @classmethod
    def from_environment(cls, variables: Mapping[str, str] = os.environ) -> MonitorTiming:
        """Return the timing that Dynamo's variables ask for; invalid ones are ignored."""
        found = {
            field: _parse_seconds(variables.get(name, ""), cls._field_defaults[field])
            for field, name in _VARIABLES.items()
        }
        return cls(**found)


_VARIABLES: Final = {
    "interval": "DYN_ENGINE_HEALTH_CHECK_INTERVAL",
    "timeout": "DYN_ENGINE_HEALTH_CHECK_TIMEOUT",
}


def _parse_seconds(text: str, default: float) -> float:
    """Return *text* as seconds, the *default* if it is not a finite positive number."""
    try:
        seconds = float(text)
    except ValueError:
        return default
    return seconds if math.isfinite(seconds) and seconds > 0 else default


class EngineMonitor:
    """A monitor that checks an engine's health, and cleans up after it when it is dead.

    On its death the monitor logs the reason; removes the live gauges of dead processes, as
    `mark_process_dead` does; calls everything in *flush*; removes the *directory*, if this process
    owns it and no other uses it; and calls *shutdown*, even if other steps fail.
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
        """Take the functions to call; *is_stopping* returns whether the engine is meant to end."""
        self.reason = ""
        """Why the engine is dead, "" as long as it is alive."""
        self._check = check
        self._shutdown = shutdown
        self._directory = directory
        self._flush = tuple(flush)
        self._is_stopping = is_stopping
        self._timing = timing or MonitorTiming.from_environment()
        self._clock = clock or EventLoopClock()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to check, in a task of the running event loop."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self.run())

    async def stop(self) -> None:
        """Stop checking; the steps after the engine's death go on if they have begun.

        The steps themselves may call this, too, in any task.
        """
        if self.reason:
            return
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def run(self) -> None:
        """Check until the engine is dead and the steps are done, or `is_stopping` is true."""
        while not self._is_stopping():
            reason = await self._find_reason()
            if self._is_stopping():
                return
            if reason:
                self.reason = reason
                await self._clean_up()
                return
            await self._clock.sleep(self._timing.interval)

    async def _find_reason(self) -> str:
        """Check the engine once; return why it is dead, "" if it is alive."""
        try:
            answer = await call_within(self._timing.timeout, self._check, self._clock.sleep)
        except LateError:
            return f"no answer within {self._timing.timeout:g} s"
        except Exception as error:  # whatever the check raises, it means that the engine is dead
            return f"{type(error).__name__}: {error}"
        return "the check returned False" if answer is False else ""

    async def _clean_up(self) -> None:
        """Do all steps after the engine's death; a step that fails does not stop the next."""
        _log.error("the engine is dead: %s", self.reason)
        steps: list[tuple[str, Step]] = [("marking the dead", self._remove_live_gauges)]
        steps += [(f"flushing by {_describe(step)}", step) for step in self._flush]
        if self._directory is not None:
            steps.append(("removing the directory", self._directory.close))
        for name, step in steps:
            try:
                await call_within(self._timing.grace, step, self._clock.sleep)
            except LateError:
                _log.error("%s takes more than %g s", name, self._timing.grace)
            except Exception:  # the next step has to be done all the same
                _log.exception("%s failed", name)
        try:
            result = self._shutdown()
            if inspect.isawaitable(result):
                await result
        except Exception:  # no caller could do anything about it
            _log.exception("the shutdown failed")

    def _remove_live_gauges(self) -> None:
        """Remove the live gauges of processes that are provably dead."""
        if self._directory is None:
            return
        for file in list_directory(self._directory.path).files:
            if file.name.is_live and is_alive(file.path) is Liveness.DEAD:
                with suppress(FileNotFoundError):
                    os.unlink(file.path)


def _describe(step: Step) -> str:
    return getattr(step, "__qualname__", None) or repr(step)
