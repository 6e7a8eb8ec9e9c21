"""Odd pages of other exporters: a real Prometheus judges what is accepted, and what is in it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import mpmetrics
from mpmetrics.exposition import Format
from mpmetrics.pages import UrlSource
from tests.parsing.odd_pages import NEWER, ODD_PAGES, REFUSED, OddPage
from tests.prometheus import Prometheus, prometheus
from tests.servers import answering, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import NeedsProgram
    from tests.servers import Handler

NAMES = sorted(ODD_PAGES)
_NUMBERED = list(enumerate(NAMES))
WAYS = ("direct", "text", "openmetrics")
"""How Prometheus gets a page: from its exporter, or as the source of a page in either format."""

CONFIGURATION = """
global: {{scrape_interval: 8s, scrape_timeout: 8s}}
scrape_configs:
  - job_name: pages
    file_sd_configs: [{{files: ["{targets}"]}}]
"""

Stored = dict[str, set[tuple[float, str]]]
"""The samples of each series: time, or 0 if it is that of the scrape, and value."""


class Exporters:
    """A server of all odd pages, and of pages that have one of them as their source."""

    def __init__(self) -> None:
        """Fix the times of all pages."""
        self.now = int(time.time()) - 2
        self._pages = {f"/direct/{number}": self._odd_page(name) for number, name in _NUMBERED}

    def _odd_page(self, name: str) -> OddPage:
        return ODD_PAGES[name].at(self.now)

    def answer(self, handler: Handler) -> None:
        """Send the page of a path: /WAY/NUMBER."""
        kind, body = self._pages[handler.path]
        handler.send(body, Content_Type=kind)

    def make_pages(self, host: str) -> None:
        """Make all pages that have a page of *host* as their source, before Prometheus waits."""
        for number, _ in _NUMBERED:
            source = UrlSource(f"http://{host}/direct/{number}")
            page = mpmetrics.Page(source, exclude="mpmetrics_")
            for way in ("text", "openmetrics"):
                form = Format(openmetrics=way == "openmetrics")
                self._pages[f"/{way}/{number}"] = OddPage(form.content_type, page.write(form))

    def targets(self, host: str) -> list[dict[str, Any]]:
        """Return the targets of Prometheus for all pages, in all ways, at *host*."""
        return [
            {
                "targets": [host],
                "labels": {"__metrics_path__": f"/{way}/{number}", "odd": name, "way": way},
            }
            for number, name in _NUMBERED
            for way in WAYS
        ]


def stored(server: Prometheus, now: int) -> dict[tuple[str, str], Stored]:
    """Return what Prometheus has stored of each page in each way, with `up`."""
    pages: dict[tuple[str, str], Stored] = {(way, name): {} for name in NAMES for way in WAYS}
    for series in server.ask("query", query='{odd!=""}[10m]')["result"]:
        labels = {
            name: value
            for name, value in series["metric"].items()
            if name not in {"odd", "way", "job", "instance"}
        }
        if not labels["__name__"].startswith("scrape_"):
            own = {now, now - 5}  # the times that are written on pages, to the second
            samples = {(at if int(at) in own else 0.0, value) for at, value in series["values"]}
            page = pages[series["metric"]["way"], series["metric"]["odd"]]
            page[json.dumps(labels, sort_keys=True)] = samples
    return pages


def test_a_page_of_a_source_is_what_prometheus_makes_of_the_source(
    needs_program: NeedsProgram, tmp_path: Path
) -> None:
    """Prometheus stores the same series, values and times of a page as of its source.

    A source that Prometheus refuses is refused, and has no series on the page.
    """
    program = needs_program("prometheus", package="prometheus")
    exporters = Exporters()
    with answering(exporters.answer) as url:
        host = url.split("/")[2]
        exporters.make_pages(host)
        (tmp_path / "targets.json").write_text(json.dumps(exporters.targets(host)))
        configuration = CONFIGURATION.format(targets=tmp_path / "targets.json")
        with prometheus(program, tmp_path, configuration) as server:
            count = f'count(up{{odd!=""}}) == {len(NAMES) * len(WAYS)}'
            eventually(lambda: server.ask("query", query=count)["result"], "all are scraped")
            pages = stored(server, exporters.now)
    up = '{"__name__": "up"}'
    assert {name for name in NAMES if pages["direct", name].pop(up) == {(0.0, "0")}} in (
        REFUSED,
        REFUSED | NEWER,
    )
    for way in ("text", "openmetrics"):
        assert [name for name in NAMES if pages[way, name].pop(up) != {(0.0, "1")}] == []
        for name in NAMES:
            if name not in NEWER:
                assert pages[way, name] == pages["direct", name], (way, name)
