"""README and documentation are true: programs run, commands parse, links lead to files."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

import pytest

from mpmetrics_cli.__main__ import main
from tests.docs.pages import DOCS, FENCED, PAGES, README, blocks, name_of
from tests.workers import environment, run_python

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_COLUMNS: Final = 80

_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the arguments of each call of `mpmetrics` in the shell blocks of a *page*."""
    for block in blocks(page, "sh", "console"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words[:1] == ["mpmetrics"]:
                yield words[1:]


def test_the_readme_program_prints_what_the_readme_says(tmp_path: Path) -> None:
    """The program of the README prints the output that the README shows."""
    program = next(block for block in blocks(README, "python") if "__main__" in block)
    shown = next(block for block in blocks(README, "console") if "jobs.py" in block)
    directory = tmp_path / "metrics"
    directory.mkdir()
    file = tmp_path / "jobs.py"
    file.write_text(program, encoding="utf-8")
    output = run_python(file, env=environment(directory))
    assert output == shown.partition("\n")[2]


def test_the_program_of_the_connectors_prints_what_the_page_says() -> None:
    """The two programs of the page of the connectors print the output that it shows."""
    page = DOCS / "engines" / "connectors.md"
    program, more, *_ = blocks(page, "python")
    (shown,) = blocks(page, "console")
    output = run_python(f"{program}\n{more}", env=environment(None))
    assert output == shown.partition("\n")[2]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_blocks_are_python(page: Path) -> None:
    """Every Python block of a page compiles."""
    for block in blocks(page, "python"):
        compile(block, name_of(page), "exec")


def test_the_page_of_the_tutorial_is_added_to_its_first_program() -> None:
    """The second version of the tutorial's server has every line of the first one."""
    first, second = blocks(DOCS / "tutorial.md", "python")
    assert not set(first.splitlines()) - set(second.splitlines())


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_that_are_shown_can_be_called(page: Path) -> None:
    """Every call of `mpmetrics` in a shell block has a command and options that exist."""
    for name, *arguments in commands(page):
        main.commands[name].make_context(name, arguments)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_shell_lines_fit_a_terminal(page: Path) -> None:
    """Lines that a reader types have at most 80 characters; output may be wider."""
    typed = [
        line
        for language, block in FENCED.findall(page.read_text(encoding="utf-8"))
        for line in block.splitlines()
        if language == "sh" or (language == "console" and line.startswith(("$ ", "> ")))
    ]
    assert [line for line in typed if len(line) > _COLUMNS] == []


def test_lines_of_example_scripts_fit_a_terminal() -> None:
    """The lines of the shell scripts in `examples` have at most 80 characters."""
    lines = [
        line
        for script in (DOCS.parent / "examples").rglob("*.sh")
        for line in script.read_text(encoding="utf-8").splitlines()
    ]
    assert lines
    assert [line for line in lines if len(line) > _COLUMNS] == []


def test_commands_are_found() -> None:
    """The calls of `mpmetrics` in shell blocks are found."""
    assert ["dump", "--format", "table"] in list(commands(DOCS / "tutorial.md"))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    """Every relative link of a page names a file."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    assert [link for link in _LINK.findall(text) if not (page.parent / link).exists()] == []


def test_no_hint_installs_from_an_index() -> None:
    """No page, example or module tells the reader to install the distribution from an index."""
    places = [
        *PAGES,
        *(DOCS.parent / "examples").rglob("*.*"),
        *DOCS.parent.glob("mpmetrics/**/*.py"),
    ]
    hints = [
        place.name
        for place in places
        if re.search(r"pip install[^`\n]*mpmetrics-toolkit", place.read_text(encoding="utf-8"))
    ]
    assert hints == []
