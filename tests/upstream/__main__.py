"""Run all comparisons with the real packages, one process each; end with status 1 for differences.

`python -m tests.upstream catalogue connectors` runs some of them.
"""

from __future__ import annotations

import os
import sys
import tempfile
from importlib.metadata import version
from typing import Final

from tests.workers import run_to_end

CHECKS: Final = ("catalogue", "interval_statistics", "composite", "loggers", "callbacks")

_PACKAGES: Final = ("vllm", "lmcache", "ai-dynamo", "prometheus_client")
_SECONDS: Final = 600
"""The time that a check may take: importing vLLM takes tens of seconds on a slow machine."""

_QUIET: Final = {
    "DYN_LOG": "off",
    "LMCACHE_LOG_LEVEL": "CRITICAL",
    "VLLM_LOGGING_LEVEL": "CRITICAL",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_COMPUTE_NANS_IN_LOGITS": "1",
}


def main(names: list[str]) -> int:
    """Run the checks with these *names*, or all; return the status to end with."""
    print(*(f"{name} {version(name)}" for name in _PACKAGES), sep=", ")
    failed = [name for name in names or CHECKS if not run_check(name)]
    print("no differences" if not failed else f"differences in {', '.join(failed)}")
    return 1 if failed else 0


def run_check(name: str) -> bool:
    """Run one check, and print what it prints; return whether there is no difference."""
    with tempfile.TemporaryDirectory(prefix="mpmetrics-upstream-") as scratch:
        done = run_to_end(
            [sys.executable, "-W", "ignore", "-m", f"tests.upstream.{name}", scratch],
            env={**os.environ, **_QUIET},
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )
    found = [line for line in done.stdout.splitlines() if line.startswith("! ")]
    counted = [line for line in done.stdout.splitlines() if line.startswith("= ")]
    if done.returncode:
        found += [f"! {name} ended with status {done.returncode}:", *done.stderr.splitlines()[-15:]]
    print(f"{name}:", *(line[2:] for line in counted or ["= nothing was compared"]), sep="\n  ")
    print(*(f"  {line}" for line in found), sep="\n", end="\n" if found else "")
    return not found and bool(counted)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
