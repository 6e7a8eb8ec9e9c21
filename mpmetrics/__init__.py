"""One correct `/metrics` page for a server of many processes.

The names in `__all__` are loaded on first use: prometheus_client decides between memory and files
when it is imported, so importing this package must not import it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpmetrics._lazy import lazy_exports

if TYPE_CHECKING:
    __version__: str
    from mpmetrics.collector import MultiProcessCollector, mark_process_dead
    from mpmetrics.compaction import Compaction, compact
    from mpmetrics.directory import Liveness, is_alive
    from mpmetrics.errors import (
        CompactionError,
        DirectoryError,
        FilterError,
        LabelError,
        MpmetricsError,
        Problem,
        SourceConfigError,
        SourceError,
    )
    from mpmetrics.installation import Installation, install
    from mpmetrics.pages import DirectorySource, Page, SubdirectoriesSource, UrlSource
    from mpmetrics.registration import Registration, register
    from mpmetrics.scrape import Collection, collect
    from mpmetrics.web import make_asgi_app, make_wsgi_app

_MODULES = {
    "collector": ["MultiProcessCollector", "mark_process_dead"],
    "compaction": ["Compaction", "compact"],
    "directory": ["Liveness", "is_alive"],
    "errors": [
        "CompactionError",
        "DirectoryError",
        "FilterError",
        "LabelError",
        "MpmetricsError",
        "Problem",
        "SourceConfigError",
        "SourceError",
    ],
    "installation": ["Installation", "install"],
    "pages": ["DirectorySource", "Page", "SubdirectoriesSource", "UrlSource"],
    "registration": ["Registration", "register"],
    "scrape": ["Collection", "collect"],
    "web": ["make_asgi_app", "make_wsgi_app"],
}

__all__ = [
    "Collection",
    "Compaction",
    "CompactionError",
    "DirectoryError",
    "DirectorySource",
    "FilterError",
    "Installation",
    "LabelError",
    "Liveness",
    "MpmetricsError",
    "MultiProcessCollector",
    "Page",
    "Problem",
    "Registration",
    "SourceConfigError",
    "SourceError",
    "SubdirectoriesSource",
    "UrlSource",
    "collect",
    "compact",
    "install",
    "is_alive",
    "make_asgi_app",
    "make_wsgi_app",
    "mark_process_dead",
    "register",
]


if not TYPE_CHECKING:  # or every name would pass for one of this module's
    _load, __dir__ = lazy_exports(__name__, _MODULES, globals())

    def __getattr__(name: str) -> Any:
        """Load a public name on first use; `__version__` comes from the installed metadata."""
        if name == "__version__":
            from importlib.metadata import version  # noqa: PLC0415 - costs more than all the rest

            return version("mpmetrics-toolkit")
        return _load(name)
