"""Dynamo's event plane: addresses, the messages on it, and the records of its discovery."""

from __future__ import annotations

import itertools
import secrets
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote

from mpmetrics._forks import reset_in_children
from mpmetrics.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Record = Mapping[str, Any]


KV_EVENTS: Final = "kv-events"
"""The topic of KV events."""

_VERSION: Final = 1
"""The version of the frames by ZeroMQ."""

_ID_BITS: Final = 53
"""Bits of a random id of a publisher: as many as a number in JSON keeps."""


# -- Addresses -------------------------------------------------------------------------------------


class Address(NamedTuple):
    """The address of events in Dynamo: an *endpoint* of a *component* in a *namespace*."""

    namespace: str = "dynamo"
    component: str = "backend"
    endpoint: str = "generate"

    def subject(self, topic: str = KV_EVENTS) -> str:
        """Return the subject on which events of a *topic* are published."""
        names = zip(self._fields, self, strict=True)
        parts = (f"{field}.{escape_segment(name)}" for field, name in names)
        return ".".join([*parts, topic])


def escape_segment(segment: str) -> str:
    """Return a *segment* of a subject with all but letters, digits, `-` and `_` escaped."""
    # `quote` never escapes these two.
    return quote(segment, safe="").replace(".", "%2E").replace("~", "%7E")


# -- Messages --------------------------------------------------------------------------------------


class Envelope(NamedTuple):
    """A *payload*, its publisher, its number there, and its time in milliseconds."""

    publisher_id: int
    sequence: int
    published_at: int
    topic: str
    payload: bytes


class Message(NamedTuple):
    """An *envelope*, and the same *packed* as msgpack."""

    envelope: Envelope
    packed: bytes

    @property
    def id(self) -> str:
        """The unique id of the message; it stays the same when the message is sent again."""
        return f"{self.envelope.publisher_id:x}-{self.envelope.sequence}"

    def frames(self) -> list[bytes]:
        """Return the frames of the message by ZeroMQ."""
        topic, number = self.envelope.topic.encode(), self.envelope.sequence.to_bytes(8, "big")
        length = len(self.packed).to_bytes(4, "big")
        publisher = self.envelope.publisher_id.to_bytes(8, "big")
        return [topic, publisher, number, bytes([_VERSION]) + length + self.packed]


class Author:
    """A publisher on a *topic*: it numbers its messages from 0.

    *pip_extra* is the extra of this project that brings the packages, for an error message.
    """

    def __init__(
        self,
        topic: str,
        publisher_id: int | None = None,
        *,
        pip_extra: str = "nats",
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Publish as *publisher_id*, or with a random one. Raises `MissingExtraError`."""
        self._topic = topic
        self._given = publisher_id
        self._wall = wall
        self._pack = make_packer(pip_extra)
        self.reset_after_fork()
        reset_in_children(self)

    def reset_after_fork(self) -> None:
        """Take a random id in a forked child: the numbers of the given one are its parent's."""
        random_id = secrets.randbits(_ID_BITS)
        self.publisher_id = random_id if self._given is None else self._given
        self._given = None
        self._numbers = itertools.count()

    def message(self, payload: object) -> Message:
        """Return the next message."""
        envelope = Envelope(
            self.publisher_id,
            next(self._numbers),
            int(self._wall() * 1000),
            self._topic,
            self._pack(payload),
        )
        return Message(envelope, self._pack(envelope._asdict()))


def make_packer(pip_extra: str) -> Callable[[object], bytes]:
    """Return a function that packs values as msgpack.

    Raises `MissingExtraError`, which names *pip_extra* as the extra to install.
    """
    try:
        import msgspec  # only events need it
    except ImportError as error:
        raise MissingExtraError(package="msgspec", extra=pip_extra) from error
    return msgspec.msgpack.Encoder().encode


# -- Records of discovery --------------------------------------------------------------------------


def source_record(
    address: Address, topic: str, publisher_id: int, *, worker_id: int, rank: int = 0
) -> tuple[str, Record]:
    """Return the key and the record of a source: the worker whose blocks a publisher reports."""
    metadata = {
        "kv_state_endpoint": _name_endpoint(address),
        "worker": {"worker_id": worker_id, "dp_rank": rank},
        "publisher_id": publisher_id,
    }
    record = {"type": "EventSource", **_scope(address, topic), "publisher_id": publisher_id}
    return _key("event_sources", address, topic, publisher_id), {**record, "metadata": metadata}


def channel_record(
    address: Address, topic: str, publisher_id: int, endpoint: str
) -> tuple[str, Record]:
    """Return the key and the record of a channel: the *endpoint* of a publisher by ZeroMQ."""
    record = {"type": "EventChannel", **_scope(address, topic), "instance_id": publisher_id}
    transport = {"kind": "Zmq", "config": {"endpoint": endpoint}}
    return _key("event_channels", address, topic, publisher_id), {**record, "transport": transport}


def _key(bucket: str, address: Address, topic: str, publisher_id: int) -> str:
    steps = [step for pair in zip(address._fields, address, strict=True) for step in pair]
    return "/".join(["v1", bucket, *steps, "topic", topic, f"{publisher_id:x}"])


def _scope(address: Address, topic: str) -> dict[str, Any]:
    return {"scope": {"kind": "endpoint", "endpoint": _name_endpoint(address)}, "topic": topic}


def _name_endpoint(address: Address) -> dict[str, str]:
    return {
        "namespace": address.namespace,
        "component": address.component,
        "name": address.endpoint,
    }
