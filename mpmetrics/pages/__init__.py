"""One page from several sources, each family and each series once."""

from __future__ import annotations

from mpmetrics.pages.deadlines import Answer
from mpmetrics.pages.gathering import Gathering
from mpmetrics.pages.page import Page
from mpmetrics.pages.self_metrics import AboutScrape, is_up, problems_family, sources_up
from mpmetrics.pages.sources import (
    Collector,
    DirectorySource,
    Gathered,
    RegistrySource,
    Source,
    TextSource,
    UrlSource,
    as_source,
)
from mpmetrics.pages.union import Contribution, add_labels, join_families, with_samples

__all__ = [
    "AboutScrape",
    "Answer",
    "Collector",
    "Contribution",
    "DirectorySource",
    "Gathered",
    "Gathering",
    "Page",
    "RegistrySource",
    "Source",
    "TextSource",
    "UrlSource",
    "add_labels",
    "as_source",
    "is_up",
    "join_families",
    "problems_family",
    "sources_up",
    "with_samples",
]
