"""Calls of the steps of a monitor, each within a time limit, whatever the step does.

A step is a function without arguments. If it is not a coroutine function, it runs in a thread of
its own, so that it cannot block the event loop.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Step = Callable[[], Awaitable[object] | object]
    Sleep = Callable[[float], Awaitable[object]]


class LateError(Exception):
    """A step that did not return in time."""


class _CancelledError(Exception):
    """A call that was cancelled, but not by the monitor."""

    def __str__(self) -> str:
        return "it was cancelled"


class _BaseExceptionError(Exception):
    """A step that raised a `BaseException`, such as a panic in Rust, which would end the task."""

    def __str__(self) -> str:
        return repr(self.__cause__)


async def call_within(seconds: float, step: Step, sleep: Sleep) -> object:
    """Return what *step* returns, or raise `LateError` after *seconds*, by the clock of *sleep*.

    Raises what the step raises, but no `BaseException` except `KeyboardInterrupt`.
    """
    calling = asyncio.ensure_future(_call(step))
    sleeping = asyncio.ensure_future(sleep(seconds))
    try:
        await asyncio.wait([calling, sleeping], return_when=asyncio.FIRST_COMPLETED)
        if not calling.done():
            raise LateError
        if calling.cancelled():
            raise _CancelledError
        return calling.result()
    finally:
        for task in (calling, sleeping):
            task.cancel()


async def _call(step: Step) -> object:
    try:
        result = step() if inspect.iscoroutinefunction(step) else await _run_in_thread(step)
        return await result if inspect.isawaitable(result) else result
    except (Exception, asyncio.CancelledError, KeyboardInterrupt):
        raise
    except BaseException as error:  # it would end the monitor, and there would be no clean-up
        raise _BaseExceptionError from error


async def _run_in_thread(step: Step) -> object:
    """Return what *step* returns in a new thread; raise what it raises there."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(method: str, value: object) -> None:
        if not future.done():
            getattr(future, method)(value)

    def run() -> None:
        try:
            outcome: tuple[str, object] = ("set_result", step())
        except StopIteration as error:  # a future does not accept it
            outcome = ("set_exception", RuntimeError(repr(error)))
        except BaseException as error:
            outcome = ("set_exception", error)
        with suppress(RuntimeError):  # the event loop may be closed
            loop.call_soon_threadsafe(settle, *outcome)

    # Not by an executor: the interpreter joins the threads of executors when it ends.
    threading.Thread(target=run, name="mpmetrics-monitor", daemon=True).start()
    return await future
