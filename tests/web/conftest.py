"""Fixtures of the tests of the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.directories import fill
from tests.database import counter

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory with two counters."""
    path = tmp_path / "metrics"
    path.mkdir()
    return fill(path, {"counter_7.db": [counter("jobs", 3), counter("other", 1)]})
