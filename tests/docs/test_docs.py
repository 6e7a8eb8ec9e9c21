"""What README and documentation say is so: programs run, commands parse, nothing is left out."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import pytest

import mpmetrics
from mpmetrics import engines
from mpmetrics.supervisor import launch
from mpmetrics_cli.__main__ import main
from tests.conftest import FAIL_ON_SKIP
from tests.workers import PATIENCE, environment, run_python
from tests.wrapped import Wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
README: Final = ROOT / "README.md"
PAGES: Final = [
    README,
    *(page for page in sorted(DOCS.rglob("*.md")) if "_build" not in page.parts),
]

_FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
_INVENTORY_LINE = re.compile(r"(?P<name>.+?) \S+:\S+ -?\d+ (?P<address>\S*) .*")
_BUILD_PACKAGES = ("sphinx", "furo", "myst_parser", "sphinx_click")


def name_of(page: Path) -> str:
    """Return the name of a *page* as a test id."""
    return str(page.relative_to(ROOT))


def blocks(page: Path, *languages: str) -> list[str]:
    """Return the code blocks of a *page* in one of the *languages*."""
    found = _FENCED.findall(page.read_text(encoding="utf-8"))
    return [code for language, code in found if language in languages]


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the arguments of each call of `mpmetrics` in the shell blocks of a *page*."""
    for block in blocks(page, "sh", "console"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words[:1] == ["mpmetrics"]:
                yield words[1:]


def test_the_readme_program_prints_what_the_readme_says(tmp_path: Path) -> None:
    """The program of the README runs, and its output is the one that is shown."""
    program = next(block for block in blocks(README, "python") if "__main__" in block)
    shown = next(block for block in blocks(README, "console") if "jobs.py" in block)
    directory = tmp_path / "metrics"
    directory.mkdir()
    file = tmp_path / "jobs.py"
    file.write_text(program, encoding="utf-8")
    output = run_python(file, env=environment(directory))
    assert output == shown.partition("\n")[2]


def test_the_program_of_the_connectors_prints_what_the_page_says() -> None:
    """The first program of the page runs, and so does the second, which goes on from it."""
    page = DOCS / "engines" / "connectors.md"
    program, more, *_ = blocks(page, "python")
    (shown,) = blocks(page, "console")
    output = run_python(f"{program}\n{more}", env=environment(None))
    assert output == shown.partition("\n")[2]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_blocks_are_python(page: Path) -> None:
    """Every block that says it is Python can be compiled."""
    for block in blocks(page, "python"):
        compile(block, name_of(page), "exec")


def test_the_page_of_the_tutorial_is_added_to_its_first_program() -> None:
    """The second version of the tutorial's server has every line of the first one."""
    first, second = blocks(DOCS / "tutorial.md", "python")
    assert not set(first.splitlines()) - set(second.splitlines())


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_that_are_shown_can_be_called(page: Path) -> None:
    """Every call of `mpmetrics` in a shell block has a command and options that there are."""
    for name, *arguments in commands(page):
        main.commands[name].make_context(name, arguments)


def test_commands_are_found() -> None:
    """The test above has something to look at."""
    assert ["dump", "--format", "table"] in list(commands(DOCS / "tutorial.md"))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    """Every relative link names a file."""
    text = _FENCED.sub("", page.read_text(encoding="utf-8"))
    assert [link for link in _LINK.findall(text) if not (page.parent / link).exists()] == []


def test_every_self_metric_is_listed(tmp_path: Path) -> None:
    """The page of self-metrics lists those that a page has, and no others."""
    (tmp_path / "backup.db").touch()
    (tmp_path / "counter_1.db").touch()
    listed, *_ = self_metrics()
    page = mpmetrics.Page(tmp_path).render().decode()
    assert listed == set(re.findall(r"^# TYPE (mpmetrics_\w+)", page, re.MULTILINE))


@pytest.mark.skipif(not launch.IS_SUPPORTED, reason="run needs Linux")
def test_every_metric_of_a_wrapped_server_is_listed() -> None:
    """Likewise, with a server that does not ask how its worker has ended, so that we can."""
    program = "import os, signal, time\nif os.fork(): signal.pause()\ntime.sleep(1)\nos._exit(3)"
    with Wrapped(sys.executable, "-c", program) as wrapped:
        page = wrapped.until(lambda page: "mpmetrics_worker_last_exit_status" in page)
        assert page["mpmetrics_worker_last_exit_status"] == 3
        wrapped.end(signal.SIGTERM)
    everywhere, serving, wrapping, *_ = self_metrics()
    names = {series.partition(" ")[0] for series in page}
    assert serving | wrapping == names - everywhere


def self_metrics() -> list[set[str]]:
    """Return the metrics in the first column of each section of the page about them."""
    text = (DOCS / "reference" / "self-metrics.md").read_text(encoding="utf-8")
    sections = [
        re.findall(r"^\| (`\w+`.*?) \|", part, re.MULTILINE) for part in text.split("\n## ")
    ]
    return [set(re.findall(r"`(\w+)`", " ".join(cells))) for cells in sections]


# -- the built documentation ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Build the documentation, with warnings as errors, and return where what is described."""
    missing = [package for package in _BUILD_PACKAGES if find_spec(package) is None]
    if missing:
        reason = f"needs {', '.join(missing)}: the extra `docs` of this project"
        if os.environ.get(FAIL_ON_SKIP):
            pytest.fail(reason)
        pytest.skip(reason)
    output = tmp_path_factory.mktemp("html")
    options = ["--nitpicky", "--fail-on-warning", "--quiet", "-d", str(output / "doctrees")]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(DOCS), str(output)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return dict(described(output / "objects.inv"))


def described(file: Path) -> Iterator[tuple[str, str]]:
    """Yield what an inventory *file* of Sphinx lists: the name of each thing, and its address."""
    *_header, packed = file.read_bytes().split(b"\n", 4)
    for line in zlib.decompress(packed).decode().splitlines():
        match = _INVENTORY_LINE.fullmatch(line)
        assert match, line
        yield match["name"], match["address"]


def test_every_public_name_is_documented(inventory: Mapping[str, str]) -> None:
    """The page of the library describes every public name, and lists the presets."""
    for name in mpmetrics.__all__:
        assert inventory[f"mpmetrics.{name}"].startswith("reference/api.html#")
    page = (DOCS / "reference" / "api.md").read_text(encoding="utf-8")
    for name in engines.__all__:
        described = inventory.get(f"mpmetrics.engines.{name}", "")
        assert described.startswith("reference/api.html#") or f"`{name}`" in page, name


def test_every_command_and_option_is_documented(inventory: Mapping[str, str]) -> None:
    """The page of the commands describes every command and each of its options."""
    options = {
        f"mpmetrics-{name}.{option}"
        for name, command in main.commands.items()
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
    }
    assert options
    assert not options - inventory.keys()


def test_every_command_and_option_has_help() -> None:
    """Commands and options say what they are for, so that the generated page has something."""
    for name, command in main.commands.items():
        assert command.help, name
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{name} {parameter.name}"
