"""What importing the package does to the process, and what it does not do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import mpmetrics
from tests.workers import environment, run_python

if TYPE_CHECKING:
    from pathlib import Path


def test_importing_does_not_import_prometheus_client() -> None:
    """Importing mpmetrics does not import prometheus_client, which would choose memory or files."""
    program = "import sys, mpmetrics; print('prometheus_client' in sys.modules)"
    assert run_python(program, env=environment(None)) == "False\n"


def test_the_variable_may_be_set_between_import_and_first_use(tmp_path: Path) -> None:
    """A program that imports mpmetrics, then sets the variable, writes its values to files."""
    program = """
import os, sys
import mpmetrics
os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[1]
registration = mpmetrics.register()
from prometheus_client import values
print(registration.mode, values.ValueClass._multiprocess)
"""
    assert run_python(program, str(tmp_path), env=environment(None)) == "shared True\n"


@pytest.mark.parametrize("name", mpmetrics.__all__)
def test_every_public_name_can_be_imported_first(name: str) -> None:
    """Each public name can be the first that a program imports, and `dir` lists it."""
    program = f"import mpmetrics; mpmetrics.{name}; print({name!r} in dir(mpmetrics))"
    assert run_python(program, env=environment(None)) == "True\n"


def test_the_environment_is_left_alone(tmp_path: Path) -> None:
    """Only the drop-in sets a variable, as prometheus_client's collector does."""
    program = """
import os, warnings
before = dict(os.environ)
import mpmetrics
warnings.simplefilter("ignore", DeprecationWarning)
mpmetrics.mark_process_dead(1)
mpmetrics.register().page().render()
print(dict(os.environ) == before)
mpmetrics.MultiProcessCollector(None)
print({name for name in os.environ if name not in before})
"""
    env = environment(None, prometheus_multiproc_dir=str(tmp_path))
    assert run_python(program, env=env) == "True\n{'PROMETHEUS_MULTIPROC_DIR'}\n"
