"""The load publisher: which loads it sends when, by a clock that the test moves."""

from __future__ import annotations

import os
import threading
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from mpmetrics.engines.errors import DebounceTimingError, LoadError
from mpmetrics.engines.load.debounce import Debounce, DebounceTiming
from mpmetrics.engines.load.publisher import ActiveLoad, WorkerLoadPublisher
from mpmetrics.engines.observers import ERRORS
from tests.engines.endpoints import series
from tests.workers import fork

TIMING = DebounceTiming(window=1, max_wait=5, min_interval=0, heartbeat=100, retry=10)


def make_debounce(timing: DebounceTiming = TIMING) -> Debounce[str]:
    """Return a debounce without a value."""
    return Debounce(timing)


def test_nothing_is_due_before_there_is_a_value() -> None:
    """Without a value nothing is due, not even a heartbeat."""
    assert make_debounce().due() is None


def test_a_value_waits_until_it_is_quiet() -> None:
    """Every change restarts the window, but not beyond the maximum wait."""
    debounce = make_debounce()
    for now in range(7):
        assert debounce.change(f"value {now}", now)
        assert debounce.due() == min(now + 1, 5)
    debounce.record_success("value 6", 7)
    assert debounce.due() == 107
    assert debounce.change("new", 20)
    assert debounce.due() == 21


def test_an_equal_value_is_no_change() -> None:
    """An equal value is no change; a change back to the published value is not pending."""
    debounce = make_debounce()
    assert debounce.change("a", 0)
    assert not debounce.change("a", 0.5)
    assert debounce.due() == 1
    debounce.record_success("a", 1)
    assert not debounce.change("a", 2)
    assert debounce.change("b", 3)
    assert debounce.change("a", 3.5)
    assert not debounce.is_pending
    assert debounce.due() == 101


def test_publications_keep_their_distance() -> None:
    """Two publications are at least the minimum interval apart."""
    debounce = make_debounce(TIMING._replace(min_interval=30))
    debounce.change("a", 0)
    debounce.record_success("a", 1)
    debounce.change("b", 2)
    assert debounce.due() == 31


def test_after_a_failure_the_newest_value_is_tried_again() -> None:
    """After a failure the newest value, or the heartbeat, is due again after the retry time."""
    debounce = make_debounce()
    debounce.change("a", 0)
    debounce.record_failure(1)
    assert debounce.due() == 11
    debounce.change("b", 12)
    assert debounce.due() == 11  # it has waited long enough
    debounce.record_success("b", 12.5)
    debounce.record_failure(112.5)
    assert debounce.due() == 122.5
    debounce.record_success("b", 122.5)
    assert debounce.due() == 222.5


def test_a_value_that_changes_while_it_is_sent() -> None:
    """A value that changes while the earlier one is sent is pending afterwards."""
    debounce = make_debounce()
    debounce.change("a", 0)
    debounce.change("b", 1.5)
    debounce.record_success("a", 2)
    assert debounce.is_pending
    assert debounce.due() == 2.5


@given(
    st.lists(
        st.tuples(st.sampled_from([0.25, 0.5, 1.0, 3.0, 20.0]), st.integers(0, 3), st.booleans()),
        max_size=60,
    )
)
def test_any_history(steps: list[tuple[float, int, bool]]) -> None:
    """In any history no change waits too long, and a value is pending unless it was published."""
    debounce: Debounce[int] = Debounce(TIMING)
    now, sent = 0.0, None
    waiting_since: float | None = None
    failed_at = float("-inf")
    for pause, value, works in steps:
        now += pause
        while (due := debounce.due()) is not None and due <= now:
            if waiting_since is not None:
                assert due <= max(waiting_since + TIMING.max_wait, failed_at + TIMING.retry)
            if works:
                sent = debounce.newest
                assert sent is not None
                debounce.record_success(sent, due)
                waiting_since = None
            else:
                failed_at = due
                debounce.record_failure(due)
        debounce.change(value, now)
        if not debounce.is_pending:
            waiting_since = None
        elif waiting_since is None:
            waiting_since = now
    assert debounce.is_pending == (debounce.newest != sent)


class FakeClock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        """Start at 0."""
        self.time = 0.0
        self.waiting = threading.Semaphore(0)
        """Counts how often the publisher has started to wait."""
        self._condition: threading.Condition | None = None

    def now(self) -> float:
        """Return the time."""
        return self.time

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        """Wait until the test moves the time or something changes."""
        self._condition = condition
        self.asked = seconds
        self.waiting.release()
        condition.wait()

    def wait_until_idle(self) -> None:
        """Wait until the publisher has nothing to do."""
        assert self.waiting.acquire(timeout=30)

    def move(self, seconds: float) -> None:
        """Move the time."""
        assert self._condition is not None
        with self._condition:
            self.time += seconds
            self._condition.notify()

    def move_and_wait(self, seconds: float) -> None:
        """Move the time, and wait until the publisher has done what is due by then."""
        self.move(seconds)
        self.wait_until_idle()


class Sender:
    """A sender that notes the loads, or fails."""

    def __init__(self) -> None:
        """Start without loads."""
        self.sent: list[dict[str, int]] = []
        self.fails = False

    def __call__(self, load: ActiveLoad) -> None:
        """Note a load."""
        if self.fails:
            message = "no broker"
            raise ConnectionError(message)
        self.sent.append(load.fields())


def make_publisher(**more: Any) -> tuple[WorkerLoadPublisher, Sender, FakeClock]:
    """Return a publisher with a fake sender and a fake clock."""
    sender, clock = Sender(), FakeClock()
    timing = TIMING._replace(**more)
    return WorkerLoadPublisher(sender, 7, timing=timing, clock=clock), sender, clock


def fields(rank: int, **more: int) -> dict[str, int]:
    """Return the fields of a load as they are sent."""
    return {"worker_id": 7, "dp_rank": rank, **more}


def test_each_rank_is_debounced_on_its_own() -> None:
    """Ranks that change at the same time do not replace each other's loads."""
    publisher, sender, clock = make_publisher()
    for blocks in (1, 2, 3):
        publisher.publish(0, kv_used_blocks=blocks)
        publisher.publish(1, kv_used_blocks=10 * blocks)
    publisher.publish(None, active_decode_blocks=5)
    clock.wait_until_idle()
    clock.move_and_wait(1)
    assert sender.sent == [
        fields(0, active_decode_blocks=5, kv_used_blocks=3),
        fields(1, kv_used_blocks=30),
    ]
    assert publisher.counts() == {"published": 2, "suppressed": 5, "failed": 0}
    publisher.close()


def test_the_order_of_positional_arguments() -> None:
    """The second positional argument is the number of used blocks, the third of active ones."""
    publisher, sender, clock = make_publisher()
    publisher.publish(0, 4, 5)
    clock.wait_until_idle()
    clock.move_and_wait(1)
    assert sender.sent == [fields(0, active_decode_blocks=5, kv_used_blocks=4)]
    publisher.close()


def test_equal_loads_are_suppressed_and_idle_ranks_have_heartbeats() -> None:
    """Equal loads are suppressed, and the load of an idle rank is sent at every heartbeat."""
    publisher, sender, clock = make_publisher()
    publisher.publish(0, kv_used_blocks=1)
    clock.wait_until_idle()
    clock.move_and_wait(1)
    for _ in range(3):
        publisher.publish(0, kv_used_blocks=1)
    clock.move_and_wait(99)
    assert sender.sent == [fields(0, kv_used_blocks=1)]
    clock.move_and_wait(1)
    assert sender.sent == [fields(0, kv_used_blocks=1)] * 2
    assert publisher.counts() == {"published": 2, "suppressed": 3, "failed": 0}
    publisher.close()


def test_a_value_that_never_rests_is_sent() -> None:
    """A load that always changes is sent after the maximum wait."""
    publisher, sender, clock = make_publisher()
    publisher.publish(0, kv_used_blocks=0)
    clock.wait_until_idle()
    for blocks in range(1, 21):
        publisher.publish(0, kv_used_blocks=blocks)
        clock.wait_until_idle()
        clock.move_and_wait(0.5)
    assert [each["kv_used_blocks"] for each in sender.sent] == [10, 20]
    publisher.close()


def test_after_a_failure() -> None:
    """After a failure the newest load is sent, not the one that failed."""
    publisher, sender, clock = make_publisher()
    sender.fails = True
    publisher.publish(0, kv_used_blocks=1)
    clock.wait_until_idle()
    clock.move_and_wait(1)
    assert publisher.counts()["failed"] == 1
    publisher.publish(0, kv_used_blocks=2)
    clock.wait_until_idle()
    sender.fails = False
    clock.move_and_wait(9)
    assert sender.sent == []
    clock.move_and_wait(1)
    assert sender.sent == [fields(0, kv_used_blocks=2)]
    publisher.close()


def test_closing_sends_waiting_loads() -> None:
    """`close` sends the loads that are waiting, and later loads are dropped."""
    publisher, sender, clock = make_publisher()
    publisher.publish(3, kv_used_blocks=1)
    clock.wait_until_idle()
    publisher.close()
    publisher.publish(3, kv_used_blocks=2)
    publisher.close()
    assert sender.sent == [fields(3, kv_used_blocks=1)]


def test_a_sender_that_hangs() -> None:
    """A sender that hangs blocks neither `publish` nor, beyond a second, `close`."""
    let_go, hangs = threading.Event(), threading.Event()

    def send(_: ActiveLoad) -> None:
        hangs.set()
        let_go.wait()

    publisher = WorkerLoadPublisher(send, 7, timing=DebounceTiming(window=0))
    publisher.publish(0, kv_used_blocks=1)
    assert hangs.wait(30)
    for blocks in range(1000):
        publisher.publish(0, kv_used_blocks=blocks)
    publisher.close()
    let_go.set()


def test_the_default_clock_and_times() -> None:
    """With the default clock and times, many changes become few publications."""
    sent: list[ActiveLoad] = []
    last = threading.Event()

    def send(load: ActiveLoad) -> None:
        sent.append(load)
        if load.kv_used_blocks == 2000:
            last.set()

    publisher = WorkerLoadPublisher(send, 7)
    for blocks in range(2001):
        publisher.publish(0, kv_used_blocks=blocks)
    assert last.wait(30)
    publisher.close()
    assert publisher.counts()["published"] == len(sent) < 1000


@pytest.mark.parametrize("rank", [None, 0, 5])
def test_a_load_without_numbers(rank: int | None) -> None:
    """A load without any number is an error of the caller."""
    publisher, *_ = make_publisher()
    with pytest.raises(LoadError, match=f"rank {rank or 0}: neither"):
        publisher.publish(rank)


class OtherInteger:
    """An integer of another library."""

    def __index__(self) -> int:
        """Return the integer."""
        return 3


@pytest.mark.parametrize("wrong", [-1, 0.5, "7", 1 << 64, float("nan"), [1]])
@pytest.mark.parametrize("what", ["dp_rank", "kv_used_blocks", "active_decode_blocks"])
def test_numbers_that_dynamo_does_not_have(what: str, wrong: Any) -> None:
    """Numbers that Dynamo cannot represent are refused when they are published."""
    publisher, *_ = make_publisher()
    with pytest.raises(LoadError, match=f"{what} is n"):
        publisher.publish(**{"kv_used_blocks": 1, what: wrong})
    assert publisher.counts() == {"published": 0, "suppressed": 0, "failed": 0}


def test_numbers_of_other_libraries() -> None:
    """Integers of other libraries are sent as Python's own, which msgpack can pack."""
    publisher, sender, clock = make_publisher()
    number: Any = OtherInteger()
    publisher.publish(number, kv_used_blocks=number, active_decode_blocks=True)
    clock.wait_until_idle()
    clock.move_and_wait(1)
    assert sender.sent == [fields(3, kv_used_blocks=3, active_decode_blocks=1)]
    assert {type(value) for value in sender.sent[0].values()} == {int}
    publisher.close()


def test_the_number_of_ranks_is_limited() -> None:
    """Each rank takes memory, so there are at most 1024 ranks."""
    publisher, _, clock = make_publisher()
    for rank in range(1024):
        publisher.publish(rank, kv_used_blocks=1)
    with pytest.raises(LoadError, match="there are 1024 ranks already"):
        publisher.publish(1024, kv_used_blocks=1)
    publisher.publish(1023, kv_used_blocks=2)
    clock.wait_until_idle()
    publisher.close()
    assert publisher.counts()["published"] == 1024


def test_a_sender_that_panics() -> None:
    """An exception that is not an `Exception`, as a panic of Rust, does not end the publisher."""
    calls = []
    sent = threading.Event()

    def send(load: ActiveLoad) -> None:
        calls.append(load.kv_used_blocks)
        if len(calls) == 1:
            raise SystemExit
        sent.set()

    publisher = WorkerLoadPublisher(send, 7, timing=DebounceTiming(retry=0.001))
    publisher.publish(0, kv_used_blocks=1)
    assert sent.wait(30)
    publisher.close()
    assert calls == [1, 1]
    assert publisher.counts()["failed"] == 1


def test_a_sender_that_cannot_be_closed() -> None:
    """An exception of the sender's `close` is counted, and not raised."""

    class Closing(Sender):
        def close(self) -> None:
            message = "it is closed already"
            raise OSError(message)

    before = ERRORS.counts().get(("load", "raised"), 0)
    WorkerLoadPublisher(Closing(), 7).close()
    assert ERRORS.counts()["load", "raised"] == before + 1


def test_a_thread_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the thread cannot be started, the next change tries again."""
    publisher, sender, clock = make_publisher()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", Mock(side_effect=RuntimeError("no thread")))
        publisher.publish(0, kv_used_blocks=1)
    publisher.publish(0, kv_used_blocks=2)
    clock.wait_until_idle()
    clock.move_and_wait(1)
    publisher.close()
    assert sender.sent == [fields(0, kv_used_blocks=2)]


def test_a_heartbeat_beyond_what_a_thread_can_wait() -> None:
    """A heartbeat longer than a thread can wait is the same as none."""
    sent = threading.Event()
    timing = DebounceTiming(window=0, heartbeat=1e300)
    publisher = WorkerLoadPublisher(lambda _: sent.set(), 7, timing=timing)
    for blocks in (1, 2, 3):
        publisher.publish(0, kv_used_blocks=blocks)
        assert sent.wait(30)
        sent.clear()
    publisher.close()


@pytest.mark.parametrize(
    "wrong", [{"window": -1}, {"retry": float("nan")}, {"retry": 0}, {"heartbeat": 1e999}]
)
def test_invalid_times(wrong: dict[str, float]) -> None:
    """Invalid times are an error when the publisher is made."""
    (name,) = wrong
    with pytest.raises(DebounceTimingError, match=f"{name} cannot be"):
        make_publisher(**wrong)


def test_every_load_is_published_or_suppressed() -> None:
    """A load counts as suppressed if it is replaced before it is sent, but not while it is sent."""
    under_way, over = threading.Event(), threading.Event()
    sent = []

    def send(load: ActiveLoad) -> None:
        sent.append(load.kv_used_blocks)
        under_way.set()
        assert over.wait(30)
        if len(sent) == 1:
            raise ConnectionError

    clock = FakeClock()
    publisher = WorkerLoadPublisher(send, 7, timing=TIMING, clock=clock)
    for blocks in (1, 2, 2, 3):
        publisher.publish(0, kv_used_blocks=blocks)  # 1 and 2 are replaced, 2 is nothing new
    clock.wait_until_idle()
    clock.move(TIMING.window)
    assert under_way.wait(30)
    for blocks in (4, 5):
        publisher.publish(0, kv_used_blocks=blocks)  # 3 is being sent, 4 is replaced
    over.set()
    publisher.close()
    assert sent == [3, 5]
    assert publisher.counts() == {"published": 1, "suppressed": 4, "failed": 1}


def test_counts_are_a_metric() -> None:
    """A publisher can be registered, and its counts are a family."""
    publisher, _, clock = make_publisher()
    registry = CollectorRegistry()
    registry.register(publisher)
    for blocks in (1, 1):
        publisher.publish(0, kv_used_blocks=blocks)
    clock.wait_until_idle()
    clock.move_and_wait(1)
    assert series(generate_latest(registry).decode().replace("mpmetrics_", "m_")) == {
        "m_load_publications_total{outcome=published}": 1,
        "m_load_publications_total{outcome=suppressed}": 1,
        "m_load_publications_total{outcome=failed}": 0,
    }
    publisher.close()


def test_a_forked_child_publishes_for_itself() -> None:
    """A forked child has neither the thread nor the loads of its parent."""

    def send(load: ActiveLoad) -> None:
        os._exit(load.kv_used_blocks or 1)

    publisher = WorkerLoadPublisher(send, 7)
    child = fork()
    if child == 0:
        publisher.publish(0, kv_used_blocks=9)
        threading.Event().wait(30)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 9
