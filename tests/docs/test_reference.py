"""The built documentation describes every public name, every command and every option."""

from __future__ import annotations

import os
import re
import sys
import zlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import click
import pytest

import mpmetrics
from mpmetrics import engines
from mpmetrics.engines import events
from mpmetrics_cli.__main__ import main
from tests.conftest import FAIL_ON_SKIP
from tests.docs.pages import DOCS
from tests.workers import run_to_end

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_INVENTORY_LINE = re.compile(r"(?P<name>.+?) \S+:\S+ -?\d+ (?P<address>\S*) .*")
_BUILD_PACKAGES = ("sphinx", "furo", "myst_parser", "sphinx_click")

# Sphinx reads everything: on a loaded machine that takes minutes.
_BUILD_SECONDS: Final = 500

_MARK: Final = "MPMETRICS_TEST_OF_THE_ENVIRONMENT"
pytestmark = pytest.mark.timeout(_BUILD_SECONDS + 60)


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the documentation, with warnings as errors; return the folder with its pages."""
    missing = [package for package in _BUILD_PACKAGES if find_spec(package) is None]
    if missing:
        reason = f"needs {', '.join(missing)}: the dependency group `docs` of this project"
        if os.environ.get(FAIL_ON_SKIP):
            pytest.fail(reason)
        pytest.skip(reason)
    output = tmp_path_factory.mktemp("html")
    options = ["--nitpicky", "--fail-on-warning", "--quiet", "-d", str(output / "doctrees")]
    done = run_to_end(
        [sys.executable, "-m", "sphinx", *options, str(DOCS), str(output)],
        capture_output=True,
        text=True,
        timeout=_BUILD_SECONDS,
        env={**os.environ, _MARK: _MARK},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return output


@pytest.fixture(scope="module")
def inventory(html: Path) -> Mapping[str, str]:
    """Return the address of each name that the built documentation describes."""
    return dict(read_inventory(html / "objects.inv"))


def read_inventory(file: Path) -> Iterator[tuple[str, str]]:
    """Yield the entries of an inventory *file* of Sphinx: a name and its address each."""
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
    for name in set(events.__all__) - set(engines.__all__):
        assert inventory[f"mpmetrics.engines.events.{name}"].startswith("reference/api.html#")


def test_no_page_shows_the_environment_of_the_build(html: Path) -> None:
    """A default that is `os.environ` is on the page by this name, and not by its value."""
    pages = [page.read_text(encoding="utf-8") for page in html.rglob("*.html")]
    assert pages
    assert not any(_MARK in page for page in pages)


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
    """Every command and every option has help for the generated page."""
    for name, command in main.commands.items():
        assert command.help, name
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{name} {parameter.name}"
