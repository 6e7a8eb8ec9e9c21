"""The transfers of a worker that have ended in one step: sent, received, or failed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass
class TransferResults:
    """The requests whose transfers have ended, with the attributes of vLLM's class.

    A request of *failed_recving* is in *finished_recving*, too: it waits no longer.
    """

    finished_sending: set[str] = field(default_factory=set)
    finished_recving: set[str] = field(default_factory=set)
    failed_recving: set[str] = field(default_factory=set)


def read_results(results: Any) -> tuple[Iterable[str], Iterable[str], Iterable[str]]:
    """Return the requests sent, received and failed in *results* of any class, or None.

    `get_finished` returns a pair, which has no failures.
    """
    if results is None:
        return (), (), ()
    if isinstance(results, tuple):
        sent, received = results
        return sent or (), received or (), ()
    return (
        results.finished_sending or (),
        results.finished_recving or (),
        getattr(results, "failed_recving", None) or (),
    )
