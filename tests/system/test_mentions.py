"""Which directories living processes mention."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mpmetrics.system import Mentions, find_mentions, read_tick
from mpmetrics.system.mentions import Hidden
from tests.workers import spawn

if TYPE_CHECKING:
    from pathlib import Path

IS_ROOT = hasattr(os, "getuid") and os.getuid() == 0  # Windows has no such function

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs proc(5)")

WORDS = ["mention-of-none", "mention-in-variable", "mention-in-argument", "mention-in-place"]


def mentioned(besides: int = 0) -> set[str]:
    """Return the words that processes mention; look again if there was too much going on."""
    while (found := find_mentions(WORDS, besides=besides)) is None:
        pass
    return {*found.words}


def test_words_are_found_where_a_process_mentions_them(tmp_path: Path) -> None:
    """A word counts in a process's environment, arguments and directory, until it has ended."""
    place = tmp_path / "mention-in-place"
    place.mkdir()
    line = ["sh", "-c", "echo; read _ # mention-in-argument"]
    env = {**os.environ, "WHERE": "/a/mention-in-variable/b"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with spawn(line, env=env, cwd=place, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        assert mentioned() == {*WORDS[1:]}
        assert mentioned(besides=process.pid) == set()
        process.kill()
    assert mentioned() == set()


ROOT = "0::/"
SERVICE = "0::/system.slice/shop.service"
THIS = os.getpid()


@pytest.mark.parametrize(
    ("hidden", "is_possible"),
    [
        (Hidden(7, 100, 5, ROOT), True),
        (Hidden(7, 101, 5, ROOT), True),
        (Hidden(7, 99, 5, ROOT), False),
        (Hidden(7, 100, 6, ROOT), False),
        (Hidden(7, 100, 5, SERVICE), False),
        (Hidden(8, 100, 5, ROOT), False),
    ],
    ids=["then", "later", "before", "elsewhere", "another group", "a parent"],
)
def test_a_hidden_environment_counts_if_it_can_be_that_of_a_user(
    hidden: Hidden, *, is_possible: bool
) -> None:
    """A process that hides its environment may mention what its session has made before.

    The processes above this one do not count.
    """
    mentions = Mentions(frozenset(), [hidden], {7: 1, THIS: 9, 9: 8, 8: 1, 1: 0})
    assert mentions.may_include("word", since=100, session=5, group=ROOT) is is_possible


@pytest.mark.parametrize("session", [5, 6])
def test_a_control_group_of_its_own_tells_more_than_a_session(session: int) -> None:
    """Within the control group of a service, all sessions count."""
    mentions = Mentions(frozenset(), [Hidden(7, 100, 5, SERVICE)], {})
    assert mentions.may_include("word", since=100, session=session, group=SERVICE)
    assert not mentions.may_include("word", since=100, session=5, group=f"{SERVICE}2")


HIDDEN = Mentions(frozenset(), [Hidden(7, 100, 5, ROOT)], {7: 6, 6: 5, 5: 1, 1: 0})


@pytest.mark.parametrize(
    ("ancestor", "is_possible"), [(6, True), (5, True), (7, False), (9, False)]
)
def test_a_hidden_environment_counts_below_an_ancestor(ancestor: int, *, is_possible: bool) -> None:
    """A process that hides its environment may mention what its ancestors know."""
    assert HIDDEN.may_include_below("word", ancestor) is is_possible


@pytest.mark.skipif(not IS_ROOT, reason="needs root to become another user")
def test_another_users_process_is_seen_or_hidden() -> None:
    """The environment of another user's process is read, or the process is listed as hidden."""
    tick = read_tick()
    with spawn(["cat"], stdin=subprocess.PIPE, env={"A": "mention-in-variable"}, user=65534) as cat:
        found = None
        while found is None:
            found = find_mentions(["mention-in-variable"])
        hidden = {each.pid: each.started for each in found.hidden}
        assert "mention-in-variable" in found.words or hidden[cat.pid] >= tick
        cat.kill()
