"""Everybody is killed all the time, and nothing is lost; see `tests.storm`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mpmetrics import liveness
from tests.storm import Storm

if TYPE_CHECKING:
    from pathlib import Path


def test_no_total_falls_and_none_is_wrong(tmp_path: Path) -> None:
    """Eight workers, a compactor, two readers; the short version of `make soak`."""
    if not liveness.can_tell(str(tmp_path)):
        pytest.skip("the file system of the temporary directory does not tell open from closed")
    outcome = Storm(tmp_path, seed=3).run(seconds=8)
    assert outcome.wrong == []
    assert outcome.kills > 10
    assert outcome.generation > 3
    assert outcome.scrapes > 50
    # Each kill in the middle of a step leaves one of which nobody can say how far it came.
    assert 0 <= outcome.begun - outcome.done <= outcome.kills + 8
    for name, value in outcome.counted.items():
        steps = value * 10 if name == "parts_total" else value
        assert outcome.done - 1e-6 <= steps <= outcome.begun + 1e-6, name
    assert all("archive" in name for name in outcome.files if name.endswith(".db"))
