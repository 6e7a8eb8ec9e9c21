"""What all tests share."""

from __future__ import annotations

import os
import shutil
import signal
import sysconfig
from importlib.util import find_spec
from typing import Protocol

import pytest
from hypothesis import settings

from mpmetrics._log_limit import LIMIT

FAIL_ON_SKIP = "MPMETRICS_FAIL_ON_SKIP"
"""Set to anything: a test that lacks something a package would bring fails instead of skipping."""

# A loaded machine is slow, not wrong. What hangs is caught by the timeout of each test.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


# A shell has programs in the background ignore these, and their children do it, too.
for _name in ("SIGINT", "SIGQUIT", "SIGHUP"):
    _number = getattr(signal, _name, None)
    if _number is not None and signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _name == "SIGINT" else signal.SIG_DFL)


class NeedsProgram(Protocol):
    """Look for a program, and do without the test where there is none."""

    def __call__(self, name: str, *, package: str) -> str:
        """Return the path of the program *name*, which the Debian *package* brings."""


def find_program(name: str, *, package: str) -> str:
    """Return the path of the program *name*; skip, or fail if so told, when it is missing."""
    # The scripts of this environment come first, whether or not it is activated.
    places = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
    found = shutil.which(name, path=places)
    if found is None:
        reason = f"needs the program {name} (Debian package {package})"
        if os.environ.get(FAIL_ON_SKIP):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def require_package(name: str, *, extra: str) -> None:
    """Skip, or fail if so told, when the package *name* of an *extra* cannot be imported."""
    if find_spec(name) is None:
        reason = f"needs the package {name} (extra {extra})"
        if os.environ.get(FAIL_ON_SKIP):
            pytest.fail(reason)
        pytest.skip(reason, allow_module_level=True)


@pytest.fixture(autouse=True)
def fresh_log_limit() -> None:
    """Forget the log lines of other tests: many tests in one process log the same."""
    LIMIT.reset()


@pytest.fixture(scope="session")
def needs_program() -> NeedsProgram:
    """Return the function that a test calls for the path of a program it cannot do without."""
    return find_program
