"""The demo: it counts exactly, reports differences, and leaves nothing behind."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from examples.demo import REQUESTS, WORKERS, Answer, compare
from tests.examples.programs import EXAMPLES, clean_environment, run
from tests.workers import PATIENCE, spawn

if TYPE_CHECKING:
    from pathlib import Path

DEMO = EXAMPLES / "demo.py"
# Two rounds of requests to a server under a wrapper: on a loaded machine that takes minutes.
DEMO_PATIENCE = 5 * PATIENCE
pytestmark = pytest.mark.timeout(DEMO_PATIENCE + 60)

SENT = 2 * (len(REQUESTS) + WORKERS)


def test_sent_and_counted_are_equal(home: Path) -> None:
    """The page has each request once, although a worker was killed."""
    done = run(sys.executable, DEMO, env=clean_environment(None, home), patience=DEMO_PATIENCE)

    assert (done.returncode, done.stderr) == (0, "")
    counts = re.findall(r"^shop_requests_total{.*} ([\d.]+)$", done.stdout, re.MULTILINE)
    assert sum(map(float, counts)) == SENT
    rows = re.findall(r"^(?:/\S* \d+|total) +(\d+) +(\d+)((?: +\d+)+)$", done.stdout, re.MULTILINE)
    assert len(rows) == len(counts) + 1
    for sent, counted, workers in rows:
        assert int(sent) == int(counted) == sum(map(int, workers.split()))
    assert "Killed it." in done.stdout
    assert 'mpmetrics_files{kind="archive"}' in done.stdout
    assert f"{WORKERS} of {WORKERS} workers are alive" in done.stdout
    assert f"All {SENT} requests are counted" in done.stdout


def test_a_difference_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    """A request that is not counted makes the demo fail with one line."""
    sent = Counter({Answer("/", "200"): 3})
    counted = Counter({Answer("/", "200"): 2})

    assert compare(sent, counted, {"7": counted}) == 1
    assert capsys.readouterr().err == "demo: what was counted differs from what was sent\n"


def test_a_server_that_does_not_start_is_reported(home: Path, tmp_path: Path) -> None:
    """A server that ends at once makes the demo fail with its messages and one line."""
    (tmp_path / "gunicorn.py").write_text("raise SystemExit('no server today')")
    env = {**clean_environment(None, home), "PYTHONPATH": str(tmp_path)}

    done = run(sys.executable, DEMO, env=env)

    assert done.returncode == 1
    message, reason = sorted(done.stderr.splitlines(), reverse=True)
    assert message == "no server today"
    assert reason.startswith("demo: the server does not answer: ")


def test_interrupted_it_cleans_up(home: Path) -> None:
    """A demo that is terminated stops its server and removes its directory."""
    with spawn(
        [sys.executable, DEMO],
        ending=signal.SIGTERM,
        env=clean_environment(None, home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        assert demo.stdout.readline().startswith(f"A server of {WORKERS} processes")
        demo.send_signal(signal.SIGTERM)
        # Both pipes end when no process is left.
        _, stderr = demo.communicate(timeout=PATIENCE)

    assert (demo.returncode, stderr) == (1, "demo: interrupted\n")
