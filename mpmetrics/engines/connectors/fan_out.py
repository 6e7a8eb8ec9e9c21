"""Calls of several connectors: each is called, whatever another has answered or raised."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mpmetrics.engines.connectors.errors import ConnectorDisagreementError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

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

    def after(self, first: Callable[[], object]) -> Call:
        """Return this call with another one before it."""

        def do() -> Any:
            first()
            return self.do()

        return self._replace(do=do)


class Children:
    """Connectors that are called together, and who they are."""

    def __init__(self, names: Sequence[str], connectors: Sequence[Any]) -> None:
        """Take the *connectors*, and as many *names*."""
        self.names = tuple(names)
        self.connectors = tuple(connectors)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.connectors)

    def all(self, name: str, *arguments: object, **named: object) -> list[Any]:
        """Call the same method of all with the same arguments; return the answers."""
        return called(self.call(place, name, *arguments, **named) for place in range(len(self)))

    def each(self, name: str, arguments: Sequence[tuple[object, ...]]) -> list[Any]:
        """Call the same method of all, each with *arguments* of its own; return the answers."""
        return called(self.call(place, name, *own) for place, own in enumerate(arguments))

    def ask(self, place: int | None, name: str, *arguments: object) -> Any:
        """Call one of them; without a *place*, say what is said where there is no method."""
        return _ABSENT.get(name) if place is None else self.call(place, name, *arguments).do()

    def call(self, place: int, name: str, *arguments: object, **named: object) -> Call:
        """Return the call of a method of one; without that method, it is answered for it."""
        method = getattr(self.connectors[place], name, None)
        do = partial(method, *arguments, **named) if callable(method) else lambda: _ABSENT.get(name)
        return Call(self.names[place], name, do)

    def same(self, what: str, answers: Sequence[Any]) -> Any:
        """Return the one answer that there is, None if there is none.

        Raises `ConnectorDisagreementError`, which says *what*, if there are different ones.
        """
        given = self.given(answers)
        if any(answer != given[0][1] for _, answer in given):
            raise ConnectorDisagreementError(what, given)
        return given[0][1] if given else None

    def given(self, answers: Sequence[Any]) -> list[tuple[str, Any]]:
        """Return those of the *answers* that are not None, and whose they are."""
        pairs = zip(self.names, answers, strict=True)
        return [(name, answer) for name, answer in pairs if answer is not None]

    def have(self, name: str) -> list[bool]:
        """Return for each whether its attribute called *name* is True."""
        return [getattr(connector, name, False) is True for connector in self.connectors]


def called(calls: Iterable[Call]) -> list[Any]:
    """Call all, and return the answers; each failure is logged, and the last is raised."""
    answers: list[Any] = []
    failure: Exception | None = None
    for call in calls:
        try:
            answers.append(call.do())
        except Exception as error:  # the others have to be called
            _log.warning("connector %s: %s failed", call.who, call.name, exc_info=error)
            failure = error
    if failure is not None:
        raise failure
    return answers
