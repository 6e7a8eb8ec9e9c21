"""The reference of self-metrics lists each of them, and no others."""

from __future__ import annotations

import re
import signal
import sys
from typing import TYPE_CHECKING

import pytest

import mpmetrics
from mpmetrics.supervisor import launch
from tests.docs.pages import DOCS
from tests.wrapped import Wrapped

if TYPE_CHECKING:
    from pathlib import Path


def test_every_self_metric_is_listed(tmp_path: Path) -> None:
    """The reference lists the self-metrics that a page has, and no others."""
    (tmp_path / "backup.db").touch()
    (tmp_path / "counter_1.db").touch()
    listed, *_ = self_metrics()
    page = mpmetrics.Page(tmp_path).render().decode()
    # A file system without a limit of inodes lacks this one.
    optional = {"mpmetrics_directory_free_inodes"}
    found = set(re.findall(r"^# TYPE (mpmetrics_\w+)", page, re.MULTILINE))
    assert listed == found | optional


@pytest.mark.skipif(not launch.IS_SUPPORTED, reason="run needs Linux")
def test_every_metric_of_a_wrapped_server_is_listed() -> None:
    """The reference lists the self-metrics of `mpmetrics run`, and no others."""
    # The server does not wait for its worker, so that the wrapper gets its exit status.
    program = "import os, signal, time\nif os.fork(): signal.pause()\ntime.sleep(1)\nos._exit(3)"
    with Wrapped(sys.executable, "-c", program) as wrapped:
        page = wrapped.until(lambda page: "mpmetrics_worker_last_exit_status" in page)
        assert page["mpmetrics_worker_last_exit_status"] == 3
        wrapped.end(signal.SIGTERM)
    everywhere, serving, wrapping, *_ = self_metrics()
    names = {series.partition(" ")[0] for series in page}
    assert serving | wrapping == names - everywhere


def self_metrics() -> list[set[str]]:
    """Return the metrics in the first column of each section of the page of self-metrics."""
    text = (DOCS / "reference" / "self-metrics.md").read_text(encoding="utf-8")
    sections = [
        re.findall(r"^\| (`\w+`.*?) \|", part, re.MULTILINE) for part in text.split("\n## ")
    ]
    return [set(re.findall(r"`(\w+)`", " ".join(cells))) for cells in sections]
