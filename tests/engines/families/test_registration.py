"""Registration of the tables' families: once for each registry, whatever else goes on."""

from __future__ import annotations

import os
import signal

import pytest
from prometheus_client import CollectorRegistry

from mpmetrics.engines.families import COMPONENT_FAMILIES, register_families
from tests.workers import PATIENCE, environment, run_python

FORK = f"""
import os, signal, threading, warnings
from prometheus_client import CollectorRegistry
from mpmetrics.engines.families import Family, register_families

warnings.simplefilter("ignore", DeprecationWarning)  # new versions warn of forks beside threads
families = [Family("one", "counter", (), "One")]
held, go_on = threading.Event(), threading.Event()

class SlowRegistry(CollectorRegistry):
    def register(self, collector):
        held.set()
        go_on.wait()
        super().register(collector)

thread = threading.Thread(target=register_families, args=(families, SlowRegistry()))
thread.start()
held.wait()
child = os.fork()
if child == 0:
    signal.alarm({PATIENCE:.0f})
    register_families(families, CollectorRegistry())
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
go_on.set()
thread.join()
"""


@pytest.mark.skipif(not hasattr(signal, "alarm") or not hasattr(os, "fork"), reason="needs fork")
def test_a_child_registers_while_the_parent_does() -> None:
    """A child that is forked while another thread registers families can register its own."""
    assert run_python(FORK, env=environment(None)) == "0\n"


def test_a_family_is_one_metric_in_whatever_mode() -> None:
    """A family is made once for a registry, with the mode that was asked for first."""
    registry = CollectorRegistry()
    first = register_families(COMPONENT_FAMILIES, registry)
    others = [family._replace(mode="mostrecent") for family in COMPONENT_FAMILIES]
    assert register_families(others, registry) == first
    assert {metric._multiprocess_mode for metric in first.values()} == {"max"}
