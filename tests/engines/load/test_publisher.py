"""The load publisher: what is sent when, by a clock that the test moves."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any
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

if TYPE_CHECKING:
    from collections.abc import Callable

TIMING = DebounceTiming(window=1, max_wait=5, min_interval=0, heartbeat=100, retry=10)


def slot(timing: DebounceTiming = TIMING) -> Debounce[str]:
    """Return a debounce without a value."""
    return Debounce(timing)


def test_nothing_is_due_before_there_is_a_value() -> None:
    """Not even a heartbeat."""
    assert slot().due() is None


def test_a_value_waits_until_it_is_quiet() -> None:
    """Every change begins the window anew, but not for ever."""
    debounce = slot()
    for now in range(7):
        assert debounce.change(f"value {now}", now)
        assert debounce.due() == min(now + 1, 5)
    debounce.record_success("value 6", 7)
    assert debounce.due() == 107
    assert debounce.change("new", 20)
    assert debounce.due() == 21


def test_what_has_not_changed_is_no_change() -> None:
    """Neither while it waits nor once it is out; what has come back need not go out."""
    debounce = slot()
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
    """Whatever the window says."""
    debounce = slot(TIMING._replace(min_interval=30))
    debounce.change("a", 0)
    debounce.record_success("a", 1)
    debounce.change("b", 2)
    assert debounce.due() == 31


def test_after_a_failure_the_newest_value_is_tried_again() -> None:
    """Whether it has changed meanwhile or not; a failed heartbeat, too."""
    debounce = slot()
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
    """Is pending from then on."""
    debounce = slot()
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
    """No change waits longer than it may, and the last value goes out, or is being tried."""
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
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        """Begin at 0."""
        self.time = 0.0
        self.waiting = threading.Semaphore(0)
        """Counts how often the publisher has found nothing to do."""
        self._condition: threading.Condition | None = None

    def now(self) -> float:
        """Return the time."""
        return self.time

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        """Wait until the test says so."""
        self._condition = condition
        self.asked = seconds
        self.waiting.release()
        condition.wait()

    def idle(self) -> None:
        """Return once the publisher has nothing to do."""
        assert self.waiting.acquire(timeout=30)

    def move(self, seconds: float) -> None:
        """Let time pass."""
        assert self._condition is not None
        with self._condition:
            self.time += seconds
            self._condition.notify()

    def pass_(self, seconds: float) -> None:
        """Let time pass, and return when the publisher has done what was due by then."""
        self.move(seconds)
        self.idle()


class Sender:
    """Remembers what was sent, or fails."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.sent: list[dict[str, int]] = []
        self.fails = False

    def __call__(self, load: ActiveLoad) -> None:
        """Take a load."""
        if self.fails:
            message = "no broker"
            raise ConnectionError(message)
        self.sent.append(load.fields())


def made(**more: Any) -> tuple[WorkerLoadPublisher, Sender, FakeClock]:
    """Return a publisher with what it depends on."""
    sender, clock = Sender(), FakeClock()
    timing = TIMING._replace(**more)
    return WorkerLoadPublisher(sender, 7, timing=timing, clock=clock), sender, clock


def load(rank: int, **more: int) -> dict[str, int]:
    """Return what is sent of a rank."""
    return {"worker_id": 7, "dp_rank": rank, **more}


def test_each_rank_has_a_slot() -> None:
    """Ranks that change at the same time do not overwrite each other."""
    publisher, sender, clock = made()
    for blocks in (1, 2, 3):
        publisher.publish(0, kv_used_blocks=blocks)
        publisher.publish(1, kv_used_blocks=10 * blocks)
    publisher.publish(None, active_decode_blocks=5)
    clock.idle()
    clock.pass_(1)
    assert sender.sent == [
        load(0, active_decode_blocks=5, kv_used_blocks=3),
        load(1, kv_used_blocks=30),
    ]
    assert publisher.counts() == {"published": 2, "suppressed": 5, "failed": 0}
    publisher.close()


def test_without_names_used_blocks_come_first() -> None:
    """They are what is always known."""
    publisher, sender, clock = made()
    publisher.publish(0, 4, 5)
    clock.idle()
    clock.pass_(1)
    assert sender.sent == [load(0, active_decode_blocks=5, kv_used_blocks=4)]
    publisher.close()


def test_nothing_new_is_suppressed_and_idle_ranks_are_heard_of() -> None:
    """A router that comes late learns of all ranks."""
    publisher, sender, clock = made()
    publisher.publish(0, kv_used_blocks=1)
    clock.idle()
    clock.pass_(1)
    for _ in range(3):
        publisher.publish(0, kv_used_blocks=1)
    clock.pass_(99)
    assert sender.sent == [load(0, kv_used_blocks=1)]
    clock.pass_(1)
    assert sender.sent == [load(0, kv_used_blocks=1)] * 2
    assert publisher.counts() == {"published": 2, "suppressed": 3, "failed": 0}
    publisher.close()


def test_a_value_that_never_rests_is_sent() -> None:
    """At the latest after the maximum wait."""
    publisher, sender, clock = made()
    publisher.publish(0, kv_used_blocks=0)
    clock.idle()
    for blocks in range(1, 21):
        publisher.publish(0, kv_used_blocks=blocks)
        clock.idle()
        clock.pass_(0.5)
    assert [each["kv_used_blocks"] for each in sender.sent] == [10, 20]
    publisher.close()


def test_after_a_failure() -> None:
    """The newest value is sent, not the one that failed."""
    publisher, sender, clock = made()
    sender.fails = True
    publisher.publish(0, kv_used_blocks=1)
    clock.idle()
    clock.pass_(1)
    assert publisher.counts()["failed"] == 1
    publisher.publish(0, kv_used_blocks=2)
    clock.idle()
    sender.fails = False
    clock.pass_(9)
    assert sender.sent == []
    clock.pass_(1)
    assert sender.sent == [load(0, kv_used_blocks=2)]
    publisher.close()


def test_closing_sends_what_is_left() -> None:
    """And nothing more is taken then."""
    publisher, sender, clock = made()
    publisher.publish(3, kv_used_blocks=1)
    clock.idle()
    publisher.close()
    publisher.publish(3, kv_used_blocks=2)
    publisher.close()
    assert sender.sent == [load(3, kv_used_blocks=1)]


def test_a_sender_that_hangs_keeps_nobody() -> None:
    """Neither who publishes nor, for long, who closes."""
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


def test_the_clock_of_the_machine() -> None:
    """With the times that it has by default."""
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
def test_a_load_that_says_nothing(rank: int | None) -> None:
    """Is a mistake of who publishes it."""
    publisher, *_ = made()
    with pytest.raises(LoadError, match=f"rank {rank or 0}: neither"):
        publisher.publish(rank)


class Whole:
    """A whole number of another library's."""

    def __index__(self) -> int:
        """Return it."""
        return 3


@pytest.mark.parametrize("wrong", [-1, 0.5, "7", 1 << 64, float("nan"), [1]])
@pytest.mark.parametrize("what", ["dp_rank", "kv_used_blocks", "active_decode_blocks"])
def test_numbers_that_dynamo_does_not_have(what: str, wrong: Any) -> None:
    """They would fail whenever they are sent, and so are refused at once."""
    publisher, *_ = made()
    with pytest.raises(LoadError, match=f"{what} is n"):
        publisher.publish(**{"kv_used_blocks": 1, what: wrong})
    assert publisher.counts() == {"published": 0, "suppressed": 0, "failed": 0}


def test_numbers_of_other_libraries() -> None:
    """They are sent as Python's own, which is what can be packed."""
    publisher, sender, clock = made()
    number: Any = Whole()
    publisher.publish(number, kv_used_blocks=number, active_decode_blocks=True)
    clock.idle()
    clock.pass_(1)
    assert sender.sent == [load(3, kv_used_blocks=3, active_decode_blocks=1)]
    assert {type(value) for value in sender.sent[0].values()} == {int}
    publisher.close()


def test_there_is_an_end_to_ranks() -> None:
    """Each is remembered for good."""
    publisher, _, clock = made()
    for rank in range(1024):
        publisher.publish(rank, kv_used_blocks=1)
    with pytest.raises(LoadError, match="there are 1024 ranks already"):
        publisher.publish(1024, kv_used_blocks=1)
    publisher.publish(1023, kv_used_blocks=2)
    clock.idle()
    publisher.close()
    assert publisher.counts()["published"] == 1024


def test_a_sender_that_panics() -> None:
    """What is no `Exception`, as what comes of Rust, does not end the publisher either."""
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
    """Costs nobody anything."""

    class Closing(Sender):
        def close(self) -> None:
            message = "it is closed already"
            raise OSError(message)

    before = ERRORS.counts().get(("load", "raised"), 0)
    WorkerLoadPublisher(Closing(), 7).close()
    assert ERRORS.counts()["load", "raised"] == before + 1


def test_no_thread_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next change tries again."""
    publisher, sender, clock = made()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", Mock(side_effect=RuntimeError("no thread")))
        publisher.publish(0, kv_used_blocks=1)
    publisher.publish(0, kv_used_blocks=2)
    clock.idle()
    clock.pass_(1)
    publisher.close()
    assert sender.sent == [load(0, kv_used_blocks=2)]


def test_a_heartbeat_beyond_what_a_thread_can_wait() -> None:
    """Is as good as none."""
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
def test_times_that_cannot_be(wrong: dict[str, float]) -> None:
    """Are found at once."""
    (name,) = wrong
    with pytest.raises(DebounceTimingError, match=f"{name} cannot be"):
        made(**wrong)


def test_every_load_is_published_or_suppressed() -> None:
    """What is replaced before it is sent is suppressed, but not what is replaced while it is."""
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
    clock.idle()
    clock.move(TIMING.window)
    assert under_way.wait(30)
    for blocks in (4, 5):
        publisher.publish(0, kv_used_blocks=blocks)  # 3 is being sent, 4 is replaced
    over.set()
    publisher.close()
    assert sent == [3, 5]
    assert publisher.counts() == {"published": 1, "suppressed": 4, "failed": 1}


def test_counts_are_a_metric() -> None:
    """The publisher can be registered."""
    publisher, _, clock = made()
    registry = CollectorRegistry()
    registry.register(publisher)
    for blocks in (1, 1):
        publisher.publish(0, kv_used_blocks=blocks)
    clock.idle()
    clock.pass_(1)
    assert series(generate_latest(registry).decode().replace("mpmetrics_", "m_")) == {
        "m_load_publications_total{outcome=published}": 1,
        "m_load_publications_total{outcome=suppressed}": 1,
        "m_load_publications_total{outcome=failed}": 0,
    }
    publisher.close()


def test_a_forked_child_publishes_for_itself() -> None:
    """It has neither the thread nor the load of its parent."""
    let_go: Callable[[ActiveLoad], None] = lambda load: os._exit(load.kv_used_blocks or 1)  # noqa: E731
    publisher = WorkerLoadPublisher(let_go, 7)
    child = fork()
    if child == 0:
        publisher.publish(0, kv_used_blocks=9)
        threading.Event().wait(30)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 9
