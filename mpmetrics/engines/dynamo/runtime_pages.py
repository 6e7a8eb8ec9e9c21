"""The shared pages of a process, found by endpoint."""

from __future__ import annotations

import weakref
from contextlib import suppress
from types import GetSetDescriptorType, MethodDescriptorType
from typing import Any, Final

from mpmetrics.engines.dynamo.shared_page import SharedPage

_WORKER: Final = "worker_id"


class RuntimePages:
    """One shared page for each Dynamo runtime, and one for each object of any other kind.

    The page of a runtime stays for ever, as its callbacks do: Dynamo cannot unregister them. The
    page of any other object is dropped with the object; an object that cannot be referred to
    weakly is kept.
    """

    def __init__(self) -> None:
        """Create an empty table of pages."""
        self._pages: dict[object, tuple[SharedPage, object]] = {}

    def __len__(self) -> int:
        """Return the number of pages."""
        return len(self._pages)

    def get(self, endpoint: object) -> SharedPage:
        """Return the page that *endpoint* is on; make it if it is the first endpoint there."""
        key = _find_runtime(endpoint) or id(endpoint)
        if key not in self._pages:
            kept = None
            if key == id(endpoint):
                try:
                    weakref.finalize(endpoint, self._pages.pop, key, None).atexit = False
                except TypeError:
                    kept = endpoint
            self._pages[key] = (SharedPage(), kept)
        return self._pages[key][0]


PAGES: Final = RuntimePages()
"""The pages of this process.

They are process-wide because a runtime's page is, and because callers register by endpoint only:
Dynamo makes a new endpoint object each time that it is asked for one, so the page cannot be an
attribute of it. A forked child goes on with a copy; the locks in it are reset by `_forks`.
"""


def _find_runtime(endpoint: Any) -> tuple[str, object] | None:
    """Return a key that the endpoints of one Dynamo runtime share, None for any other object.

    An endpoint does not tell which runtime it belongs to, but its connection number is the
    runtime's. A handle of the unified backend, which must not be kept, has it as a label.
    """
    kind = type(endpoint)
    with suppress(Exception):
        # These are not Python code.
        if isinstance(getattr(kind, "connection_id", None), MethodDescriptorType):
            return "connection", endpoint.connection_id()
        if isinstance(getattr(kind, "auto_labels", None), GetSetDescriptorType):
            labels = dict(endpoint.auto_labels)
            if _WORKER in labels:
                return "connection", int(labels[_WORKER], 16)
            return "labels", frozenset(labels.items())
    return None
