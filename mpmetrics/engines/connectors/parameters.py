"""Transfer parameters: what the connectors of a request give to whoever loads it elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpmetrics.engines.connectors.errors import TransferParamsClashError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Params = dict[str, Any] | None


def merged_params(
    request_id: object, names: Iterable[str], given: Iterable[Mapping[str, Any] | None]
) -> Params:
    """Return the parameters of all, None if nobody has *given* any; *names* say who has.

    Raises `TransferParamsClashError` when a key is given by several.
    """
    merged: Params = None
    owners: dict[str, list[str]] = {}
    for name, params in zip(names, given, strict=True):
        if params is not None:
            merged = {**(merged or {}), **params}
            for key in params:
                owners.setdefault(key, []).append(name)
    clashes = {key: who for key, who in owners.items() if len(who) > 1}
    if clashes:
        raise TransferParamsClashError(request_id, clashes)
    return merged
