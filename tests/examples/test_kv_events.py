"""The simulated publisher of KV events, read by a bridge."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.cli.bridges import bridging
from tests.examples.programs import EXAMPLES
from tests.servers import fetch, running
from tests.workers import PATIENCE, environment

if TYPE_CHECKING:
    from pathlib import Path


def test_the_bridge_counts_the_blocks_of_the_engine(tmp_path: Path) -> None:
    """The printed events and the page have as many blocks as the engine has stored and removed."""
    where = f"ipc://{tmp_path}/live", f"ipc://{tmp_path}/replay"
    options = ["--publisher", where[0], "--replay", where[1], "--print", "--listen", "127.0.0.1:0"]
    script = [sys.executable, str(EXAMPLES / "kv_events.py"), "--interval", "0.005"]
    script += ["--endpoint", where[0], "--replay", where[1], "--requests", "400"]
    with bridging(*options) as bridge:
        address = bridge.address()
        with running(script, stdout=subprocess.PIPE, env=environment(None)) as engine:
            assert engine.stdout is not None
            truth = json.loads(engine.stdout.readline())
            resident: set[int] = set()
            counted = {"stored": 0, "removed": 0}
            while counted != {kind: truth[kind] for kind in counted}:
                (event,) = bridge.lines(1)
                counted[event["event"]] += len(event["hashes"])
                change = (
                    resident.update if event["event"] == "stored" else resident.difference_update
                )
                change(event["hashes"])
            engine.send_signal(signal.SIGTERM)
            assert engine.wait(PATIENCE) == 0
        page = fetch(f"{address}/metrics").body.decode()
    assert len(resident) == truth["resident"]
    for name, value in (
        ("blocks_stored_total", truth["stored"]),
        ("blocks_removed_total", truth["removed"]),
        ("blocks_resident", truth["resident"]),
    ):
        assert f'mpmetrics_kv_{name}{{dp_rank="0",medium="device"}} {value}.0\n' in page
