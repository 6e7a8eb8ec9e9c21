"""A memory of what was seen lately: bounded in size and in time."""

from __future__ import annotations

from mpmetrics.web.recent import RecentKeys


def test_a_key_is_forgotten_when_its_time_is_over() -> None:
    """A key is there until its time is over; adding it again begins its time again."""
    now = 0.0
    keys: RecentKeys[str] = RecentKeys(10, 60.0, clock=lambda: now)
    assert "a" not in keys
    keys.add("a")
    now = 59.0
    assert "a" in keys
    keys.add("a")
    now = 118.0
    assert "a" in keys
    now = 119.0
    assert "a" not in keys


def test_the_oldest_keys_make_room() -> None:
    """Of too many keys those stay that were added last, the repeated ones among them."""
    keys: RecentKeys[int] = RecentKeys(3, 60.0, clock=lambda: 0.0)
    for key in (1, 2, 3, 1, 4, 5):
        keys.add(key)
    assert [key for key in range(6) if key in keys] == [1, 4, 5]
