"""One page from several sources, each family and each series once.

`source` says what gives families. `directory_source` is a directory, `subdirectories` one for each
container, `text_source` has callbacks, and `url_source` other exporters. `sources` has registries,
and finds the source that an object stands for. `timed_source` limits the time of one source.
`gathering` asks all sources of a page, `directories` merges those that are directories, and
`validation` drops what cannot be written. `union` joins the families, `self_metrics` adds those of
the scrape, and `page` does all this for each scrape.
"""

from __future__ import annotations

from mpmetrics.pages.directory_source import DirectorySource
from mpmetrics.pages.gathering import Gathering, ask_all
from mpmetrics.pages.page import Page, PageLike, as_page
from mpmetrics.pages.self_metrics import SelfMetrics, problems_family, source_up_family
from mpmetrics.pages.source import Collector, Gathered, Source, describe_failure
from mpmetrics.pages.sources import RegistrySource, SourceLike, as_source
from mpmetrics.pages.subdirectories import SubdirectoriesSource
from mpmetrics.pages.text_source import TextSource
from mpmetrics.pages.timed_source import Answer, is_up
from mpmetrics.pages.union import Contribution, add_labels, join_families, with_samples
from mpmetrics.pages.url_source import UrlSource

__all__ = [
    "Answer",
    "Collector",
    "Contribution",
    "DirectorySource",
    "Gathered",
    "Gathering",
    "Page",
    "PageLike",
    "RegistrySource",
    "SelfMetrics",
    "Source",
    "SourceLike",
    "SubdirectoriesSource",
    "TextSource",
    "UrlSource",
    "add_labels",
    "as_page",
    "as_source",
    "ask_all",
    "describe_failure",
    "is_up",
    "join_families",
    "problems_family",
    "source_up_family",
    "with_samples",
]
