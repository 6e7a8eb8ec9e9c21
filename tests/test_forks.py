"""State that a forked child resets."""

from __future__ import annotations

import os

import pytest

from tests.workers import environment, run_python

PROGRAM = """
import os
import sys
import threading
import warnings

from mpmetrics._forks import ForkSafeLock, reset_in_children

# New versions of Python warn of what this is about.
warnings.simplefilter("ignore", DeprecationWarning)
lock = ForkSafeLock()


class Counted:
    resets = 0

    def reset_after_fork(self):
        self.resets += 1


def fork_and_run(check):
    child = os.fork()
    if child == 0:
        os._exit(not check())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@needs_fork
def test_a_lock_that_another_thread_holds_is_free_in_a_child() -> None:
    """A forked child takes a `ForkSafeLock` that a thread of the parent held; the parent waits."""
    run_python(
        f"""{PROGRAM}
held, go_on = threading.Event(), threading.Event()

def hold():
    with lock:
        held.set()
        go_on.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()
assert not lock.acquire(timeout=0.001)
assert fork_and_run(lambda: lock.acquire(timeout=0)) == 0
assert not lock.acquire(timeout=0.001)
go_on.set()
thread.join()
assert lock.acquire(timeout=0)
""",
        env=environment(None),
    )


@needs_fork
def test_a_thread_may_fork_while_it_holds_the_lock() -> None:
    """Parent and child both leave the block in which the parent forked, and can enter it again."""
    run_python(
        f"""{PROGRAM}
with lock:
    child = os.fork()
with lock:
    pass
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
""",
        env=environment(None),
    )


@needs_fork
def test_only_what_lives_is_reset() -> None:
    """A child resets an object once for each fork, and none that the parent has dropped."""
    run_python(
        f"""{PROGRAM}
kept, dropped = Counted(), Counted()
reset_in_children(kept)
reset_in_children(kept)
reset_in_children(dropped)
del dropped
assert fork_and_run(lambda: kept.resets == 1) == 0
assert kept.resets == 0
""",
        env=environment(None),
    )
