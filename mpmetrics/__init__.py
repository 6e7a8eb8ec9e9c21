"""One correct `/metrics` page for a server of many processes.

The names below are loaded when they are first used: prometheus_client decides between memory and
files when it is imported, so importing this package must not import it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpmetrics.collector import (
        Collection,
        MultiProcessCollector,
        collect,
        mark_process_dead,
    )
    from mpmetrics.compaction import Compaction, compact
    from mpmetrics.errors import (
        CompactionError,
        DirectoryError,
        FilterError,
        LabelError,
        MpmetricsError,
        Problem,
        SourceError,
    )
    from mpmetrics.liveness import Liveness, is_alive
    from mpmetrics.page import Page
    from mpmetrics.registration import Registration, register
    from mpmetrics.server import make_asgi_app, make_wsgi_app

_HOMES = {
    "Collection": "collector",
    "Compaction": "compaction",
    "CompactionError": "errors",
    "DirectoryError": "errors",
    "FilterError": "errors",
    "LabelError": "errors",
    "Liveness": "liveness",
    "MpmetricsError": "errors",
    "MultiProcessCollector": "collector",
    "Page": "page",
    "Problem": "errors",
    "Registration": "registration",
    "SourceError": "errors",
    "collect": "collector",
    "compact": "compaction",
    "is_alive": "liveness",
    "make_asgi_app": "server",
    "make_wsgi_app": "server",
    "mark_process_dead": "collector",
    "register": "registration",
}

__all__ = [
    "Collection",
    "Compaction",
    "CompactionError",
    "DirectoryError",
    "FilterError",
    "LabelError",
    "Liveness",
    "MpmetricsError",
    "MultiProcessCollector",
    "Page",
    "Problem",
    "Registration",
    "SourceError",
    "collect",
    "compact",
    "is_alive",
    "make_asgi_app",
    "make_wsgi_app",
    "mark_process_dead",
    "register",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    """Load a public name on first use; `__version__` comes from the installed metadata."""
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - costs more than all the rest

        return version("mpmetrics-toolkit")
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, loaded or not."""
    return sorted({*globals(), *__all__, "__version__"})
