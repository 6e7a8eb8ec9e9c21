"""The settings of each connector in those of a composite, as vLLM's configuration has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_CONNECTORS: Final = "connectors"
_EXTRA: Final = "kv_connector_extra_config"


def split_extra(extra: Any, number: int) -> list[Any]:
    """Return the *extra* settings of each of *number* connectors, by their place.

    Settings that do not list as many connectors go to each of them unchanged.
    """
    declared = _list_connectors(extra, number)
    if declared is None:
        return [extra] * number
    return [each.get(_EXTRA) or {} for each in declared]


def split_config(config: Any, number: int) -> list[Any]:
    """Return the transfer configuration of each of *number* connectors, of the class of *config*.

    A configuration that does not list as many connectors goes to each of them unchanged.
    """
    declared = _list_connectors(getattr(config, _EXTRA, None), number)
    if declared is None:
        return [config] * number
    shared = {"engine_id": config.engine_id} if hasattr(config, "engine_id") else {}
    return [type(config)(**{**shared, **each}) for each in declared]


def _list_connectors(extra: Any, number: int) -> list[Mapping[str, Any]] | None:
    """Return the settings of *number* connectors, None if *extra* does not have as many."""
    listed = extra.get(_CONNECTORS) if isinstance(extra, Mapping) else None
    if not isinstance(listed, list | tuple):
        return None
    settings = [each for each in listed if isinstance(each, Mapping)]
    return settings if len(settings) == len(listed) == number else None
