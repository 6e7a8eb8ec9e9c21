"""The demo of LLM engines: the page of a real runtime has everything once, with the right value."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from tests.conftest import require_package
from tests.examples.programs import EXAMPLES, clean_environment, run

if TYPE_CHECKING:
    from pathlib import Path

require_package("dynamo", extra="dynamo")

REQUESTS = 64 + 3
"""The requests of the simulated engine, and those of the worker itself."""


def test_each_family_is_on_the_page_once(home: Path, tmp_path: Path) -> None:
    """The page of the demo has each family once, with the requests of all processes.

    Appended texts, which the demo shows for comparison, have families twice, and the first value
    of a family is that of one process.
    """
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    env = {**clean_environment(None, home), "TMPDIR": str(scratch)}
    done = run(sys.executable, EXAMPLES / "dynamo_page.py", env=env)

    assert (done.returncode, done.stderr) == (0, "")
    rows = dict(re.findall(r"^(today|this page)\D+((?: *\d+){4})$", done.stdout, re.MULTILINE))
    families, twice, empty, answered = map(int, rows["this page"].split())
    assert (twice, empty, answered) == (0, 0, REQUESTS)
    today, twice, empty, wrong = map(int, rows["today"].split())
    assert today - empty == families
    assert twice > 0
    assert wrong < REQUESTS
    assert f"all {REQUESTS} requests are counted" in done.stdout
    assert 'dynamo_namespace="demo"' in done.stdout
    assert list(scratch.iterdir()) == []
