"""The labels that say which worker a series is of, by Dynamo's rules.

A label that the series has itself beats an automatic one, which beats a custom one.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics.exposition import check_labels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mpmetrics.engines.dynamo.endpoint import Endpoint
    from mpmetrics.format import Labels

DEFAULT_ENDPOINT: Final = "generate"

_log = logging.getLogger("mpmetrics")


class Place(NamedTuple):
    """Where in Dynamo an *endpoint* is, and the *model* that it serves."""

    namespace: str | None = None
    component: str | None = None
    endpoint: str | None = None
    model: str | None = None

    def labels(self, endpoint: Endpoint) -> dict[str, str]:
        """Return the automatic labels: none unless both namespace and component are known."""
        if not (self.namespace and self.component):
            return {}
        model = {"model": self.model, "model_name": self.model} if self.model else {}
        return {
            "dynamo_namespace": self.namespace,
            "dynamo_component": self.component,
            "dynamo_endpoint": self.endpoint or DEFAULT_ENDPOINT,
            **_worker(endpoint),
            **model,
        }


def identity_labels(
    endpoint: Endpoint, place: Place, inject_custom_labels: Mapping[str, str] | None = None
) -> Labels:
    """Return the labels to inject, sorted by name; values are taken as they are.

    A custom label of the same name as an automatic one is passed over with a warning. Raises
    `LabelError` for one that may not be injected.
    """
    automatic = place.labels(endpoint)
    custom = dict(check_labels(inject_custom_labels))
    for name in sorted(custom.keys() & automatic.keys()):
        _log.warning(
            "the custom label %s=%r is passed over: it is %r", name, custom[name], automatic[name]
        )
    return check_labels({**custom, **automatic})


def _worker(endpoint: Endpoint) -> dict[str, str]:
    """Return the label of the worker, none when the endpoint does not know its number."""
    try:
        return {"worker_id": format(endpoint.connection_id(), "x")}
    except Exception as error:  # whoever reads may be gone
        _log.debug("there is no label worker_id: %s: %s", type(error).__name__, error)
        return {}
