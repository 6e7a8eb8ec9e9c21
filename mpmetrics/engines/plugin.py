"""A stat logger that vLLM finds by itself: entry-point group `vllm.stat_logger_plugins`.

It shows the gauges of a component, from the registry that vLLM's own page is made of. vLLM takes
subclasses of its own base class only; that is imported when the plugin is loaded, which only vLLM
does. Where vLLM is not installed the class is the same without that base.
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

_BASE_MODULE: Final = "vllm.v1.metrics.loggers"


class PluginStatLogger(StatLogger):
    """A stat logger that learns from vLLM's configuration what it needs."""

    def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
        """Show the load of the engine with this index, which is its data-parallel rank.

        The component is what `DYN_COMPONENT` says in the environment, or "vllm".
        """
        self._config = vllm_config
        super().__init__(engine_index, component_gauges=_gauges(vllm_config))

    def log_engine_initialized(self) -> None:
        """Take how many blocks there are, which vLLM knows by now."""
        cache = getattr(self._config, "cache_config", None)
        blocks = getattr(cache, "num_gpu_blocks", None)
        if isinstance(blocks, int):
            self.set_num_gpu_blocks(blocks)


def _gauges(vllm_config: Any) -> ComponentGauges | None:
    """Return the gauges of this engine, None if they cannot be made: vLLM is to start."""
    component = os.environ.get("DYN_COMPONENT") or DEFAULT_COMPONENT
    try:
        return ComponentGauges(None, _model(vllm_config), component)
    except Exception as error:  # the load is known all the same
        ERRORS.count("component_gauges", "raised", error)
        return None


def _model(vllm_config: Any) -> str:
    """Return the name under which the model is served."""
    model = getattr(vllm_config, "model_config", None)
    served = getattr(model, "served_model_name", None)
    if isinstance(served, list | tuple):
        served = served[0] if served else None
    return str(served or getattr(model, "model", None) or "")


def __getattr__(name: str) -> Any:
    """Make the class that vLLM asks for."""
    if name != "VllmStatLogger":
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    bases: tuple[type, ...] = (PluginStatLogger, *_base())
    members: dict[str, Any] = {"__module__": __name__}
    # A later vLLM may ask for more than is known here, and would end without it.
    for base in bases[1:]:
        unknown: frozenset[str] = getattr(base, "__abstractmethods__", frozenset())
        members.update({each: _ignore for each in unknown if not hasattr(PluginStatLogger, each)})
    made = new_class(name, bases, exec_body=lambda body: body.update(members))
    if len(bases) > 1:  # otherwise vLLM may be there the next time
        globals()[name] = made
    return made


def _ignore(*args: object, **kwargs: object) -> None:
    """Take no notice."""


def _base() -> tuple[type, ...]:
    """Return vLLM's base class, none where vLLM is not installed or cannot be imported."""
    try:
        base = import_module(_BASE_MODULE).StatLoggerBase
    except Exception:  # without its libraries vLLM fails in many ways
        return ()
    return (base,)
