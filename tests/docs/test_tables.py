"""The tables of the documentation that are generated from tables of the code."""

from __future__ import annotations

import os
import re
import sys
from html import unescape
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

from mpmetrics.engines import CONNECTOR_FAMILIES
from mpmetrics.engines.events.metrics import EVENT_FAMILIES
from mpmetrics.engines.families import DYNAMO_FAMILIES, LMCACHE_FAMILIES, VLLM_FAMILIES
from tests.conftest import FAIL_ON_SKIP
from tests.workers import run_to_end

EXTENSIONS: Final = Path(__file__).parents[2] / "docs" / "_ext"

_NEEDED: Final = ("sphinx", "myst_parser")


@pytest.fixture(autouse=True)
def _sphinx() -> None:
    """Skip the test if Sphinx is missing, or fail it if the environment asks for that."""
    missing = [package for package in _NEEDED if find_spec(package) is None]
    if missing:
        reason = f"needs {', '.join(missing)}: the extra `docs` of this project"
        if os.environ.get(FAIL_ON_SKIP):
            pytest.fail(reason)
        pytest.skip(reason)


def build(place: Path, page: str) -> tuple[int, str]:
    """Build a documentation of one *page*; return the status, and the page or the errors."""
    (place / "conf.py").write_text(
        f"import sys\nsys.path.append({str(EXTENSIONS)!r})\n"
        "extensions = ['myst_parser', 'tables']\nhtml_theme = 'basic'\n",
        encoding="utf-8",
    )
    (place / "index.md").write_text(page, encoding="utf-8")
    line = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--quiet", str(place)]
    done = run_to_end([*line, str(place / "html")], capture_output=True, text=True)
    if done.returncode:
        return done.returncode, done.stderr
    return 0, (place / "html" / "index.html").read_text(encoding="utf-8")


def rows(html: str) -> list[list[str]]:
    """Return the cells of each row, without markup."""
    found = re.findall(r"<tr.*?</tr>", html, re.DOTALL)
    cells = [re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row, re.DOTALL) for row in found]
    return [[unescape(re.sub(r"<.*?>", "", cell)) for cell in row] for row in cells]


COLUMNS: Final = ["Name", "Type", "Labels", "Mode or buckets", "Meaning"]


def test_the_families_of_vllm(tmp_path: Path) -> None:
    """Each family of vLLM has a row, with the option that it needs."""
    status, page = build(tmp_path, "# Page\n\n```{engine-families} vllm\n```\n")
    assert status == 0, page
    head, *body = rows(page)
    assert head == [*COLUMNS, "Only with"]
    assert [row[0] for row in body] == [family.name for family in VLLM_FAMILIES]
    by_name = {row[0]: row[1:] for row in body}
    assert by_name["vllm:num_requests_running"] == [
        "gauge",
        "model_name, engine",
        "mostrecent",
        "Requests that are being worked on",
        "",
    ]
    # Not with a dash that Sphinx has made of two.
    assert by_name["vllm:kv_block_lifetime_seconds"][-1] == "--kv-cache-metrics"


def test_the_families_of_lmcache(tmp_path: Path) -> None:
    """Each family of LMCache has a row, with its rollup over workers, and if it is in files."""
    status, page = build(tmp_path, "# Page\n\n```{engine-families} lmcache\n```\n")
    assert status == 0, page
    head, *body = rows(page)
    assert head == [*COLUMNS, "Over worker_id", "In files", "Only with"]
    assert [row[0] for row in body] == [family.name for family in LMCACHE_FAMILIES]
    by_name = {row[0]: row[1:] for row in body}
    labels = "model_name, worker_id, role, served_model_name"
    assert by_name["lmcache:request_cache_hit_rate"] == [
        "histogram",
        labels,
        "0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9 1",
        "Share of a prompt that was found, if any",
        "merge",
        "yes",
        "",
    ]
    assert by_name["lmcache:put_failed_count"] == [
        "gauge",
        labels,
        "livemostrecent",
        "Writes that have failed",
        "",
        "no",
        "",
    ]


def test_the_families_of_dynamo(tmp_path: Path) -> None:
    """Each family of Dynamo has a row, with what it needs."""
    status, page = build(tmp_path, "# Page\n\n```{engine-families} dynamo\n```\n")
    assert status == 0, page
    head, *body = rows(page)
    assert head == [*COLUMNS, "Only with"]
    assert [row[0] for row in body] == [family.name for family in DYNAMO_FAMILIES]


def test_an_unknown_engine(tmp_path: Path) -> None:
    """An unknown engine fails the build with the names of all engines."""
    status, errors = build(tmp_path, "# Page\n\n```{engine-families} vlm\n```\n")
    assert status != 0
    assert "no engine 'vlm': it is one of vllm, lmcache, dynamo" in errors


def test_the_families_of_connectors(tmp_path: Path) -> None:
    """Each family of a connector has a row, with the keys under which its numbers are sent."""
    names = ("OffloadingConnector", "NixlPullConnector")
    tables = (f"```{{connector-families}} {name}\n```\n" for name in names)
    status, page = build(tmp_path, "\n".join(["# Page\n", *tables]))
    assert status == 0, page
    head, *body = rows(page)
    assert head == ["Name", "Type", "Labels", "Buckets", "Meaning", "Sent as"]
    families = [family.name for name in names for family in CONNECTOR_FAMILIES[name]]
    assert [row[0] for row in body if row != head] == families
    by_name = {row[0]: row[1:] for row in body}
    assert by_name["vllm:nixl_num_failed_transfers"] == [
        "counter",
        "",
        "",
        "Transfers, handshakes and notifications that have failed",
        "num_failed_transfers, num_failed_handshakes, num_failed_notifications",
    ]
    assert by_name["vllm:kv_offload_tiering_promotion_latency_seconds"][1:3] == [
        "tier, result",
        "0.005 0.01 0.025 0.05 0.1 0.25 0.5 1 2.5 5 10 30 60",
    ]


def test_an_unknown_connector(tmp_path: Path) -> None:
    """An unknown connector fails the build with the names of all connectors."""
    status, errors = build(tmp_path, "# Page\n\n```{connector-families} Nixl\n```\n")
    assert status != 0
    assert "no connector 'Nixl': it is one of NixlPullConnector, " in errors


def test_the_families_of_events(tmp_path: Path) -> None:
    """Each family of events has a row, with the name that it has on a page."""
    status, page = build(tmp_path, "# Page\n\n```{event-families}\n```\n")
    assert status == 0, page
    head, *body = rows(page)
    assert head == ["Name", "Type", "Labels", "Meaning"]
    assert len(body) == len(EVENT_FAMILIES)
    assert body[0][:3] == ["mpmetrics_kv_events_total", "counter", "stage, event_type"]
    assert ["mpmetrics_kv_blocks_resident", "gauge", "medium, dp_rank"] in [row[:3] for row in body]
