"""The monitor of an engine, with a clock and a check that the test controls."""

from __future__ import annotations

import asyncio
import re
import threading
from typing import TYPE_CHECKING, Any

import pytest

from mpmetrics.engines import EngineMonitor, MonitorTiming, ensure_multiproc_dir
from mpmetrics.engines.directory import MultiprocDirectory
from tests.workers import PATIENCE, Worker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class FakeClock:
    """A clock whose time passes when the test calls `pass_`."""

    def __init__(self) -> None:
        """Create a clock without sleepers."""
        self.sleepers: list[tuple[float, asyncio.Future[None]]] = []
        self.changed = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        """Wait until `pass_` is called with the same *seconds*."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sleepers.append((seconds, future))
        self.changed.set()
        await future

    async def pass_(self, seconds: float) -> None:
        """Wait for a sleeper of *seconds*, and wake it."""
        while True:
            for asked, future in self.sleepers:
                if asked == seconds and not future.done():
                    future.set_result(None)
                    return
            self.changed.clear()
            await self.changed.wait()


class Engine:
    """An engine that gives the answers that the test has set."""

    def __init__(self) -> None:
        """Create an engine that is alive."""
        self.answers: list[Any] = []
        self.asked = 0
        self.done: list[str] = []

    async def check(self) -> object:
        """Give the next answer: raise an exception, wait for an event, return anything else."""
        self.asked += 1
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, asyncio.Event):
            await answer.wait()
        return answer

    def step(self, name: str) -> Callable[[], None]:
        """Return a step that records its *name*."""
        return lambda: self.done.append(name)


class PanicException(BaseException):
    """What Rust raises in Python on a panic: not an `Exception`."""


TIMING = MonitorTiming(interval=2, timeout=30, grace=5)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (RuntimeError("EngineDead"), "RuntimeError: EngineDead"),
        (False, "the check returned False"),
        (asyncio.CancelledError(), "_CancelledError: it was cancelled"),
        (PanicException("rust"), "_BaseExceptionError: PanicException('rust')"),
        (SystemExit(1), "_BaseExceptionError: SystemExit(1)"),
    ],
    ids=["raises", "returns False", "cancelled", "panic", "exit"],
)
def test_a_dead_engine(answer: Any, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    """An engine is checked until it is dead; then the monitor logs, flushes and shuts down.

    The steps run in this order.
    """

    async def run() -> tuple[Engine, EngineMonitor]:
        engine, clock = Engine(), FakeClock()
        engine.answers = [None, True, answer]
        monitor = EngineMonitor(
            engine.check,
            engine.step("shutdown"),
            flush=[engine.step("first"), engine.step("second")],
            timing=TIMING,
            clock=clock,
        )
        task = asyncio.ensure_future(monitor.run())
        await clock.pass_(2)
        await clock.pass_(2)
        await task
        return engine, monitor

    engine, monitor = asyncio.run(run())
    assert engine.asked == 3
    assert engine.done == ["first", "second", "shutdown"]
    assert monitor.reason == reason
    assert caplog.messages == [f"the engine is dead: {reason}"]


def test_an_engine_that_does_not_answer() -> None:
    """An engine whose check does not return within the timeout is dead."""

    async def run() -> str:
        engine, clock, down = Engine(), FakeClock(), asyncio.Event()
        engine.answers = [asyncio.Event()]
        monitor = EngineMonitor(engine.check, down.set, timing=TIMING, clock=clock)
        monitor.start()
        await clock.pass_(30)
        await down.wait()
        await monitor.stop()
        return monitor.reason

    assert asyncio.run(run()) == "no answer within 30 s"


def test_a_check_that_blocks() -> None:
    """A check that blocks its thread does not block the event loop, and times out."""
    release = threading.Event()

    async def run() -> str:
        clock, down = FakeClock(), asyncio.Event()
        monitor = EngineMonitor(lambda: release.wait(20), down.set, timing=TIMING, clock=clock)
        monitor.start()
        await clock.pass_(30)
        await down.wait()
        await monitor.stop()
        return monitor.reason

    try:
        assert asyncio.run(run()) == "no answer within 30 s"
        assert not release.is_set()
    finally:
        release.set()


def test_an_engine_that_is_meant_to_end_is_not_dead() -> None:
    """An engine that is meant to end is not dead, whatever the check raises."""

    async def run() -> list[str]:
        engine, stopping = Engine(), threading.Event()

        async def check() -> None:
            stopping.set()
            message = "gone"
            raise RuntimeError(message)

        monitor = EngineMonitor(
            check, engine.step("shutdown"), is_stopping=stopping.is_set, clock=FakeClock()
        )
        await monitor.run()
        return engine.done

    assert asyncio.run(run()) == []


def test_stopping() -> None:
    """A monitor that is stopped checks no more, and calls no step."""

    async def run() -> tuple[int, list[str]]:
        engine, clock = Engine(), FakeClock()
        monitor = EngineMonitor(engine.check, engine.step("x"), timing=TIMING, clock=clock)
        monitor.start()
        monitor.start()
        await clock.pass_(2)
        await monitor.stop()
        await monitor.stop()
        return engine.asked, engine.done

    asked, done = asyncio.run(run())
    assert asked in (1, 2)
    assert done == []


def test_steps_that_fail_or_hang(caplog: pytest.LogCaptureFixture) -> None:
    """The shutdown is called even if a step fails and another one hangs."""
    release = threading.Event()

    async def run() -> list[str]:
        engine, clock, hangs = Engine(), FakeClock(), asyncio.Event()
        loop = asyncio.get_running_loop()
        engine.answers = [False]

        def fails() -> None:
            message = "broken"
            raise RuntimeError(message)

        def hang() -> None:
            loop.call_soon_threadsafe(hangs.set)
            release.wait()

        async def shutdown() -> None:
            engine.done.append("shutdown")

        monitor = EngineMonitor(
            engine.check,
            shutdown,
            flush=[fails, hang, engine.step("last")],
            timing=TIMING,
            clock=clock,
        )
        task = asyncio.ensure_future(monitor.run())
        await hangs.wait()
        for _, sleeper in clock.sleepers[:-1]:
            assert sleeper.done()
        await clock.pass_(5)
        await task
        return engine.done

    try:
        assert asyncio.run(run()) == ["last", "shutdown"]
    finally:
        release.set()
    dead, failed, late = caplog.messages
    assert dead == "the engine is dead: the check returned False"
    assert re.search(r"\.fails failed: \w+", failed)
    assert late.endswith(".hang takes more than 5 s")


@pytest.mark.parametrize("error", [PanicException, SystemExit, StopIteration])
@pytest.mark.parametrize("step", ["flush", "check"])
def test_exceptions_in_a_thread(error: type[BaseException], step: str) -> None:
    """The shutdown is called at once, whatever a step raises in its thread."""

    def fails() -> None:
        raise error

    async def run() -> list[str]:
        engine = Engine()
        engine.answers = [False]
        monitor = EngineMonitor(
            fails if step == "check" else engine.check,
            engine.step("shutdown"),
            flush=[fails] if step == "flush" else [],
            timing=TIMING,
            clock=FakeClock(),
        )
        await monitor.run()
        return engine.done

    assert asyncio.run(run()) == ["shutdown"]


@pytest.mark.parametrize("where", ["directly", "in another task"])
def test_a_shutdown_that_stops_the_monitor(where: str) -> None:
    """A shutdown that stops the monitor, itself or in another task, is not cancelled by that."""

    async def run() -> list[str]:
        engine, done = Engine(), asyncio.Event()
        engine.answers = [False]

        async def shutdown() -> None:
            stopping: Any = monitor.stop()
            await (stopping if where == "directly" else asyncio.ensure_future(stopping))
            engine.done.append("shutdown")
            done.set()

        monitor = EngineMonitor(engine.check, shutdown, timing=TIMING, clock=FakeClock())
        monitor.start()
        await asyncio.wait_for(done.wait(), PATIENCE)
        return engine.done

    assert asyncio.run(run()) == ["shutdown"]


def test_stopping_after_the_death() -> None:
    """Stopping the monitor after the engine's death does not prevent the shutdown."""

    async def run() -> None:
        engine, flushing, done = Engine(), asyncio.Event(), asyncio.Event()
        engine.answers = [False]
        go_on = asyncio.Event()

        async def flush() -> None:
            flushing.set()
            await go_on.wait()

        monitor = EngineMonitor(
            engine.check, done.set, flush=[flush], timing=TIMING, clock=FakeClock()
        )
        monitor.start()
        await flushing.wait()
        await monitor.stop()
        go_on.set()
        await asyncio.wait_for(done.wait(), PATIENCE)

    asyncio.run(run())


def test_a_shutdown_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """A shutdown that fails is logged, and `stop` does not raise its exception."""

    async def run() -> None:
        engine = Engine()
        engine.answers = [False]

        def fails() -> None:
            message = "broken"
            raise RuntimeError(message)

        monitor = EngineMonitor(engine.check, fails, timing=TIMING, clock=FakeClock())
        await monitor.run()
        await monitor.stop()

    asyncio.run(run())
    dead, failed = caplog.messages
    assert dead == "the engine is dead: the check returned False"
    assert failed.startswith("the shutdown failed: ")


def test_live_gauges_of_the_dead_are_removed(tmp_path: Path) -> None:
    """Live gauges of dead processes are removed, those of live processes are not.

    A directory that the process does not own stays.
    """

    async def run() -> None:
        engine = Engine()
        engine.answers = [False]
        directory = MultiprocDirectory(str(tmp_path))
        monitor = EngineMonitor(engine.check, engine.step("shutdown"), directory=directory)
        await monitor.run()
        assert engine.done == ["shutdown"]

    with Worker(tmp_path) as dead, Worker(tmp_path) as living:
        for worker in (dead, living):
            worker.do("Gauge('busy', '', multiprocess_mode='livesum').set(1)")
            worker.do("Counter('work', '').inc()")
        dead.kill()
        asyncio.run(run())
        assert sorted(path.name for path in tmp_path.glob("*.db")) == sorted(
            [
                f"counter_{dead.pid}.db",
                f"counter_{living.pid}.db",
                f"gauge_livesum_{living.pid}.db",
            ]
        )


def test_an_owned_directory_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that the process owns is removed when the engine is dead."""
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    async def run() -> None:
        engine = Engine()
        engine.answers = [False]
        directory = ensure_multiproc_dir("engine-")
        assert directory.owned
        await EngineMonitor(engine.check, engine.step("x"), directory=directory).run()

    asyncio.run(run())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("interval", "timeout", "expected"),
    [
        ("", "", (2, 30)),
        ("0.5", "7", (0.5, 7)),
        ("-1", "0", (2, 30)),
        ("nan", "inf", (2, 30)),
        ("often", "1e400", (2, 30)),
    ],
)
def test_variables(interval: str, timeout: str, expected: tuple[float, float]) -> None:
    """Dynamo's variables set the timing; invalid values are ignored."""
    timing = MonitorTiming.from_environment(
        {
            "DYN_ENGINE_HEALTH_CHECK_INTERVAL": interval,
            "DYN_ENGINE_HEALTH_CHECK_TIMEOUT": timeout,
        }
    )
    assert timing == (*expected, 5)
