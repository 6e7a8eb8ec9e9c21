"""`mpmetrics events`: a process that reads the events of a publisher in another process."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.bridges import bridging
from tests.cli.processes import invoke
from tests.engines.events.brokers import Broker, Listener, do, with_stream
from tests.engines.events.messages import CLEARED, batch, removed, stored
from tests.engines.events.publishing import EnginePublisher
from tests.servers import eventually, fetch, free_ports
from tests.workers import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import NeedsProgram


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    """Return the publisher's endpoint."""
    return f"ipc://{tmp_path}/live"


@pytest.fixture
def replay(tmp_path: Path) -> str:
    """Return the endpoint at which the publisher replays messages."""
    return f"ipc://{tmp_path}/replay"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_events_are_printed(endpoint: str, number: int) -> None:
    """Each event is a line of JSON; a signal ends the command with status 0 and no message."""
    with (
        EnginePublisher(endpoint) as publisher,
        bridging("--publisher", endpoint, "--print") as bridge,
    ):
        publisher.do("subscribed")
        publisher.publish(batch(stored(2**64 - 1, size=1, tokens=[7])), batch(removed(3), CLEARED))
        assert bridge.lines(3) == [
            {
                "event": "stored",
                "rank": 0,
                "medium": "device",
                "hashes": [2**64 - 1],
                "parent": None,
                "tokens": [7],
                "block_size": 1,
                "lora": None,
                "salted": False,
            },
            {"event": "removed", "rank": 0, "medium": "device", "hashes": [3]},
            {"event": "cleared", "rank": 0},
        ]
        assert bridge.end(number) == 0
        assert bridge.next_message() == ""


def test_the_metrics_are_served(endpoint: str, replay: str) -> None:
    """The page counts events and replays of missed messages, and is filtered and labelled."""
    arguments = ["--publisher", endpoint, "--replay", replay, "--listen", "127.0.0.1:0"]
    options = ["--exclude", "mpmetrics_kv_lag", "--label", "pool=decode", "--batch", "0.01"]
    with EnginePublisher(endpoint, replay) as publisher:
        publisher.publish(batch(stored(1, 2)), lose=True)
        with bridging(*arguments, *options, "--print") as bridge:
            address = bridge.address()
            publisher.do("subscribed")
            publisher.publish(batch(stored(3, parent=2, tokens=[1, 2]), removed(2), rank=0))
            printed = bridge.lines(2)
            page = ""
            while 'sink="stdout"} 2.0' not in page:  # counted once they are written
                page = fetch(f"{address}/metrics").body.decode()
            assert fetch(f"{address}/-/ready").status == 200
            assert bridge.end() == 0
    assert [line.get("hashes") for line in printed] == [[1, 2, 3], [2]]
    for line in (
        'mpmetrics_kv_blocks_resident{dp_rank="0",medium="device",pool="decode"} 2.0',
        'mpmetrics_kv_replays_total{dp_rank="0",outcome="complete",pool="decode"} 1.0',
        'mpmetrics_kv_sent_events_total{pool="decode",sink="stdout"} 2.0',
    ):
        assert f"{line}\n" in page, page
    assert "mpmetrics_kv_lag" not in page


def test_each_rank_has_its_publisher() -> None:
    """Each rank has a publisher on the next port; the first rank need not be 0."""
    port = free_ports(2)
    arguments = ["--publisher", f"tcp://127.0.0.1:{port - 2}", "--ranks", "2", "--first-rank", "2"]
    with (
        EnginePublisher(f"tcp://127.0.0.1:{port}") as one,
        EnginePublisher(f"tcp://127.0.0.1:{port + 1}") as other,
        bridging(*arguments, "--print") as bridge,
    ):
        for publisher in one, other:
            publisher.do("subscribed")
        one.publish(batch(CLEARED))
        assert bridge.lines(1) == [{"event": "cleared", "rank": 2}]
        other.publish(batch(CLEARED))
        assert bridge.lines(1) == [{"event": "cleared", "rank": 3}]


def test_an_engine_that_connects(endpoint: str) -> None:
    """With --bind the command listens on the endpoint to which an engine connects."""
    arguments = ["--publisher", endpoint, "--bind", "--print", "--listen", "127.0.0.1:0"]
    with bridging(*arguments) as bridge:
        bridge.address()
        with EnginePublisher(f">{endpoint}") as publisher:
            publisher.do("subscribed")
            publisher.publish(batch(CLEARED))
            assert bridge.lines(1) == [{"event": "cleared", "rank": 0}]


def test_a_reader_that_goes_away_ends_the_command(endpoint: str) -> None:
    """The command ends with status 141 when the reader of its output goes away."""
    with EnginePublisher(endpoint) as publisher, bridging("--publisher", endpoint, "--print") as it:
        publisher.do("subscribed")
        publisher.publish(batch(CLEARED))
        assert it.lines(1)
        assert it.process.stdout is not None
        it.process.stdout.close()
        publisher.publish(batch(CLEARED))
        assert it.process.wait(PATIENCE) == 141
        assert it.next_message() == ""


def test_a_reader_that_stops_reading_holds_up_nothing(endpoint: str) -> None:
    """A reader that stops reading costs dropped events, and delays neither scrapes nor the end."""
    arguments = ["--publisher", endpoint, "--print", "--listen", "127.0.0.1:0", "--buffer", "10"]
    with EnginePublisher(endpoint) as publisher, bridging(*arguments) as bridge:
        address = bridge.address()
        publisher.do("subscribed")
        publisher.publish(*[batch(*[stored(*range(512), size=1)] * 4)] * 100)
        eventually(
            lambda: re.search(
                rb'kv_dropped_events_total{sink="stdout"} [1-9]', fetch(f"{address}/metrics").body
            ),
            "events are dropped",
        )
        assert bridge.end() == 0


def test_events_reach_a_broker(endpoint: str, tmp_path: Path, needs_program: NeedsProgram) -> None:
    """Events reach a NATS broker with Dynamo's endpoint and worker id; secrets may be variables."""
    program = needs_program("nats-server", package="nats-server")
    config = "authorization { user: worker, password: secret }\n"
    login = {"user": "worker", "pass": "secret"}
    with Broker(program, tmp_path, config) as broker, EnginePublisher(endpoint) as publisher:
        do(broker.url.replace("//", "//worker:secret@"), with_stream)
        arguments = ["--publisher", endpoint, "--sink", broker.url, "--worker-id", "0xfe"]
        arguments += ["--dynamo-endpoint", "a.b.c", "--jetstream", "--listen", "127.0.0.1:0"]
        variables = {"NATS_AUTH_USERNAME": "worker", "NATS_AUTH_PASSWORD": "secret"}
        with (
            Listener(broker.port, login=login) as listener,
            bridging(*arguments, **variables) as bridge,
        ):
            address = bridge.address()
            publisher.do("subscribed")
            publisher.publish(batch(stored(5, size=1, tokens=[7])))
            heard = listener.next()
            assert bridge.end() == 0
    assert address
    assert heard.subject == "namespace.a.component.b.endpoint.c.kv-events"
    assert [event["worker_id"] for event in heard.documents] == [254]


def test_events_without_a_worker_id(tmp_path: Path) -> None:
    """Without --worker-id events have a random id, and a message says that no router has it."""
    file = tmp_path / "records"
    arguments = ["--publisher", "tcp://127.0.0.1:5557", "--sink", "tcp://127.0.0.1:0"]
    with bridging(*arguments, "--records", str(file), "--listen", "127.0.0.1:0") as bridge:
        message = bridge.next_message()
        bridge.address()
        records = [json.loads(line)["value"] for line in file.read_text().splitlines()]
        assert bridge.end() == 0
    (worker,) = [each["metadata"]["worker"]["worker_id"] for each in records if "metadata" in each]
    assert message.startswith("mpmetrics: no --worker-id: ")
    assert f" worker {worker:#x}," in message


def test_records_for_the_discovery(endpoint: str, tmp_path: Path) -> None:
    """The records of all sinks and ranks are written; a file that cannot be written is status 1."""
    file = tmp_path / "records"
    arguments = ["--publisher", "tcp://127.0.0.1:5557", "--ranks", "2", "--worker-id", "7"]
    arguments += ["--sink", "tcp://127.0.0.1:0", "--records", str(file), "--listen", "127.0.0.1:0"]
    with bridging(*arguments) as bridge:
        bridge.address()
        records = [json.loads(line) for line in file.read_text().splitlines()]
        assert bridge.end() == 0
    assert len({record["key"] for record in records}) == 4
    assert all(record["key"].startswith("v1/") for record in records)
    workers = [record["value"].get("metadata", {}).get("worker") for record in records]
    assert [worker for worker in workers if worker] == [
        {"worker_id": 7, "dp_rank": 0},
        {"worker_id": 7, "dp_rank": 1},
    ]
    ending = invoke("events", "--publisher", endpoint, "--records", str(tmp_path))
    assert (ending.status, ending.stdout) == (1, "")
    assert str(tmp_path) in ending.stderr


def test_records_to_a_pipe_that_no_process_reads(endpoint: str, tmp_path: Path) -> None:
    """The command does not wait until a process reads the records."""
    pipe = tmp_path / "records"
    os.mkfifo(pipe)
    ending = invoke("events", "--publisher", endpoint, "--records", str(pipe))
    assert (ending.status, ending.stdout, ending.stderr.count("\n")) == (1, "", 1)
    assert str(pipe) in ending.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Missing option '--publisher'"),
        (["--publisher", "localhost:5557"], "localhost:5557"),
        (["--publisher", "tcp://127.0.0.1:65535", "--ranks", "2"], "65536"),
        (["--publisher", "tcp://127.0.0.1:1", "--replay", "x"], "'x'"),
        (["--publisher", "ipc://x", "--sink", "http://h:1", "--worker-id", "1"], "http"),
        (["--publisher", "ipc://x", "--worker-id", "0xx"], "0xx"),
        (["--publisher", "ipc://x", "--worker-id", "-1"], "-1"),
        (["--publisher", "ipc://x", "--dynamo-endpoint", "a.b"], "NAMESPACE.COMPONENT.ENDPOINT"),
        (["--publisher", "ipc://x", "--listen", "nowhere"], "nowhere"),
        (["--publisher", "ipc://x", "--batch", "nan"], "--batch"),
        (["--publisher", "ipc://\udcff"], "ipc://"),
        (["--publisher", "ipc://x", "--replay", "tcp://\udcff:1"], "tcp://"),
        (["--publisher", "ipc://x", "--sink", "ipc://\udcff", "--worker-id", "1"], "ipc://"),
        (["--publisher", "ipc://x", "--dynamo-endpoint", "a.b.\udcff"], "--dynamo-endpoint"),
        (["--publisher", "ipc://x", "--web-config", "/nowhere"], "/nowhere"),
        (["--publisher", "ipc://x", "--sink", "nats://a", "--sink", "nats://u:p@a"], "twice"),
    ],
)
def test_mistakes(arguments: list[str], words: str) -> None:
    """A mistake is one line and status 2, without passwords."""
    if "twice" in words:
        arguments = [*arguments, "--worker-id", "1"]
    ending = invoke("events", *arguments)
    assert (ending.status, ending.stdout) == (2, "")
    assert words in ending.stderr
    assert len(ending.stderr.splitlines()) == 1
    assert "u:p" not in ending.stderr


def test_a_topic_that_is_no_text(endpoint: str) -> None:
    """A topic may be bytes that are no text."""
    with (
        EnginePublisher(endpoint) as publisher,
        bridging("--publisher", endpoint, "--topic", "\udcff", "--print") as bridge,
    ):
        publisher.do("subscribed")
        publisher.send(b"kv", bytes(8), batch(stored(1)))
        publisher.send(b"\xffkv", bytes(8), batch(CLEARED))
        assert bridge.lines(1) == [{"event": "cleared", "rank": 0}]


def test_a_missing_package_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing package is one line that names the extra."""
    monkeypatch.setitem(sys.modules, "zmq", None)
    ending = invoke("events", "--publisher", "tcp://127.0.0.1:5557")
    assert ending.status == 2
    assert "pip install '.[zmq]'" in ending.stderr
