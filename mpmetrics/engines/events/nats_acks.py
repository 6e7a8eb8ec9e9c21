"""What a server of NATS answers of messages that a stream of JetStream is to keep."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final

from mpmetrics.engines.events.transport import NO_STREAM, REFUSED, TOO_LARGE, LinkError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NOBODY: Final = "503"
"""The status of what comes back when nobody listens."""

_LARGER_THAN_KEPT: Final = 10054
"""The code with which a stream says that it keeps no message of this size."""


def settle(answer: asyncio.Future[str], data: bytes, headers: Mapping[str, str]) -> None:
    """Take what a server says of a message: "" if a stream keeps it, why if it never will."""
    if headers.get("Status") == _NOBODY:
        answer.set_exception(LinkError(NO_STREAM, "no stream keeps what is published"))
        return
    try:
        said = json.loads(data)
    except ValueError:
        said = data
    # Also somebody else may listen there, and answer whatever he likes.
    if isinstance(said, dict) and "stream" in said and "error" not in said:
        answer.set_result("")
    elif _is_too_large(said):
        answer.set_result(f"a stream says {said}")
    else:
        answer.set_exception(LinkError(REFUSED, f"a stream says {said}"))


def _is_too_large(said: object) -> bool:
    """Return whether a stream keeps only smaller messages; to wait for it is of no use."""
    error = said.get("error") if isinstance(said, dict) else None
    return isinstance(error, dict) and error.get("err_code") == _LARGER_THAN_KEPT


def raise_first(answers: Sequence[asyncio.Future[str]], denial: Exception | None) -> None:
    """Raise why the first message that is not kept is not; *denial* is what there is no answer to.

    One is only too large when all before it are kept: by their number it is known which it is.
    """
    for failure in [each.exception() for each in answers if each.done()]:
        if failure is not None:
            raise failure
    first = next((each for each in answers if not is_kept(each)), None)
    if first is None:
        return
    if not first.done():
        raise denial or asyncio.TimeoutError
    raise LinkError(TOO_LARGE, first.result())


def is_kept(answer: asyncio.Future[str]) -> bool:
    """Tell whether a stream has confirmed the message of an *answer*."""
    is_known = answer.done() and not answer.cancelled() and answer.exception() is None
    return is_known and not answer.result()
