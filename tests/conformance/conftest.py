"""Versions of prometheus_client to compare with: the oldest supported one and the installed one."""

from __future__ import annotations

import os
import re
import sys
from importlib.metadata import requires
from typing import TYPE_CHECKING, Final

import pytest
from filelock import FileLock

from tests.conftest import FAIL_ON_SKIP
from tests.workers import run_to_end

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

OLDEST: Final = "oldest"
NEWEST: Final = "newest"
CLIENTS: Final = (OLDEST, NEWEST)


def oldest_version() -> str:
    """Return the oldest version of prometheus_client that the package's metadata allow."""
    wanted = [
        re.fullmatch(r"prometheus.client>=([\d.]+)", line)
        for line in requires("mpmetrics-toolkit") or ()
    ]
    return next(match[1] for match in wanted if match)


@pytest.fixture(scope="session")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path | None]:
    """Return the directory of each version, None for the one of the environment.

    The oldest one is installed once for all processes of a test run.
    """
    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent
    target = place / "oldest_client"
    with FileLock(place / "oldest_client.lock"):
        if not target.exists():
            install(f"prometheus_client=={oldest_version()}", target)
    return {OLDEST: target, NEWEST: None}


def install(requirement: str, target: Path) -> None:
    """Install *requirement* into the directory *target*; skip, or fail, if pip cannot."""
    unfinished = target.with_suffix(".unfinished")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = run_to_end(
        [*pip, "--no-deps", "--target", str(unfinished), requirement],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        reason = f"needs {requirement}, which pip could not install: {done.stderr.strip()}"
        if os.environ.get(FAIL_ON_SKIP):
            pytest.fail(reason)
        pytest.skip(reason)
    unfinished.rename(target)
