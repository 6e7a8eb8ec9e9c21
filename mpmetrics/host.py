"""What this machine knows about its own start (proc(5))."""

from __future__ import annotations

import os
from typing import Final

_PROC: Final = "/proc"


def boot_time() -> float | None:
    """Return when this machine was started, in seconds since the epoch; None if not known."""
    try:
        with open(os.path.join(_PROC, "stat"), "rb") as lines:
            return next((float(line.split()[1]) for line in lines if line[:6] == b"btime "), None)
    except OSError:
        return None
