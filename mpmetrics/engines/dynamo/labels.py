"""The labels that identify the worker of a series, by Dynamo's rules.

A label that the series has itself beats an automatic one, which beats a custom one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mpmetrics._log_limit import get_log
from mpmetrics.exposition import check_labels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mpmetrics.engines.dynamo.endpoint import Endpoint, EngineHandle
    from mpmetrics.format import Labels

DEFAULT_ENDPOINT: Final = "generate"

_log = get_log()


class EndpointNames(NamedTuple):
    """The names of an *endpoint* in Dynamo's hierarchy, and the *model* that it serves."""

    namespace: str | None = None
    component: str | None = None
    endpoint: str | None = None
    model: str | None = None

    def make_labels(self, endpoint: Endpoint | EngineHandle) -> dict[str, str]:
        """Return the automatic labels: none unless both namespace and component are known.

        A handle of the unified backend has labels itself; a name that is given replaces its own.
        """
        own = dict(getattr(endpoint, "auto_labels", None) or {})
        model = {"model": self.model, "model_name": self.model} if self.model else {}
        if not (self.namespace and self.component):
            return {**own, **model} if own else {}
        return {
            **own,
            "dynamo_namespace": self.namespace,
            "dynamo_component": self.component,
            "dynamo_endpoint": self.endpoint or own.get("dynamo_endpoint") or DEFAULT_ENDPOINT,
            **_make_worker_label(endpoint),
            **model,
        }


def make_identity_labels(
    endpoint: Endpoint | EngineHandle,
    names: EndpointNames,
    inject_custom_labels: Mapping[str, str] | None = None,
) -> Labels:
    """Return the labels to inject, sorted by name; values are not changed.

    A custom label with the name of an automatic one is ignored with a warning. Raises `LabelError`
    for a label that may not be injected.
    """
    automatic = names.make_labels(endpoint)
    custom = dict(check_labels(inject_custom_labels))
    for name in sorted(custom.keys() & automatic.keys()):
        _log.warning(
            "the custom label %s=%r is ignored: the automatic label is %r",
            name,
            custom[name],
            automatic[name],
        )
    return check_labels({**custom, **automatic})


def _make_worker_label(endpoint: Any) -> dict[str, str]:
    """Return the label `worker_id`, none if the endpoint does not know its number."""
    try:
        return {"worker_id": format(endpoint.connection_id(), "x")}
    except Exception as error:  # the runtime may be gone
        _log.debug("there is no label worker_id: %s: %s", type(error).__name__, error)
        return {}
