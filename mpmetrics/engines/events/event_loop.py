"""An event loop in a thread of its own, and waits that end in time, whatever they wait for."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Coroutine, Iterable

_Result = TypeVar("_Result")

_TO_END: Final = 2.0
"""Seconds in which cancelled tasks and the executor of a loop have to end."""


class LoopThread:
    """An event loop in a thread of its own."""

    def __init__(self, name: str) -> None:
        """Start the thread."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def start(self, coroutine: Coroutine[Any, Any, None]) -> concurrent.futures.Future[None]:
        """Run *coroutine* in the loop; return its future."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def close(self) -> None:
        """Cancel the tasks of the loop, and end the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_TO_END)

    def _run(self) -> None:
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(_cancel_tasks())
        finally:
            self._loop.close()


async def wait_for(coroutine: Coroutine[Any, Any, _Result], seconds: float) -> _Result:
    """Return the result of *coroutine*, or raise `asyncio.TimeoutError` after *seconds*.

    `asyncio.wait_for` waits for the end of what it has cancelled. Some coroutines of nats-py ignore
    their cancellation, and end only with their connection.
    """
    task = asyncio.ensure_future(coroutine)
    await wait_for_first((task,), seconds)
    return await task


async def wait_for_first(
    tasks: Iterable[asyncio.Future[Any]], seconds: float
) -> set[asyncio.Future[Any]]:
    """Wait for the first of *tasks*, and cancel the others. Raises `asyncio.TimeoutError`."""
    waiting = {*tasks}
    done: set[asyncio.Future[Any]]
    try:
        done, _ = await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            if not task.done():
                task.add_done_callback(_ignore_result)
                task.cancel()
    if not done:
        raise asyncio.TimeoutError
    return done


def _ignore_result(task: asyncio.Future[Any]) -> None:
    """Retrieve the exception of *task*, so that asyncio does not log it as never retrieved."""
    if not task.cancelled():
        task.exception()


async def _cancel_tasks() -> None:
    """Cancel all other tasks of the running loop, and wait for their end."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_TO_END / 2)
    await asyncio.sleep(0)  # transports that are being closed are closed in the next round
