"""The fixtures of the tests of compaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mpmetrics.directory import liveness

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return an empty directory on a file system where leases work."""
    path = tmp_path / "metrics"
    path.mkdir()
    if not liveness.prove_leases(str(path)):
        pytest.skip("leases do not work on the file system of the temporary directory")
    return path
