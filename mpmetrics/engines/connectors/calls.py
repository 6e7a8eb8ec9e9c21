"""Calls of several connectors: each is called, whatever another has answered or raised."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_log = logging.getLogger("mpmetrics")

_ABSENT: Final[Mapping[str, Any]] = {
    "get_num_new_matched_tokens": (0, False),
    "request_finished": (False, None),
    "register_finished_partial_tail": False,
    "get_finished": (None, None),
    "has_pending_block_frees": False,
    "has_pending_push_work": False,
}
"""What a connector answers that does not have the method; None for all others."""


class Call(NamedTuple):
    """A call of one connector, who it is, and the name of the method."""

    who: str
    name: str
    do: Callable[[], Any]


def call_of(
    who: str,
    child: object,
    name: str,
    arguments: tuple[object, ...],
    named: Mapping[str, object] | None = None,
) -> Call:
    """Return the call of a method of *child*; without it, it is answered for *child*."""
    method = getattr(child, name, None)
    if not callable(method):
        return Call(who, name, partial(unasked, name))
    return Call(who, name, partial(method, *arguments, **(named or {})))


def called(calls: Iterable[Call]) -> list[Any]:
    """Call all, and return the answers; each failure is logged, and the last is raised."""
    answers: list[Any] = []
    failure: Exception | None = None
    for call in calls:
        try:
            answers.append(call.do())
        except Exception as error:  # noqa: BLE001 - the others have to be called
            _log.warning("connector %s: %s failed", call.who, call.name, exc_info=error)
            failure = error
    if failure is not None:
        raise failure
    return answers


def telling(call: Call, output: Any, own: object) -> Call:
    """Return a *call* before which the *output* gets what is a connector's *own*."""

    def do() -> Any:
        output.kv_connector_worker_meta = own
        return call.do()

    return call._replace(do=do)


def unasked(name: str) -> Any:
    """Return what is answered for a connector that does not have a method."""
    return _ABSENT.get(name)
