"""Calls of a method of several connectors: each is called, whatever another returns or raises."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mpmetrics._log_limit import get_log
from mpmetrics.engines.connectors.errors import ConnectorDisagreementError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

_log = get_log()

_MISSING: Final[Mapping[str, Any]] = {
    "get_num_new_matched_tokens": (0, False),
    "request_finished": (False, None),
    "register_finished_partial_tail": False,
    "get_finished": (None, None),
    "has_pending_block_frees": False,
    "has_pending_push_work": False,
    "supports_sleep_mode": True,
}
"""The answer for a connector that lacks the method, by method; None for all other methods."""


class Call(NamedTuple):
    """A call of one connector: the connector's name, the method's name, and the bound call."""

    connector: str
    method: str
    run: Callable[[], Any]

    def preceded_by(self, first: Callable[[], object]) -> Call:
        """Return this call with a call of *first* before it."""

        def run() -> Any:
            first()
            return self.run()

        return self._replace(run=run)


class Children:
    """The connectors of a composite, which are called together, and their names."""

    def __init__(self, names: Sequence[str], connectors: Sequence[Any]) -> None:
        """Take the *connectors*, and a name for each."""
        self.names = tuple(names)
        self.connectors = tuple(connectors)

    def __len__(self) -> int:
        """Return the number of connectors."""
        return len(self.connectors)

    def call_all(self, method: str, *arguments: object, **named: object) -> list[Any]:
        """Call a *method* of all with the same arguments; return the answers."""
        calls = (self.bind(place, method, *arguments, **named) for place in range(len(self)))
        return run_calls(calls)

    def call_each(self, method: str, arguments: Sequence[tuple[object, ...]]) -> list[Any]:
        """Call a *method* of all, each with its own *arguments*; return the answers."""
        return run_calls(self.bind(place, method, *own) for place, own in enumerate(arguments))

    def call_one(self, place: int | None, method: str, *arguments: object) -> Any:
        """Call a *method* of the connector at *place*; answer for a missing one if it is None."""
        return _MISSING.get(method) if place is None else self.bind(place, method, *arguments).run()

    def bind(self, place: int, method: str, *arguments: object, **named: object) -> Call:
        """Return the call of a *method* of one connector; if it lacks the method, `_MISSING`'s."""
        bound = getattr(self.connectors[place], method, None)
        if callable(bound):
            return Call(self.names[place], method, partial(bound, *arguments, **named))
        return Call(self.names[place], method, lambda: _MISSING.get(method))

    def agree(self, what: str, answers: Sequence[Any]) -> Any:
        """Return the one answer among *answers* that is not None, or None if there is none.

        Raises `ConnectorDisagreementError`, which describes *what*, if answers differ.
        """
        given = self.pair_given(answers)
        if any(answer != given[0][1] for _, answer in given):
            raise ConnectorDisagreementError(what, given)
        return given[0][1] if given else None

    def pair_given(self, answers: Sequence[Any]) -> list[tuple[str, Any]]:
        """Return the *answers* that are not None, each with the name of its connector."""
        pairs = zip(self.names, answers, strict=True)
        return [(name, answer) for name, answer in pairs if answer is not None]

    def has(self, place: int, method: str) -> bool:
        """Return whether the connector at *place* has a *method*."""
        return callable(getattr(self.connectors[place], method, None))

    def read_flags(self, name: str) -> list[bool]:
        """Return for each connector whether its attribute *name* is True."""
        return [getattr(connector, name, False) is True for connector in self.connectors]


def run_calls(calls: Iterable[Call]) -> list[Any]:
    """Run all *calls*, and return the answers; log each failure, and raise the last in the end."""
    answers: list[Any] = []
    failure: Exception | None = None
    for call in calls:
        try:
            answers.append(call.run())
        except Exception as error:  # the other connectors have to be called
            _log.warning("connector %s: %s failed", call.connector, call.method, exc_info=error)
            failure = error
    if failure is not None:
        raise failure
    return answers
