"""The connections to publishers: whether they are there, and what is said when they are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mpmetrics.engines.events.connection import PATIENCE_TO_CONNECT
from mpmetrics.engines.events.publisher_endpoints import Publisher
from mpmetrics.engines.events.subscription import Subscription
from mpmetrics.pages import Page
from tests.engines.events.publishing import Consumer, EnginePublisher
from tests.workers import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

zmq = pytest.importorskip("zmq", reason="the extra zmq is not installed")


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    """Return the endpoints of a publisher that is not there yet."""
    return Publisher(0, f"ipc://{tmp_path}/live", f"ipc://{tmp_path}/replay")


@pytest.fixture
def subscription(publisher: Publisher) -> Iterator[Subscription]:
    """Subscribe to it."""
    with zmq.Context() as context:
        made = Subscription(context, publisher, number=0, topic="", patience=PATIENCE)
        yield made
        made.close()


def wait_for(subscription: Subscription, **expected: bool) -> None:
    """Wait until the connections are as *expected*."""
    poller = zmq.Poller()
    for monitor in subscription.monitors:
        poller.register(monitor, zmq.POLLIN)
    while subscription.is_up != expected:
        assert poller.poll(PATIENCE * 1000), subscription.is_up
        subscription.check_connections(0.0)


def test_a_publisher_that_comes_and_goes(
    publisher: Publisher, subscription: Subscription, caplog: pytest.LogCaptureFixture
) -> None:
    """A missing publisher is reported once, after some seconds, and so is its coming."""
    assert publisher.replay
    for now in (0.0, PATIENCE_TO_CONNECT - 1):
        subscription.check_connections(now)
    assert subscription.is_up == {"live": False, "replay": False}
    assert caplog.messages == []
    for now in (PATIENCE_TO_CONNECT, PATIENCE_TO_CONNECT + 1):
        subscription.check_connections(now)
    nothing = "nothing that speaks ZeroMQ answers at"
    assert caplog.messages == [
        f"{nothing} {publisher.replay}, so no missing messages are replayed",
        f"{nothing} {publisher.endpoint}, so no KV events are read",
    ]
    caplog.clear()
    with EnginePublisher(publisher.endpoint, publisher.replay):
        wait_for(subscription, live=True, replay=True)
    assert sorted(caplog.messages) == [
        f"{publisher.endpoint} is there now",
        f"{publisher.replay} is there now",
    ]
    wait_for(subscription, live=False, replay=False)


def test_a_replay_endpoint_that_is_mistyped(publisher: Publisher, tmp_path: Path) -> None:
    """A mistyped endpoint for replays shows before the first gap."""
    mistyped = publisher._replace(replay=f"ipc://{tmp_path}/other")
    with zmq.Context() as context:
        made = Subscription(context, mistyped, number=0, topic="", patience=PATIENCE)
        with EnginePublisher(publisher.endpoint, publisher.replay):
            wait_for(made, live=True, replay=False)
        made.close()


def test_ready_only_when_connected(publisher: Publisher) -> None:
    """A page is ready only when the engine answers, and its metrics say so."""
    with Consumer(publisher) as consumer:
        page = Page([consumer.bridge.metrics])
        assert len(page.readiness_errors()) in {1, 2}
        with EnginePublisher(publisher.endpoint, publisher.replay) as engine:
            engine.do("subscribed")
            while page.readiness_errors():  # the bridge learns of its connections when they come
                pass
            series = consumer.series()
            assert series["publisher_up 0 live"] == series["publisher_up 0 replay"] == 1
        while len(page.readiness_errors()) < 2:  # it learns of their end, too
            pass
    assert page.readiness_errors() == [
        "no connection to the replay endpoint of rank 0",
        "no connection to the live endpoint of rank 0",
    ]
