"""Former spellings of options: they mean the same as today's, and the help does not show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mpmetrics_cli.__main__ import main
from tests.cli.directories import fill
from tests.cli.processes import invoke
from tests.database import counter

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("command", "former", "today", "value", "others"),
    [
        ("dump", "--prefix", "--include", "shop_", ["."]),
        ("compact", "--dead-gauges", "--gauge-fate", "x=kept", []),
        ("run", "--dead-gauges", "--gauge-fate", "x=kept", ["true"]),
        ("events", "--source", "--publisher", "tcp://127.0.0.1:1", []),
        ("events", "--endpoint", "--dynamo-endpoint", "a.b.c", ["--publisher", "ipc://x"]),
    ],
)
def test_a_former_name_is_the_same_option(
    command: str, former: str, today: str, value: str, others: list[str]
) -> None:
    """A former name sets the parameter that today's name sets; the help shows today's only."""

    def parse(option: str) -> dict[str, object]:
        return main.commands[command].make_context(command, [option, value, *others]).params

    assert parse(former) == parse(today)
    words = invoke(command, "--help").stdout.split()
    assert (former in words, today in words) == (False, True)


@pytest.mark.parametrize("command", ["compact", "doctor"])
def test_the_format_text_is_a_report(tmp_path: Path, command: str) -> None:
    """`--format text` writes what `--format report` writes, and is not shown."""
    fill(tmp_path, {"counter_7.db": counter("jobs", 3)})
    options = ["--dry-run"] if command == "compact" else []
    former = invoke(command, tmp_path, *options, "--format", "text")
    assert former == invoke(command, tmp_path, *options, "--format", "report")
    assert "[report|json]" in invoke(command, "--help").stdout
