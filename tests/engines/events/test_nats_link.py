"""The sink for NATS, with a real server that is killed, restarted, protected, and silent."""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from mpmetrics.engines.errors import EventEndpointError, NatsOptionError
from mpmetrics.engines.events import (
    Address,
    Cleared,
    NatsOptions,
    NatsSink,
    Removed,
    Stored,
    Worker,
)
from mpmetrics.engines.events.dynamo_sinks import DynamoSink
from mpmetrics.engines.events.model import DEVICE
from mpmetrics.engines.events.nats_link import NatsLink
from mpmetrics.engines.events.nats_options import connect_arguments
from tests.engines.events.brokers import (
    STREAM,
    Broker,
    Cutter,
    Listener,
    do,
    hanging_up,
    identifiers,
    plain,
    read_stream,
    silent,
    with_stream,
)
from tests.leftovers import count_descriptors, no_threads_left, wait_for_descriptors
from tests.servers import LOOPBACK, eventually, listening
from tests.special_files import SPECIAL, make_special
from tests.workers import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tests.conftest import NeedsProgram

ADDRESS = Address("my ns", "back.end", "generate")
SUBJECT = "namespace.my%20ns.component.back%2Eend.endpoint.generate.kv-events"
WORKER = Worker(0xFEEDBEEFFEEDBEEF, ADDRESS)


@pytest.fixture
def program(needs_program: NeedsProgram) -> str:
    """Return the path of the server."""
    return needs_program("nats-server", package="nats-server")


@pytest.fixture
def broker(program: str, tmp_path: Path) -> Iterator[Broker]:
    """Return a server that needs no password."""
    with Broker(program, tmp_path) as broker:
        yield broker


@pytest.fixture
def sinks() -> Iterator[Callable[..., NatsSink]]:
    """Return a function that starts sinks; they are stopped in the end, and leave no thread."""
    made: list[NatsSink] = []

    def make(
        url: str, options: NatsOptions | None = None, worker: Worker = WORKER, **more: Any
    ) -> NatsSink:
        sink = NatsSink(url, worker, options, **more)
        made.append(sink)
        sink.start()
        return sink

    with no_threads_left():
        yield make
        for sink in made:
            sink.stop(0.1)


def stored(*hashes: int, rank: int = 0) -> Stored:
    """Return a store of blocks of two tokens each."""
    tokens = [token for number in hashes for token in (number, number + 1)]
    return Stored(rank, DEVICE, hashes, None, tokens, 2)


def counts(sink: DynamoSink) -> Mapping[str, int]:
    """Return what a sink has counted, dropped and still has."""
    found = {" ".join(map(str, key)): count for key, count in sink.tally.items() if count}
    return {**found, "dropped": sink.buffer.dropped, "waiting": len(sink.buffer)}


def wait_until_confirmed(sink: DynamoSink) -> None:
    """Wait until the server has confirmed all events."""
    eventually(lambda: not len(sink.buffer), "everything is confirmed")


def wait_for_failure(sink: DynamoSink, reason: str) -> None:
    """Wait until a sink has counted a failure for this *reason*."""
    eventually(lambda: sink.tally["failures", "nats", reason], f"{reason} in {sink.tally}")


# -- What is on the wire -------------------------------------------------------------------------


def test_what_is_published(broker: Broker, sinks: Callable[..., NatsSink]) -> None:
    """A message is an envelope with events in the form of routers, on the subject of the worker."""
    before = time.time()
    with Listener(broker.port) as listener:
        sink = sinks(broker.url, publisher_id=7)
        sink.put([stored(1, 2), Removed(0, DEVICE, [1])])
        first = listener.next()
        sink.put([Cleared(0)])
        second = listener.next()
    assert {first.subject, second.subject} == {SUBJECT}
    assert first.headers == second.headers == b""
    about = [{k: v for k, v in each.envelope.items() if k != "payload"} for each in (first, second)]
    times = [each.pop("published_at") for each in about]
    assert about == [{"publisher_id": 7, "sequence": n, "topic": "kv-events"} for n in (0, 1)]
    assert int(before * 1000) <= times[0] <= times[1] <= time.time() * 1000
    assert identifiers(first.documents + second.documents) == [1, 2, 3]
    assert {each["worker_id"] for each in first.documents} == {WORKER.worker_id}
    assert first.documents[1]["event"]["data"] == {"removed": {"block_hashes": [1]}}
    assert second.documents[0]["event"]["data"] == "cleared"
    sink.stop()
    assert counts(sink) == {"sent nats": 3, "dropped": 0, "waiting": 0}


def test_each_rank_is_a_publisher(broker: Broker, sinks: Callable[..., NatsSink]) -> None:
    """Each rank is a publisher with an id and numbers of its own, as Dynamo expects."""
    with Listener(broker.port) as listener:
        sink = sinks(broker.url, publisher_id=7)
        sink.put([stored(1, rank=0), stored(2, rank=3), stored(3, rank=0)])
        heard = [listener.next(), listener.next()]
    envelopes = [each.envelope for each in heard]
    assert [(each["publisher_id"], each["sequence"]) for each in envelopes] == [(7, 0), (10, 0)]
    assert sink.publisher_id(3) == 10
    found = [(each["event"]["dp_rank"], each["event"]["event_id"]) for each in heard[0].documents]
    assert found == [(0, 1), (0, 2)]
    assert heard[1].documents[0]["event"]["dp_rank"] == 3


def test_each_sink_is_another_publisher(broker: Broker, sinks: Callable[..., NatsSink]) -> None:
    """Each sink has another publisher id, since its numbers begin from 0."""
    first, second = sinks(broker.url), sinks(broker.url)
    assert first.publisher_id() != second.publisher_id()


def test_the_size_of_messages(broker: Broker, sinks: Callable[..., NatsSink]) -> None:
    """A message has at most 128 events or 8192 blocks."""
    many = stored(*range(5000))
    with Listener(broker.port) as listener:
        sinks(broker.url).put([*[stored(1)] * 130, many, many])
        assert [len(listener.next().documents) for _ in range(3)] == [128, 3, 1]


def test_a_message_that_is_too_large(
    program: str, tmp_path: Path, sinks: Callable[..., NatsSink]
) -> None:
    """A message that is too large is rejected and counted, and costs no other one."""
    with Broker(program, tmp_path, "max_payload: 20000\n") as broker:
        with Listener(broker.port) as listener:
            sink = sinks(broker.url)
            sink.put([stored(1)])
            listener.next()
            sink.put([stored(*range(5000)), stored(2, rank=1)])
            assert listener.next().documents[0]["event"]["dp_rank"] == 1
        sink.stop()
    expected = {"sent nats": 2, "rejected nats too_large": 1, "failures nats too_large": 1}
    assert counts(sink) == {**expected, "dropped": 0, "waiting": 0}


@pytest.mark.parametrize(
    ("server", "stream"), [("max_payload: 9100\n", {}), ("", {"max_msg_size": 9100})]
)
def test_a_message_that_is_too_large_for_a_stream(
    server: str,
    stream: Mapping[str, int],
    program: str,
    tmp_path: Path,
    sinks: Callable[..., NatsSink],
) -> None:
    """A message that is too large, with its headers, is rejected; others are kept once."""

    async def small(context: Any) -> None:
        await context.add_stream(name=STREAM, subjects=["namespace.>"], **stream)

    def removal(hashes: int) -> Removed:
        return Removed(0, DEVICE, [2**64 - 1] * hashes)

    with Broker(program, tmp_path, server) as broker:
        do(broker.url, small)
        sink = sinks(broker.url, NatsOptions(jetstream=True))
        # Without the headers this one is just below what is allowed, in all it is above.
        sink.put([removal(987)])
        eventually(lambda: sink.tally["rejected", "nats", "too_large"], "the first is rejected")
        sink.put([stored(1, rank=1), removal(5000), stored(2, rank=2)])
        wait_until_confirmed(sink)
        sizes = [len(each.data) for each in read_stream(broker.url)]
        ranks = [each.documents[0]["event"]["dp_rank"] for each in read_stream(broker.url)]
    assert ranks == [1, 2], sizes
    expected = {"sent nats": 2, "rejected nats too_large": 2, "failures nats too_large": 2}
    assert counts(sink) == {**expected, "dropped": 0, "waiting": 0}


def test_blocks_that_routers_do_not_take(broker: Broker, sinks: Callable[..., NatsSink]) -> None:
    """Blocks without tokens, or of another size, are rejected and counted."""
    with Listener(broker.port) as listener:
        sink = sinks(broker.url, worker=WORKER._replace(block_size=2))
        sink.put([Stored(0, DEVICE, [1], None, (), 2), Stored(0, DEVICE, [1], None, [1], 1)])
        sink.put([stored(2)])
        assert identifiers(listener.events(1)) == [1]
    sink.stop()
    expected = {"sent nats": 1, "rejected nats empty_store_blocks": 2}
    assert counts(sink) == {**expected, "dropped": 0, "waiting": 0}


# -- When the server is not there -----------------------------------------------------------------


def test_a_full_buffer_drops_the_oldest(broker: Broker, sinks: Callable[..., NatsSink]) -> None:
    """A full buffer drops the oldest events, counts them, and their numbers are missing."""
    sink = sinks(broker.url, capacity=10)
    with Listener(broker.port) as listener:
        sink.put([stored(0)])
        assert identifiers(listener.events(1)) == [1]
    wait_until_confirmed(sink)
    broker.kill()
    sink.put([stored(0)])
    wait_for_failure(sink, "unreachable")
    for number in range(100):
        sink.put([stored(number)])
    assert counts(sink)["dropped"] == 90
    assert counts(sink)["waiting"] == 11  # one of them is in hand
    broker.start()
    with Listener(broker.port) as listener:
        found = listener.events(11)
    assert identifiers(found) == [2, *range(93, 103)]
    sink.stop()
    assert counts(sink)["sent nats"] == 12
    assert counts(sink)["dropped"] == 90


def test_a_server_that_is_killed_and_comes_back(
    broker: Broker, sinks: Callable[..., NatsSink]
) -> None:
    """A server that is killed and comes back gets all messages, without a gap."""
    sink = sinks(broker.url)
    numbers = []
    for turn in range(3):
        with Listener(broker.port) as listener:
            sink.put([stored(turn)])
            heard = listener.next()
        numbers.append((heard.envelope["sequence"], *identifiers(heard.documents)))
        wait_until_confirmed(sink)
        broker.kill()
        broker.start()
    assert numbers == [(0, 1), (1, 2), (2, 3)]
    sink.stop()
    assert counts(sink)["sent nats"] == 3
    assert counts(sink)["dropped"] == 0


def test_a_second_server(program: str, tmp_path: Path, sinks: Callable[..., NatsSink]) -> None:
    """The second server takes the messages when the first one is down."""
    (tmp_path / "other").mkdir()
    with Broker(program, tmp_path) as broker, Broker(program, tmp_path / "other") as other:
        broker.kill()
        with Listener(other.port) as listener:
            sinks(f"{broker.url}, {other.url}").put([stored(1)])
            assert identifiers(listener.events(1)) == [1]


def test_unconfirmed_messages_are_sent_again(
    broker: Broker, sinks: Callable[..., NatsSink]
) -> None:
    """An unconfirmed message is sent again with the same number, and counted once."""
    # One answer is for having connected, and only the last one is for what was before it.
    with Cutter(broker.port, b"PONG", 3) as cutter, Listener(broker.port) as listener:
        sink = sinks(f"nats://{LOOPBACK}:{cutter.port}")
        sink.put([stored(1)])
        heard = [listener.next(), listener.next()]
        sink.stop()
        assert len(cutter.cut) == 1
    assert heard[0].data == heard[1].data
    assert counts(sink)["sent nats"] == 1


def test_an_answer_to_a_ping_before_is_no_confirmation(
    sinks: Callable[..., NatsSink],
) -> None:
    """A message that the server has not read is not counted as sent."""
    with listening() as listener:
        thread = threading.Thread(target=hanging_up, args=(listener,))
        thread.start()
        sink = sinks(f"nats://{LOOPBACK}:{listener.getsockname()[1]}")
        sink.put([stored(1)])
        eventually(lambda: sink.tally["failures", "nats", "connection_lost"] > 1, "failures")
        sink.stop(0.1)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE)
    assert not sink.tally["sent", "nats"]
    assert sink.buffer.dropped == 1


def test_a_stream_keeps_what_is_sent_again_once(
    broker: Broker, sinks: Callable[..., NatsSink]
) -> None:
    """A stream keeps a message once that was sent twice, by its id."""
    do(broker.url, with_stream)
    with Cutter(broker.port, b'"stream"', 2) as cutter, Listener(broker.port) as listener:
        sink = sinks(f"nats://{LOOPBACK}:{cutter.port}", NatsOptions(jetstream=True))
        sink.put([stored(1)])
        listener.next()
        sink.put([stored(2)])  # the answer to this one is lost
        heard = [listener.next(), listener.next()]
        sink.stop()
        assert len(cutter.cut) == 1
    assert heard[0].data == heard[1].data
    assert [identifiers(each.documents) for each in read_stream(broker.url)] == [[1], [2]]
    assert counts(sink)["sent nats"] == 2
    assert counts(sink)["dropped"] == 0


def test_messages_have_ids(broker: Broker, sinks: Callable[..., NatsSink]) -> None:
    """The id of a message for JetStream is its publisher and its number."""
    do(broker.url, with_stream)
    sink = sinks(broker.url, NatsOptions(jetstream=True), publisher_id=0xABC)
    sink.put([stored(1)])
    sink.put([stored(2, rank=1)])
    sink.stop()
    ids = [each.headers for each in read_stream(broker.url)]
    assert ids == [b'{"Nats-Msg-Id": "abc-0"}', b'{"Nats-Msg-Id": "abd-0"}']


def test_no_stream(broker: Broker, sinks: Callable[..., NatsSink]) -> None:
    """Without a stream nothing counts as sent; the events are sent once there is one."""
    sink = sinks(broker.url, NatsOptions(jetstream=True))
    sink.put([stored(1)])
    wait_for_failure(sink, "no_stream")
    assert not sink.tally["sent", "nats"]
    do(broker.url, with_stream)
    with Listener(broker.port) as listener:
        assert identifiers(listener.events(1)) == [1]
    sink.stop()
    assert counts(sink)["sent nats"] == 1


def test_an_answer_that_is_not_from_a_stream(
    broker: Broker, sinks: Callable[..., NatsSink]
) -> None:
    """An answer of a subscriber that is not a stream confirms nothing."""
    with Listener(broker.port) as listener:
        sink = sinks(broker.url, NatsOptions(jetstream=True))
        sink.put([stored(1)])
        listener.answer(b'{"seq": 1}')
        wait_for_failure(sink, "refused")
    assert not sink.tally["sent", "nats"]


def test_a_stream_that_is_full(broker: Broker, sinks: Callable[..., NatsSink]) -> None:
    """A full stream refuses messages; those that it has kept are not sent again."""

    async def small(context: Any) -> None:
        await context.add_stream(name=STREAM, subjects=["namespace.>"], max_msgs=2, discard="new")

    do(broker.url, small)
    sink = sinks(broker.url, NatsOptions(jetstream=True))
    sink.put([stored(number, rank=number) for number in range(3)])
    wait_for_failure(sink, "refused")
    assert counts(sink)["waiting"] == 1
    assert counts(sink)["sent nats"] == 2
    do(broker.url, lambda context: context.purge_stream(STREAM))
    sink.stop(PATIENCE)
    assert [each.documents[0]["event"]["dp_rank"] for each in read_stream(broker.url)] == [2]
    assert counts(sink)["sent nats"] == 3


@pytest.mark.parametrize("jetstream", [False, True])
def test_a_server_that_hangs(*, jetstream: bool, sinks: Callable[..., NatsSink]) -> None:
    """A server that accepts and says nothing delays no caller, and leaves no descriptor."""
    before = count_descriptors()
    with silent() as port:
        sink = sinks(f"nats://{LOOPBACK}:{port}", NatsOptions(jetstream=jetstream), capacity=5)
        began = time.monotonic()
        for number in range(1000):
            sink.put([stored(number)])
        assert time.monotonic() - began < PATIENCE
        began = time.monotonic()
        sink.stop(0.5)
        assert time.monotonic() - began < PATIENCE
    assert {"dropped": 1000, "waiting": 0}.items() <= counts(sink).items()
    wait_for_descriptors(before)


@pytest.mark.parametrize("blocks", [1, 8000])
def test_a_server_that_stops(blocks: int, broker: Broker) -> None:
    """What a stopped server has not confirmed is sent again or dropped, though it is connected.

    With many blocks there is more than the connection takes.
    """
    link = NatsLink(broker.url, patience=0.2)
    sink = DynamoSink("nats", WORKER, link, pip_extra="nats")
    sink.start()
    with Listener(broker.port) as listener:
        sink.put([stored(1)])
        listener.next()
        wait_until_confirmed(sink)
        broker.stop()
        sink.put([stored(*range(blocks))] * 20)
        wait_for_failure(sink, "late")
        began = time.monotonic()
        sink.stop(0.3)
        assert time.monotonic() - began < PATIENCE
    expected = {"sent nats": 1, "dropped": 20, "waiting": 0}
    assert expected.items() <= counts(sink).items()


def test_stopping_sends_what_waits(broker: Broker, sinks: Callable[..., NatsSink]) -> None:
    """Stopping sends the events that wait; later ones are dropped and counted."""
    sink = sinks(broker.url)
    with Listener(broker.port) as listener:
        sink.put([stored(number) for number in range(5000)])
        sink.stop(PATIENCE)
        sink.put([stored(1)])
        sink.stop()
        assert len(listener.events(5000)) == 5000
    assert counts(sink) == {"sent nats": 5000, "dropped": 1, "waiting": 0}


def test_stopping_what_has_not_started() -> None:
    """A sink that was not started drops the events that wait when it is stopped."""
    sink = NatsSink("nats://localhost", WORKER)
    sink.put([stored(1)])
    sink.stop()
    assert counts(sink) == {"dropped": 1, "waiting": 0}


# -- Getting in -----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["password", "token"])
def test_passwords_and_tokens(
    way: str,
    program: str,
    tmp_path: Path,
    sinks: Callable[..., NatsSink],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The right password or token is accepted; a wrong one is reported, without the secret."""
    if way == "password":
        config = 'authorization { user: "u", password: "s3cret" }'
        right, wrong = NatsOptions("u", "s3cret"), NatsOptions("u", "wrong")
        login = {"user": "u", "pass": "s3cret"}
    else:
        config = 'authorization { token: "s3cret" }'
        right, wrong = NatsOptions(token="s3cret"), NatsOptions(token="wrong")
        login = {"auth_token": "s3cret"}
    with Broker(program, tmp_path, config) as broker, Listener(broker.port, login=login) as heard:
        sink = sinks(broker.url, right)
        sink.put([stored(1)])
        assert identifiers(heard.events(1)) == [1]
        for options in (wrong, None):
            intruder = sinks(broker.url, options)
            intruder.put([stored(1)])
            wait_for_failure(intruder, "authorization")
            assert not intruder.tally["sent", "nats"]
    assert "Authorization" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_password_in_the_url(
    program: str, tmp_path: Path, sinks: Callable[..., NatsSink]
) -> None:
    """A user and password in the URL are accepted."""
    config = 'authorization { user: "u", password: "p" }'
    login = {"user": "u", "pass": "p"}
    with Broker(program, tmp_path, config) as broker, Listener(broker.port, login=login) as heard:
        sinks(broker.url.replace("//", "//u:p@")).put([stored(1)])
        assert identifiers(heard.events(1)) == [1]


def test_a_subject_that_is_not_allowed(
    program: str, tmp_path: Path, sinks: Callable[..., NatsSink]
) -> None:
    """A message on a forbidden subject does not count as sent."""
    config = """
authorization { users: [
  { user: "u", password: "p", permissions: { publish: "other" } }
  { user: "all", password: "p" }
] }
"""
    with Broker(program, tmp_path, config) as broker:
        sink = sinks(broker.url, NatsOptions(user="u", password="p"))
        sink.put([stored(1)])
        wait_for_failure(sink, "authorization")
        sink.stop(0.1)
    assert {"dropped": 1, "waiting": 0}.items() <= counts(sink).items()
    assert "sent nats" not in counts(sink)


def test_a_stream_that_is_not_allowed(
    program: str, tmp_path: Path, sinks: Callable[..., NatsSink]
) -> None:
    """With a stream, a message on a forbidden subject fails with the reason."""
    config = """
authorization { users: [
  { user: "u", password: "p", permissions: { publish: { deny: "namespace.>" } } }
] }
"""
    login = {"user": "u", "password": "p"}
    with Broker(program, tmp_path, config) as broker:
        do(broker.url, with_stream, **login)
        sink = sinks(broker.url, NatsOptions(user="u", password="p", jetstream=True))
        sink.put([stored(1)])
        wait_for_failure(sink, "authorization")
        sink.stop(0.1)
    assert {"dropped": 1, "failures nats authorization": 1}.items() <= counts(sink).items()


def test_a_file_with_credentials(
    program: str, tmp_path: Path, sinks: Callable[..., NatsSink]
) -> None:
    """A file with a JWT and a key, as `nsc` writes it, is accepted."""
    config, credentials = write_credentials(tmp_path)
    with Broker(program, tmp_path, config, jetstream=False) as broker:
        options = NatsOptions(credentials=str(credentials))
        sink = sinks(broker.url, options)
        sink.put([stored(1)])
        sink.stop(PATIENCE)
        assert counts(sink) == {"sent nats": 1, "dropped": 0, "waiting": 0}
        intruder = sinks(broker.url)
        intruder.put([stored(1)])
        wait_for_failure(intruder, "authorization")


def write_credentials(tmp_path: Path) -> tuple[str, Path]:
    """Return the configuration of a server that trusts an operator, and a file of a user."""
    import nkeys  # type: ignore[import-untyped]

    operator, account, user = (make_pair(nkeys, kind) for kind in (b"O", b"A", b"U"))
    names = {each: each.public_key.decode() for each in (operator, account, user)}
    operator_jwt = make_jwt(operator, names[operator], {"type": "operator", "version": 2})
    limits = {"subs": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1, "data": -1}
    sizes = {"payload": -1, "wildcards": True}
    about = {"type": "account", "version": 2, "limits": {**limits, **sizes}}
    account_jwt = make_jwt(operator, names[account], about)
    about = {"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1}
    user_jwt = make_jwt(account, names[user], about)
    credentials = tmp_path / "user.creds"
    credentials.write_text(
        f"-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
    )
    config = (
        f"operator: {operator_jwt}\nresolver: MEMORY\n"
        f"resolver_preload: {{ {names[account]}: {account_jwt} }}\n"
    )
    return config, credentials


def make_pair(nkeys: Any, kind: bytes) -> Any:
    """Return a new pair of keys for an operator, an account or a user."""
    prefixes = {
        b"O": nkeys.PREFIX_BYTE_OPERATOR,
        b"A": nkeys.PREFIX_BYTE_ACCOUNT,
        b"U": nkeys.PREFIX_BYTE_USER,
    }
    return nkeys.from_seed(nkeys.encode_seed(os.urandom(32), prefixes[kind]))


def make_jwt(issuer: Any, subject: str, about: Mapping[str, Any]) -> str:
    """Return a JWT of NATS: the claims of *issuer* about *subject*."""
    head = encode(b'{"typ":"JWT","alg":"ed25519-nkey"}')
    claims = {"jti": "x", "iat": 1, "iss": issuer.public_key.decode(), "sub": subject}
    body = encode(json.dumps({**claims, "name": "x", "nats": about}).encode())
    return f"{head}.{body}.{encode(issuer.sign(f'{head}.{body}'.encode()))}"


def encode(data: bytes) -> str:
    """Return *data* in the encoding of a JWT."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Return an authority that issues certificates."""
    return trustme.CA()


@pytest.fixture
def certificates(tmp_path: Path, authority: trustme.CA) -> Mapping[str, str]:
    """Return the files of a server, of a client, and of the authority."""
    files = {name: str(tmp_path / f"{name}.pem") for name in ("ca", "s", "s-key", "c", "c-key")}
    authority.cert_pem.write_to_path(files["ca"])
    for name, host in (("s", LOOPBACK), ("c", "client")):
        certificate = authority.issue_cert(host)
        certificate.private_key_pem.write_to_path(files[f"{name}-key"])
        certificate.cert_chain_pems[0].write_to_path(files[name])
    return files


def configure_tls(certificates: Mapping[str, str], *, verify: bool) -> str:
    """Return the configuration of a server that encrypts; with *verify* it checks clients."""
    files = f'cert_file: "{certificates["s"]}", key_file: "{certificates["s-key"]}"'
    return f'tls {{ {files}, ca_file: "{certificates["ca"]}", verify: {str(verify).lower()} }}\n'


def test_tls(
    program: str,
    tmp_path: Path,
    certificates: Mapping[str, str],
    sinks: Callable[..., NatsSink],
) -> None:
    """A server is accepted if its certificate is of the given authority, and of no other."""
    context = ssl.create_default_context(cafile=certificates["ca"])
    with (
        Broker(program, tmp_path, configure_tls(certificates, verify=False)) as broker,
        Listener(broker.port, context=context) as listener,
    ):
        sinks(broker.url, NatsOptions(tls_ca=certificates["ca"])).put([stored(1)])
        assert identifiers(listener.events(1)) == [1]
        sink = sinks(broker.url.replace("nats:", "tls:"))
        sink.put([stored(1)])
        wait_for_failure(sink, "unreachable")
        assert not sink.tally["sent", "nats"]


def test_tls_with_a_certificate_of_the_client(
    program: str,
    tmp_path: Path,
    certificates: Mapping[str, str],
    sinks: Callable[..., NatsSink],
) -> None:
    """A server that asks for a certificate accepts only clients that have one."""
    options = NatsOptions(tls_ca=certificates["ca"])
    mine = options._replace(tls_cert=certificates["c"], tls_key=certificates["c-key"])
    with Broker(program, tmp_path, configure_tls(certificates, verify=True)) as broker:
        sink = sinks(broker.url, mine)
        sink.put([stored(1)])
        sink.stop(PATIENCE)
        assert counts(sink) == {"sent nats": 1, "dropped": 0, "waiting": 0}
        intruder = sinks(broker.url, options)
        intruder.put([stored(1)])
        eventually(lambda: sum(intruder.tally.values()), "a failure")
        assert not intruder.tally["sent", "nats"]


def test_options_for_tls_reach_the_client() -> None:
    """The options for TLS are passed to nats-py, also those that the test servers lack."""
    given = connect_arguments(NatsOptions(tls_hostname="h", tls_first=True), with_tls=True)
    assert isinstance(given.pop("tls"), ssl.SSLContext)
    assert given == {"tls_hostname": "h", "tls_handshake_first": True}


@pytest.mark.parametrize("way", ["scheme", "authority"])
def test_no_secret_is_sent_in_plain_text(
    way: str, certificates: Mapping[str, str], sinks: Callable[..., NatsSink]
) -> None:
    """A server that should encrypt and does not gets no secret."""
    told: list[bytes] = []
    with listening() as listener:
        thread = threading.Thread(target=plain(told), args=(listener,))
        thread.start()
        port = listener.getsockname()[1]
        scheme = "tls" if way == "scheme" else "nats"
        options = NatsOptions(user="u", password="s3cret")
        if way == "authority":
            options = options._replace(tls_ca=certificates["ca"])
        sink = sinks(f"{scheme}://{LOOPBACK}:{port}", options)
        sink.put([stored(1)])
        wait_for_failure(sink, "refused")
        thread.join(PATIENCE)
        sink.stop(0.1)
    assert b"s3cret" not in b"".join(told)
    assert not sink.tally["sent", "nats"]


# -- Mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["", "nats://", "http://h", "h:4222", "nats://h:x", "nats://h:0", "nats://h,"]
)
def test_urls_that_are_not_valid(url: str) -> None:
    """A URL that is not valid raises an error at once."""
    with pytest.raises(EventEndpointError, match="nats://HOST:PORT"):
        NatsSink(url, WORKER)


def test_options_hide_the_password() -> None:
    """The text of options has neither password nor token."""
    shown = repr(NatsOptions("u", "s3cret", tls_ca="ca.pem"))
    assert shown == "NatsOptions(user='u', password='...', tls_ca='ca.pem')"
    assert "s3cret" not in repr(NatsOptions(token="s3cret"))


def test_an_event_that_cannot_be_packed(broker: Broker, sinks: Callable[..., NatsSink]) -> None:
    """An event that cannot be packed costs the events of its message, and no others."""
    sink = sinks(broker.url)
    sink.put([Removed(0, DEVICE, [1 << 64])])
    eventually(lambda: sink.tally["failures", "nats", "error"], "a failure")
    with Listener(broker.port) as listener:
        sink.put([stored(1)])
        listener.events(1)
    sink.stop()
    assert {"dropped": 1, "sent nats": 1}.items() <= counts(sink).items()


def test_errors_hide_the_password() -> None:
    """The error about a URL does not show its password."""
    with pytest.raises(EventEndpointError) as caught:
        NatsSink("nats://u:s3cret@h:x", WORKER)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"user": "u"}, "user: is of no use without password"),
        ({"password": "p"}, "password: is of no use without user"),
        ({"user": "u", "password": "p", "token": "t"}, "token: cannot be given beside user"),
        ({"token": "t", "credentials": "f"}, "credentials: cannot be given beside token"),
        ({"tls_key": "f"}, "tls_key: is of no use without tls_cert"),
        ({"credentials": "/no/file"}, "credentials: .*No such file"),
        ({"tls_ca": "/no/file"}, "tls_ca: /no/file: .*No such file"),
        ({"tls_ca": __file__}, f"tls_ca: {__file__}: "),
        ({"tls_cert": __file__}, f"tls_cert: {__file__}: "),
    ],
)
def test_options_that_are_not_valid(options: Mapping[str, Any], message: str) -> None:
    """Options that are not valid raise an error of one line at once."""
    with pytest.raises(NatsOptionError, match=message) as caught:
        NatsSink("nats://localhost", WORKER, NatsOptions(**options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("option", ["credentials", "tls_ca", "tls_cert", "tls_key"])
@pytest.mark.parametrize("kind", SPECIAL)
def test_no_sink_waits_for_a_special_file(option: str, kind: str, tmp_path: Path) -> None:
    """A pipe, a device or a directory in place of a file is an error at once."""
    path = tmp_path / "file"
    make_special(path, kind)
    given: dict[str, Any] = {option: str(path)}
    if option == "tls_key":
        given["tls_cert"] = __file__
    options = NatsOptions(**given)
    with pytest.raises(NatsOptionError, match=f"{option}: {path}: ") as caught:
        NatsSink("nats://localhost", WORKER, options)
    assert "\n" not in str(caught.value)
