"""Families of connectors in registries of prometheus_client: each is made once for a registry."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mpmetrics.engines.connectors.errors import ConnectorConflictError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mpmetrics.engines.connectors.families import ConnectorFamily

_CLASSES: Final = {"counter": "Counter", "gauge": "Gauge", "histogram": "Histogram"}


class Shape(NamedTuple):
    """What has to be the same of two families that are one."""

    type: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...]
    mode: str

    def __str__(self) -> str:
        """Return it for a sentence."""
        buckets = f", buckets {list(self.buckets)}" if self.buckets else ""
        mode = f", mode {self.mode}" if self.mode else ""
        return f"a {self.type} (labels [{', '.join(self.labels)}]{buckets}{mode})"


class _Made(NamedTuple):
    shape: Shape
    metric: Any
    owner: str


_made: weakref.WeakKeyDictionary[Any, dict[str, _Made]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def registered(
    families: Mapping[str, Iterable[ConnectorFamily]],
    labels: tuple[str, ...],
    registry: Any,  # noqa: ANN401 - registries are duck-typed
) -> dict[str, Any]:
    """Return the metrics of *families*, which are given by owner, by name.

    All of them are looked at before the first is made. Raises `ConnectorConflictError`.
    """
    import prometheus_client  # noqa: PLC0415 - see the package of the engines

    given = prometheus_client.REGISTRY if registry is None else registry
    with _lock:
        made = _made.setdefault(given, {})
        asked: dict[str, tuple[ConnectorFamily, _Made]] = {}
        for owner, each in families.items():
            for family in each:
                name, want = _name(family), _Made(_shape(family, labels), None, owner)
                there = made.get(name) or (asked[name][1] if name in asked else want)
                _agree(name, there, want)
                asked.setdefault(name, (family, want))
        new = {name: each for name, each in asked.items() if name not in made}
        made.update(_all_made(new, given))
        return {
            family.name: made[_name(family)].metric for each in families.values() for family in each
        }


def _all_made(
    new: Mapping[str, tuple[ConnectorFamily, _Made]],
    registry: Any,  # noqa: ANN401 - registries are duck-typed
) -> dict[str, _Made]:
    """Make all that is *new*, or nothing."""
    made: dict[str, _Made] = {}
    try:
        for name, (family, want) in new.items():
            made[name] = want._replace(metric=_make(family, want, registry))
    except ConnectorConflictError:
        for each in made.values():
            registry.unregister(each.metric)
        raise
    return made


def _agree(name: str, there: _Made, want: _Made) -> None:
    """Raise `ConnectorConflictError` unless two declarations are one."""
    if there.shape != want.shape:
        owners = there.owner, want.owner
        raise ConnectorConflictError(name, owners, str(there.shape), str(want.shape))


def _name(family: ConnectorFamily) -> str:
    """Return the name of a family as prometheus_client keeps it: a counter's without its end."""
    return family.name.removesuffix("_total") if family.type == "counter" else family.name


def _shape(family: ConnectorFamily, labels: tuple[str, ...]) -> Shape:
    return Shape(family.type, (*labels, *family.labels), family.buckets, family.mode)


def _make(family: ConnectorFamily, want: _Made, registry: Any) -> Any:  # noqa: ANN401 - one of three classes
    """Make one metric. Raises `ConnectorConflictError` if its name is somebody else's."""
    import prometheus_client  # noqa: PLC0415 - see the package of the engines

    options: dict[str, Any] = {}
    if family.mode:
        options["multiprocess_mode"] = family.mode
    if family.buckets:
        options["buckets"] = family.buckets
    make = getattr(prometheus_client, _CLASSES[family.type])
    try:
        return make(family.name, family.help, want.shape.labels, registry=registry, **options)
    except ValueError as error:
        owners = ("somebody else", want.owner)
        there = "one that was not made by a declaration"
        raise ConnectorConflictError(family.name, owners, there, str(want.shape)) from error
