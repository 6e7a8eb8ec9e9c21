"""Transfer parameters of a request: those of several connectors, merged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpmetrics.engines.connectors.errors import TransferParamsClashError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def merge_params(
    request_id: object, names: Iterable[str], answers: Iterable[Mapping[str, Any] | None]
) -> dict[str, Any] | None:
    """Return the parameters in all *answers* of the connectors with these *names*.

    The result is None if every answer is None. Raises `TransferParamsClashError` when several
    connectors answer with the same key.
    """
    merged: dict[str, Any] | None = None
    owners: dict[str, list[str]] = {}
    for name, params in zip(names, answers, strict=True):
        if params is not None:
            merged = {**(merged or {}), **params}
            for key in params:
                owners.setdefault(key, []).append(name)
    clashes = {key: several for key, several in owners.items() if len(several) > 1}
    if clashes:
        raise TransferParamsClashError(request_id, clashes)
    return merged
