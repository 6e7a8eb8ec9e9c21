"""The time at which this machine was started."""

from __future__ import annotations

import time
from typing import Final

_SINCE_BOOT: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)
"""The clock that counts from the start of the machine, suspended times included; Linux has it."""


def boot_time(clock: int | None = _SINCE_BOOT) -> float | None:
    """Return when this machine was started, in seconds since the epoch.

    *clock* is the one that counts from then. Without such a clock the result is None.
    """
    return None if clock is None else time.time() - time.clock_gettime(clock)
