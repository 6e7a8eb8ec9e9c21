"""The time at which this machine was started."""

from __future__ import annotations

import time

import psutil
import pytest

from mpmetrics.system.clock import boot_time


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="needs Linux")
def test_the_start_of_this_machine_is_known() -> None:
    """The start is in the past, and within a second of what /proc/stat says."""
    booted = boot_time()
    assert booted is not None
    assert 0 < booted < time.time()
    assert booted == pytest.approx(psutil.boot_time(), abs=2.0)


def test_without_the_clock_nothing_is_known() -> None:
    """A system without a clock since boot has no known start."""
    assert boot_time(None) is None
