"""Fixtures of the tests of examples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Yield a home directory for an example; check after the test that it is empty."""
    place = tmp_path / "home"
    place.mkdir()
    yield place
    assert list(place.iterdir()) == []


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return an empty multiprocess directory."""
    path = tmp_path / "metrics"
    path.mkdir()
    return path
