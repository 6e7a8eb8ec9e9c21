"""The sinks for Dynamo against its real runtime: both publish the same, and its router takes it.

Where the runtime publishes the same as our sinks, the bytes are the same.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest
import zmq

from mpmetrics.engines import NatsSender
from mpmetrics.engines.events import (
    Address,
    Cleared,
    EventBridge,
    EventSource,
    NatsSink,
    Publisher,
    Removed,
    Stored,
    Worker,
    ZmqSink,
)
from mpmetrics.engines.events.dynamo_protocol import Envelope, Message
from mpmetrics.engines.events.model import DEVICE
from mpmetrics.engines.load.publisher import TOPIC, ActiveLoad
from tests.conftest import require_package
from tests.engines.events.brokers import Broker, Heard, Listener
from tests.engines.events.messages import CLEARED, batch, pack, removed, stored, unpack
from tests.servers import LOOPBACK, eventually
from tests.workers import PATIENCE
from tests.workers import Worker as Process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from mpmetrics.engines.events.dynamo_sinks import DynamoSink
    from mpmetrics.engines.events.model import Event
    from tests.conftest import NeedsProgram

require_package("dynamo", extra="dynamo")

ADDRESS = Address("my-ns", "back_end", "generate")
SIZE = 2

RUNTIME = """
import asyncio, json, os, threading
from dynamo.runtime import DistributedRuntime
from dynamo._core import *

loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()

def run(coroutine):
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

async def start():
    return DistributedRuntime(
        asyncio.get_running_loop(), "file", "tcp", event_plane=os.environ["DYN_EVENT_PLANE"]
    )

runtime = run(start())
endpoint = runtime.endpoint("my-ns.back_end.generate")
"""

ROUTER = """
async def serve():
    async def answer(request):
        yield {}
    return asyncio.ensure_future(endpoint.serve_endpoint(answer))

async def register():
    await register_model(
        ModelInput.Tokens, ModelType.Chat, endpoint, "m", "m",
        worker_type=WorkerType.Aggregated, kv_cache_block_size=2,
        runtime_config=ModelRuntimeConfig(), skip_model_assets=True,
    )

async def route():
    return KvRouter(routed.endpoint("my-ns.back_end.generate"), 2, KvRouterConfig())

async def blocks():
    return [
        [event["worker_id"], event["event"]["dp_rank"], block["block_hash"], block["tokens_hash"]]
        for event in json.loads(await router.dump_events())
        for block in event["event"]["data"]["stored"]["blocks"]
    ]

serving = run(serve())
run(register())
routed = run(start())
router = run(route())
"""


class Runtime(Process):
    """A process with a Dynamo runtime; *known* is the directory of its discovery."""

    def __init__(self, plane: str, tmp_path: Path, broker: Broker | None) -> None:
        """Start it."""
        self.known = tmp_path / "known"
        variables = {
            "DYN_EVENT_PLANE": plane,
            "DYN_EVENT_PLANE_HOST": LOOPBACK,
            "DYN_FILE_KV": str(self.known),
            "DYN_LOG": "off",
            "DYN_TCP_RPC_HOST": LOOPBACK,
            "TMPDIR": str(tmp_path),
            **({} if broker is None else {"NATS_SERVER": broker.url}),
        }
        super().__init__(None, variables=variables)
        self.do(RUNTIME)
        self.worker_id: int = self.ask("endpoint.connection_id()")

    def records(self, kind: str) -> list[dict[str, Any]]:
        """Return the records of discovery of a *kind*, none while Dynamo still writes one."""
        files = (self.known / "v1" / kind).glob("*")
        try:
            return [json.loads(file.read_text()) for file in files]
        except ValueError:
            return []

    def introduce(self, records: Mapping[str, Any]) -> None:
        """Write *records* into the discovery."""
        for key, record in records.items():
            version, bucket, rest = key.split("/", 2)
            name = "".join(letter if letter.isalnum() else f"%{ord(letter):02X}" for letter in rest)
            temporary = self.known / "record"
            temporary.write_text(json.dumps(record))
            (self.known / version / bucket).mkdir(parents=True, exist_ok=True)
            temporary.rename(self.known / version / bucket / name)


@pytest.fixture
def broker(needs_program: NeedsProgram, tmp_path: Path) -> Iterator[Broker]:
    """Return a server."""
    with Broker(needs_program("nats-server", package="nats-server"), tmp_path) as broker:
        yield broker


@pytest.fixture
def runtime(broker: Broker, tmp_path: Path) -> Iterator[Runtime]:
    """Return a runtime whose event plane is NATS."""
    with Runtime("nats", tmp_path, broker) as runtime:
        yield runtime
        runtime.do("runtime.shutdown()")


@contextmanager
def publishing(sink: DynamoSink) -> Iterator[DynamoSink]:
    """Run a sink."""
    sink.start()
    try:
        yield sink
    finally:
        sink.stop()


def check_alike(theirs: Heard, ours: Heard) -> None:
    """Check that two messages differ only in their time."""
    assert ours.subject == theirs.subject
    assert ours.headers == theirs.headers == b""
    # First what is easier to read.
    assert ours.documents == theirs.documents
    moment = {"published_at": theirs.envelope["published_at"]}
    assert pack({**ours.envelope, **moment}) == theirs.data


# -- What it publishes ----------------------------------------------------------------------------


def test_events_are_the_same_bytes(broker: Broker, runtime: Runtime) -> None:
    """Stores, with a parent and of a LoRA, and removals are the bytes of `KvEventPublisher`."""
    tokens = list(range(1, 2 * SIZE + 1))
    with Listener(broker.port) as listener:
        runtime.do(f"publisher = KvEventPublisher(endpoint, kv_block_size={SIZE})")
        for call in (
            f"publish_stored({tokens}, [2, 2], [10, -11])",
            f"publish_stored({tokens}, [2, 2], [12, 13], parent_hash=-11, lora_name='lora')",
            "publish_removed([-11, 10])",
        ):
            runtime.do(f"publisher.{call}")
        theirs = [listener.next() for _ in range(3)]
        worker = Worker(runtime.worker_id, ADDRESS, SIZE)
        number = theirs[0].envelope["publisher_id"]
        high = (1 << 64) - 11
        events: Sequence[Event] = (
            Stored(0, DEVICE, [10, high], None, tokens, SIZE),
            Stored(0, DEVICE, [12, 13], high, tokens, SIZE, "lora"),
            Removed(0, DEVICE, [high, 10]),
        )
        with publishing(NatsSink(broker.url, worker, publisher_id=number)) as sink:
            for event, their in zip(events, theirs, strict=True):
                sink.put([event])
                check_alike(their, listener.next())


def test_load_is_the_same_bytes(broker: Broker, runtime: Runtime) -> None:
    """Load is published as the bytes of `WorkerMetricsPublisher`."""
    with Listener(broker.port) as listener:
        runtime.do("publisher = WorkerMetricsPublisher()")
        runtime.do("async def create(): await publisher.create_endpoint(endpoint)")
        runtime.do("run(create())")
        theirs = []
        for call in ("3, kv_used_blocks=5", "0, active_decode_blocks=7, kv_used_blocks=300"):
            runtime.do(f"publisher.publish({call})")
            theirs.append(listener.next())
        number = theirs[0].envelope["publisher_id"]
        sender = NatsSender(broker.url, ADDRESS, publisher_id=number)
        for load, their in zip(
            (ActiveLoad(runtime.worker_id, 3, None, 5), ActiveLoad(runtime.worker_id, 0, 7, 300)),
            theirs,
            strict=True,
        ):
            sender(load)
            check_alike(their, listener.next())
        sender.close()


@pytest.mark.parametrize("path", ["a b.c~d.e%f", "ü.c*d.e>f", "A_1-2.x$y.z@w/q"])
def test_subjects_are_the_same(path: str, broker: Broker, runtime: Runtime) -> None:
    """Subjects are those of Dynamo, also for names that need escapes."""
    with Listener(broker.port) as listener:
        runtime.do("publisher = WorkerMetricsPublisher()")
        runtime.do(f"odd = runtime.endpoint({path!r})")
        runtime.do("async def create(): await publisher.create_endpoint(odd)")
        runtime.do("run(create())")
        runtime.do("publisher.publish(0, kv_used_blocks=5)")
        assert listener.next().subject == Address(*path.split(".")).subject(TOPIC)


def test_frames_are_the_same_bytes(tmp_path: Path) -> None:
    """The frames by ZeroMQ are those of Dynamo."""
    with Runtime("zmq", tmp_path, None) as runtime, zmq.Context() as context:
        runtime.do(f"publisher = KvEventPublisher(endpoint, kv_block_size={SIZE})")
        (channel,) = eventually(lambda: runtime.records("event_channels"), "a channel")
        with context.socket(zmq.SUB) as subscriber:
            subscriber.connect(channel["transport"]["config"]["endpoint"])
            subscriber.setsockopt(zmq.SUBSCRIBE, b"")

            def heard() -> Any:
                runtime.do("publisher.publish_removed([10])")
                return subscriber.recv_multipart() if subscriber.poll(100) else None

            frames = eventually(heard, "a message")
        runtime.do("runtime.shutdown()")
    packed = frames[3][5:]
    envelope = Envelope(**unpack(packed))
    assert Message(envelope, packed).frames() == frames


def test_the_bridge_publishes_what_its_relay_does(
    broker: Broker, runtime: Runtime, tmp_path: Path
) -> None:
    """The bridge publishes the same blocks in the same order as Dynamo's own relay."""
    endpoint = f"ipc://{tmp_path}/events"
    with zmq.Context() as context, context.socket(zmq.XPUB) as engine:
        engine.setsockopt(zmq.LINGER, 0)
        engine.setsockopt(zmq.RCVTIMEO, int(PATIENCE * 1000))
        engine.setsockopt(zmq.XPUB_VERBOSE, 1)
        engine.bind(endpoint)
        options = f"kv_block_size={SIZE}, zmq_endpoint={endpoint!r}"
        runtime.do(f"publisher = KvEventPublisher(endpoint, {options})")
        worker = Worker(runtime.worker_id, ADDRESS, SIZE)
        sink = NatsSink(broker.url, worker)
        source = EventSource([Publisher(0, endpoint)])
        with Listener(broker.port) as listener, EventBridge(source, [sink]):
            engine.recv()
            engine.recv()
            for number, payload in enumerate(ENGINE):
                engine.send_multipart([b"", number.to_bytes(8, "big"), payload])
            found = flatten(listener, sink.publisher_id())
    assert found["ours"] == found["theirs"]
    assert len(found["ours"]) > len(ENGINE)


LAST = 99
ENGINE = [
    batch(stored(1, 2), stored(3, parent=2), rank=0),
    batch(["BlockStored", [4], 3, [1, 2], SIZE, None, "GPU"], rank=0),
    batch(removed(2), stored(5, medium="CPU"), rank=0),
    batch(stored(-6, lora_name="lora"), stored(7, medium="STORAGE"), rank=0),
    batch(stored(1, 2), removed(2), rank=0),  # one is reported again, one comes and goes again
    batch(removed(1000), rank=0),  # a block that was never stored
    batch(stored(8, tokens=[1]), stored(9, medium="FLOPPY"), rank=0),  # routers cannot use these
    b"nonsense",
    batch(CLEARED, rank=0),
    batch(stored(LAST), rank=0),
]


def flatten(listener: Listener, ours: int) -> Mapping[str, list[tuple[Any, ...]]]:
    """Return what each publisher says of each block, until both have come to the last one."""
    found: dict[str, list[tuple[Any, ...]]] = {"ours": [], "theirs": []}
    while not all(each and each[-1][2] == LAST for each in found.values()):
        heard = listener.next()
        blocks = found["ours" if heard.envelope["publisher_id"] == ours else "theirs"]
        for document in heard.documents:
            data, tier = document["event"]["data"], document["storage_tier"]
            if data == "cleared":
                blocks.append(("cleared", tier, None))
            elif "removed" in data:
                blocks += [("removed", tier, each) for each in data["removed"]["block_hashes"]]
            else:
                blocks += [
                    ("stored", tier, block["block_hash"], block["tokens_hash"])
                    for block in data["stored"]["blocks"]
                ]
    return found


@pytest.mark.parametrize("plane", ["nats", "zmq"])
def test_records_are_the_same(plane: str, broker: Broker, tmp_path: Path) -> None:
    """The records of discovery are those of Dynamo's publishers."""
    with Runtime(plane, tmp_path, broker) as runtime:
        runtime.do(f"publisher = KvEventPublisher(endpoint, kv_block_size={SIZE}, dp_rank=3)")
        (source,) = eventually(lambda: runtime.records("event_sources"), "a source")
        (channel,) = eventually(lambda: runtime.records("event_channels"), "a channel")
        names = [file.name for file in (runtime.known / "v1" / "event_sources").iterdir()]
        runtime.do("runtime.shutdown()")
        number = source["publisher_id"] - 3
        worker = Worker(runtime.worker_id, ADDRESS)
    if plane == "nats":
        records = NatsSink(broker.url, worker, publisher_id=number).records(3)
    else:
        sink = ZmqSink(f"tcp://{LOOPBACK}:*", worker, publisher_id=number)
        records = sink.records(3)
        sink.stop()
        ours = records[next(key for key in records if "event_channels" in key)]
        where = {"transport": {"kind": "Zmq", "config": {"endpoint": sink.endpoint}}}
        assert ours == {**channel, **where}
    key = next(key for key in records if "event_sources" in key)
    assert records[key] == source
    assert [unquote(name) for name in names] == [key.removeprefix("v1/event_sources/")]


# -- What it takes --------------------------------------------------------------------------------


def test_a_router_takes_events_by_nats(broker: Broker, runtime: Runtime) -> None:
    """A `KvRouter` takes events by NATS."""
    check_routing(runtime, lambda worker: NatsSink(broker.url, worker))


def test_a_router_takes_events_by_zmq(tmp_path: Path) -> None:
    """A `KvRouter` takes events by ZeroMQ."""
    with Runtime("zmq", tmp_path, None) as runtime:
        check_routing(runtime, lambda worker: ZmqSink(f"tcp://{LOOPBACK}:*", worker))
        runtime.do("runtime.shutdown()")


def check_routing(runtime: Runtime, make: Callable[[Worker], DynamoSink]) -> None:
    """Check that a router learns of blocks that are stored, removed and cleared."""
    runtime.do(ROUTER)
    with publishing(make(Worker(runtime.worker_id, ADDRESS, SIZE))) as sink:
        runtime.introduce(sink.records())
        tokens = runtime.ask(f"compute_block_hash_for_seq([1, 2, 3, 4], {SIZE})")
        expected = [[runtime.worker_id, 0, block, tokens[block - 10]] for block in (10, 11)]

        def expect(blocks: Sequence[Any], *events: Any) -> None:
            # A router does not report that it has found the sink, and it takes a store twice.
            def known() -> bool:
                sink.put(events)
                return bool(runtime.ask("run(blocks())") == blocks)

            eventually(known, f"blocks {blocks}")

        expect(expected, Stored(0, DEVICE, [10, 11], None, [1, 2, 3, 4], SIZE))
        expect(expected[:1], Removed(0, DEVICE, [11]))
        expect([], Cleared(0))
    assert sink.buffer.dropped == 0


def test_its_publisher_sends_our_load(broker: Broker, runtime: Runtime) -> None:
    """Dynamo's publisher sends the load that our stat logger reports."""
    with Listener(broker.port) as listener:
        runtime.do("from mpmetrics.engines import *")
        runtime.do("dynamo_publisher = WorkerMetricsPublisher()")
        runtime.do("async def create(): await dynamo_publisher.create_endpoint(endpoint)")
        runtime.do("run(create())")
        runtime.do(
            "publisher = WorkerLoadPublisher(DynamoSender(dynamo_publisher), 1)\n"
            "loggers = StatLoggerFactory(endpoint, None, lambda: publisher)\n"
            "loggers.create_stat_logger(2)\n"
            "loggers.set_num_gpu_blocks_all(100)\n"
            "class Stats: kv_cache_usage, prefix_cache_stats = 0.25, None\n"
            "loggers.created_loggers[2].record(Stats())\n"
        )
        load = listener.next()
        runtime.do("publisher.close()")
    assert load.subject == ADDRESS.subject(TOPIC)
    expected = {"worker_id": runtime.worker_id, "dp_rank": 2, "kv_used_blocks": 25}
    assert {name: value for name, value in load.documents.items() if value is not None} == expected
