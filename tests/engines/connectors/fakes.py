"""Fake connectors and fake statistics, with helpers to read series."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

from mpmetrics.engines import ConnectorStats

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import CollectorRegistry

_DEFAULTS: dict[str, Any] = {
    "get_num_new_matched_tokens": (0, False),
    "update_state_after_alloc": None,
    "build_connector_meta": None,
    "request_finished": (False, None),
    "get_finished": (None, None),
    "take_events": (),
    "get_kv_connector_stats": None,
    "shutdown": None,
}


class FakeConnector:
    """A connector that notes its calls, and returns the answers that it was made with.

    An answer that is an exception is raised. A list has the answers of successive calls.
    """

    get_num_new_matched_tokens: Any
    update_state_after_alloc: Any
    build_connector_meta: Any
    request_finished: Any
    get_finished: Any
    take_events: Any
    get_kv_connector_stats: Any
    shutdown: Any

    def __init__(self, log: list[Any] | None = None, /, **answers: Any) -> None:
        """Return *answers*, by method; each call also goes to the *log* that fakes share."""
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self._log = log
        for name, answer in {**_DEFAULTS, **answers}.items():
            setattr(self, name, self._method(name, answer))

    def calls_of(self, name: str) -> list[tuple[Any, ...]]:
        """Return the arguments of each call of the method *name*."""
        return [arguments for method, arguments, _ in self.calls if method == name]

    def _method(self, name: str, answer: Any) -> Any:
        answers = iter(answer) if isinstance(answer, list) else None

        def method(*arguments: Any, **named: Any) -> Any:
            self.calls.append((name, arguments, named))
            if self._log is not None:
                self._log.append((self, name))
            now = answer if answers is None else next(answers)
            if isinstance(now, Exception):
                raise now
            return now

        return method


class OtherConnector(FakeConnector):
    """A connector of another class."""


class HybridConnector(FakeConnector):
    """A connector that supports a hybrid cache."""

    def __init__(self, log: list[Any] | None = None, /, **answers: Any) -> None:
        """Return *answers*, by method, with a default for the method of hybrid caches."""
        answers.setdefault("request_finished_all_groups", (False, None))
        super().__init__(log, **answers)


class NixlPullConnector(FakeConnector):
    """A connector whose class has known families."""


class ForeignStats:
    """Statistics of an engine's class: `aggregate` changes lists in place."""

    def __init__(self, **data: list[float]) -> None:
        """Take *data* without a copy."""
        self.data = data

    def aggregate(self, other: ForeignStats) -> ForeignStats:
        """Extend each list."""
        for key, numbers in other.data.items():
            self.data.setdefault(key, []).extend(numbers)
        return self

    def reduce(self) -> dict[str, float]:
        """Return the sum of each list."""
        return {key: sum(numbers) for key, numbers in self.data.items()}

    def reset(self) -> None:
        """Empty each list."""
        for numbers in self.data.values():
            numbers.clear()

    def is_empty(self) -> bool:
        """Return whether there is no number."""
        return not any(self.data.values())

    def to_dict(self) -> dict[str, Any]:
        """Return the lists themselves."""
        return self.data


def nixl(*durations: float, **more: list[float]) -> dict[str, list[float]]:
    """Return statistics of NIXL, as they are sent, of transfers with these *durations*."""
    number = len(durations)
    return {
        "transfer_duration": list(durations),
        "post_duration": [each / 10 for each in durations],
        "bytes_transferred": [1024.0] * number,
        "num_descriptors": [10.0] * number,
        "num_failed_transfers": [],
        "num_failed_handshakes": [],
        "num_failed_notifications": [],
        "num_kv_expired_reqs": [],
        "num_notifications_after_expiry": [],
        **more,
    }


def request(name: str = "r") -> Any:
    """Return a request."""
    return SimpleNamespace(request_id=name)


def stats(**data: Any) -> ConnectorStats:
    """Return statistics of *data*."""
    return ConnectorStats(data)


def series(registry: CollectorRegistry) -> dict[str, float]:
    """Return the values in a registry by series, without `_created` samples."""
    return dict(_series(registry.collect()))


def page_series(page: str) -> dict[str, float]:
    """Return the values on a page by series."""
    return dict(_series(text_string_to_metric_families(page)))


def _series(families: Any) -> Iterator[tuple[str, float]]:
    for family in families:
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                labels = ",".join(f"{name}={value}" for name, value in sample.labels.items())
                yield f"{sample.name}{{{labels}}}", sample.value
