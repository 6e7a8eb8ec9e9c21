"""A stat logger that vLLM finds by itself: entry-point group `vllm.stat_logger_plugins`.

It sets the gauges of a component in the registry that vLLM's own page is made of. Of several API
servers, each report of the engine reaches one, so the last written value counts. vLLM accepts
only subclasses of its own base class. That is imported when the plugin is loaded, which only vLLM
does; where vLLM is not installed the class has no such base.
"""

from __future__ import annotations

import os
from importlib import import_module
from types import new_class
from typing import Any, Final

from mpmetrics.engines.dynamo import ComponentGauges
from mpmetrics.engines.observers import ERRORS
from mpmetrics.engines.vllm import StatLogger

DEFAULT_COMPONENT: Final = "vllm"

_MODE: Final = "mostrecent"
"""The mode of vLLM's own gauges."""

_BASE_MODULE: Final = "vllm.v1.metrics.loggers"


class PluginStatLogger(StatLogger):
    """A stat logger that takes what it needs from vLLM's configuration."""

    def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
        """Show the load of the engine with this index, which is its data-parallel rank.

        The component's name is `DYN_COMPONENT` in the environment, or "vllm".
        """
        self._config = vllm_config
        super().__init__(engine_index, component_gauges=_make_gauges(vllm_config))

    def log_engine_initialized(self) -> None:
        """Set the number of blocks, which vLLM knows by now."""
        cache = getattr(self._config, "cache_config", None)
        blocks = getattr(cache, "num_gpu_blocks", None)
        if isinstance(blocks, int):
            self.set_num_gpu_blocks(blocks)


def _make_gauges(vllm_config: Any) -> ComponentGauges | None:
    """Make the gauges of this engine; return None if that fails, so that vLLM starts anyway."""
    component = os.environ.get("DYN_COMPONENT") or DEFAULT_COMPONENT
    try:
        return ComponentGauges(
            None, _find_model_name(vllm_config), component, multiprocess_mode=_MODE
        )
    except Exception as error:  # the logger works without gauges, too
        ERRORS.count("component_gauges", "raised", error)
        return None


def _find_model_name(vllm_config: Any) -> str:
    """Return the name under which the model is served, "" if it is not known."""
    model = getattr(vllm_config, "model_config", None)
    served = getattr(model, "served_model_name", None)
    if isinstance(served, list | tuple):
        served = served[0] if served else None
    return str(served or getattr(model, "model", None) or "")


def __getattr__(name: str) -> Any:
    """Make the class `VllmStatLogger` when vLLM loads it."""
    if name != "VllmStatLogger":
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    bases: tuple[type, ...] = (PluginStatLogger, *_import_base())
    members: dict[str, Any] = {"__module__": __name__}
    # A later vLLM may have more abstract methods, and would end if one of them were missing.
    for base in bases[1:]:
        unknown: frozenset[str] = getattr(base, "__abstractmethods__", frozenset())
        members.update({each: _ignore for each in unknown if not hasattr(PluginStatLogger, each)})
    made = new_class(name, bases, exec_body=lambda body: body.update(members))
    if len(bases) > 1:  # otherwise vLLM may be installed the next time
        globals()[name] = made
    return made


def _ignore(*args: object, **kwargs: object) -> None:
    """Do nothing: a method of vLLM's base class that is not known here."""


def _import_base() -> tuple[type, ...]:
    """Return vLLM's base class, no class if vLLM is not installed or cannot be imported."""
    try:
        base = import_module(_BASE_MODULE).StatLoggerBase
    except Exception:  # without its libraries vLLM fails in many ways
        return ()
    return (base,)
