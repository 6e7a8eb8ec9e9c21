"""The alarm of a file system that fills up."""

from __future__ import annotations

import pytest

from mpmetrics.supervisor.space_alarm import SpaceAlarm
from mpmetrics.system.mounts import Space

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

AMPLE = Space(MIB, MIB, 100, 90)
LOW = Space(MIB, 180 * KIB, 100, 90)
FULL = Space(MIB, 0, 100, 90)
NO_INODES = Space(MIB, MIB, 100, 0)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        pytest.param(AMPLE, "", id="ample"),
        pytest.param(Space(MIB, 210 * KIB), "", id="a-fifth"),
        pytest.param(LOW, "fills up: 180 KiB of 1 MiB and 90 of 100 inodes are free", id="low"),
        pytest.param(
            Space(MIB, MIB, 100, 12), "fills up: 1 MiB of 1 MiB and 12 of 100", id="inodes"
        ),
        pytest.param(Space(GIB << 10, 150 * MIB), "", id="large-and-enough"),
        pytest.param(
            Space(GIB << 10, 100 * MIB), "fills up: 100 MiB of 1 TiB are free", id="large"
        ),
        pytest.param(FULL, "is full: 0 B of 1 MiB and 90 of 100 inodes are free", id="full"),
        pytest.param(Space(MIB, 100), "is full: 100 B of 1 MiB are free", id="less-than-a-page"),
        pytest.param(NO_INODES, "is full: 1 MiB of 1 MiB and 0 of 100", id="no-inodes"),
    ],
)
def test_a_lack_of_space_is_one_line_with_numbers(space: Space, words: str) -> None:
    """Little space has a line with numbers, and so has none; enough has no line."""
    alarm = SpaceAlarm("/m")
    line = alarm.note(space, 0.0)
    assert line.startswith(f"the file system of /m {words}" if words else "")
    assert bool(line) == bool(words)
    assert alarm.note(space, 1.0) == ""


@pytest.mark.parametrize(
    ("space", "end"),
    [
        (LOW, "workers are killed by SIGBUS: make it larger (a tmpfs: mount -o remount,size=…)"),
        (FULL, "are killed by SIGBUS: make it larger (a tmpfs: mount -o remount,size=…)"),
        (
            Space(MIB, MIB, 100, 12),
            "cannot make files (ENOSPC): make it larger (a tmpfs: mount -o remount,nr_inodes=…)",
        ),
        (NO_INODES, "fail with ENOSPC: make it larger (a tmpfs: mount -o remount,nr_inodes=…)"),
    ],
)
def test_a_line_names_what_lacks_and_what_helps(space: Space, end: str) -> None:
    """Without bytes workers are killed, without inodes they fail; each has its own remedy."""
    line = SpaceAlarm("/m").note(space, 0.0)
    assert f"{end}, or fold more often" in line
    assert ("SIGBUS" in line) == ("ENOSPC" not in line)


def test_a_lack_of_inodes_explains_no_bus_error() -> None:
    """Without inodes no file can be made, but those that are there can be written to."""
    alarm = SpaceAlarm("/m")
    assert alarm.note(NO_INODES, 0.0)
    assert alarm.explain_bus_error(NO_INODES, 1.0) == ""


def test_space_that_comes_and_goes_is_not_reported_again() -> None:
    """There is a new line only after there was ample space again, not around the limit."""
    alarm = SpaceAlarm("/m")
    near = Space(MIB, 250 * KIB, 100, 90)  # no longer low, but not ample either
    lines = [alarm.note(space, 0.0) for space in (LOW, near, LOW, FULL, LOW, near, FULL, AMPLE)]
    assert [bool(line) for line in lines] == [True, False, False, True, *[False] * 4]
    assert alarm.note(FULL, 9.0)


def test_a_bus_error_is_explained_where_space_lacks() -> None:
    """SIGBUS is explained by a directory that is or was full, once in a minute, with a number."""
    alarm = SpaceAlarm("/m")
    assert alarm.explain_bus_error(AMPLE, 0.0) == ""
    assert alarm.explain_bus_error(None, 0.0) == ""
    assert alarm.explain_bus_error(FULL, 1.0) == (
        "1 process has ended by SIGBUS: the directory /m is full (0 B of 1 MiB and 90 of 100 "
        "inodes are free)"
    )
    assert [alarm.explain_bus_error(FULL, 2.0 + n) for n in range(3)] == ["", "", ""]
    assert alarm.explain_bus_error(FULL, 62.0).startswith("4 processes have ended by SIGBUS: the")


def test_a_bus_error_soon_after_the_directory_was_full() -> None:
    """A directory counts as full for a minute after it was: a compaction may have made room."""
    alarm = SpaceAlarm("/m")
    alarm.note(FULL, 0.0)
    assert alarm.explain_bus_error(AMPLE, 59.0).startswith("1 process has ended by SIGBUS")
    assert alarm.explain_bus_error(AMPLE, 61.0) == ""
