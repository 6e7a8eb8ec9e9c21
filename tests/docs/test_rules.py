"""The rules that the project states for itself, as far as a program can check them."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

import mpmetrics
import mpmetrics_cli
from tests.workers import run_to_end

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = [Path(package.__path__[0]) for package in (mpmetrics, mpmetrics_cli)]
_MOST_SUPPRESSIONS: Final = 3.0
"""Suppressed rules in a thousand lines of the packages."""

_NOQA: Final = re.compile(r"#\s*noqa(?P<codes>:\s*[A-Z]+[0-9]+(?:,\s*[A-Z]+[0-9]+)*)?(?P<rest>.*)")


def modules(*folders: Path) -> Iterator[Path]:
    """Yield the Python files below *folders*."""
    for folder in folders:
        yield from sorted(folder.rglob("*.py"))


def suppressions(*folders: Path) -> list[tuple[str, re.Match[str]]]:
    """Return where a rule of the linter is suppressed, and the comment that does it."""
    return [
        (f"{path.name}:{number}", found)
        for path in modules(*folders)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if (found := _NOQA.search(line)) and "_NOQA" not in line
    ]


def test_changelog_and_reference_agree_about_what_is_public() -> None:
    """Both name the same three packages, whose `__all__` is public."""
    packages = {"mpmetrics", "mpmetrics.engines", "mpmetrics.engines.events"}
    statements = {
        "CHANGELOG.md": r"Public is what is in `__all__` of (.*?), what",
        "docs/reference/api.md": r"Everything public is in `__all__` of (.*?)\. ",
    }
    for page, pattern in statements.items():
        text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
        statement = re.search(pattern, text)
        assert statement, page
        assert set(re.findall(r"`([\w.]+)`", statement[1])) == packages, page


def test_every_suppressed_rule_has_its_reason() -> None:
    """A `noqa` names its rule and gives the reason on the same line."""
    folders = [*PACKAGES, ROOT / "tests", ROOT / "examples", ROOT / "docs"]
    without = [
        place
        for place, found in suppressions(*folders)
        if not found["codes"] or not re.match(r"\s+-\s+\w", found["rest"])
    ]
    assert not without


def test_few_rules_are_suppressed() -> None:
    """There are fewer than three suppressions in a thousand lines of the packages."""
    lines = sum(len(path.read_bytes().splitlines()) for path in modules(*PACKAGES))
    assert len(suppressions(*PACKAGES)) * 1000 < _MOST_SUPPRESSIONS * lines


def test_no_test_sleeps_without_a_reason() -> None:
    """A call of `time.sleep` in a test says in a comment why there is nothing to wait for."""
    without = [
        f"{path.name}:{node.lineno}"
        for path in modules(ROOT / "tests")
        for lines in [path.read_text(encoding="utf-8").splitlines()]
        for node in ast.walk(ast.parse("\n".join(lines)))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "time.sleep"
        and "#" not in lines[node.lineno - 1]
    ]
    assert not without


def test_the_walk_through_the_rooms_names_modules_that_exist() -> None:
    """Every path in "Where a line of the page comes from" is one of a module or a package."""
    text = (ROOT / "docs/explanation/rooms.md").read_text(encoding="utf-8")
    package = PACKAGES[0]
    # Within a list, a bare name stands in the folder of the last path.
    folder = package
    for path in re.findall(r"`([\w/]+(?:\.py|/))`", text):
        folder = (package / path).parent if "/" in path.rstrip("/") else folder
        assert (package / path).exists() or (folder / path).exists(), path


def test_every_room_is_in_the_walk_through_the_rooms() -> None:
    """The table of rooms has each package of the library."""
    text = (ROOT / "docs/explanation/rooms.md").read_text(encoding="utf-8")
    rooms = {path.parent.name for path in PACKAGES[0].glob("*/__init__.py")}
    assert {room for room in rooms if f"`{room}/`" not in text} == set()


def test_the_workflows_test_every_supported_python() -> None:
    """The matrix of the CI has every version that the classifiers name, and the next one."""
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    workflow = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    supported = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', pyproject)
    matrix = re.search(r"python: \[(.*)\]", workflow)
    assert matrix
    tested = re.findall(r'"([\d.]+)"', matrix[1])
    assert set(supported) <= set(tested)


def test_every_action_is_pinned_to_a_commit() -> None:
    """A workflow uses actions by the hash of a commit, which no tag can move."""
    for path in (ROOT / ".github/workflows").glob("*.yml"):
        for action in re.findall(r"uses: (\S+)", path.read_text(encoding="utf-8")):
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action), f"{path.name}: {action}"


@pytest.mark.parametrize(
    ("tag", "version", "sections", "status"),
    [
        pytest.param("v1.2.3", "1.2.3", "## [1.2.3] - 2026-01-31\n", 0, id="all agree"),
        pytest.param("1.2.3", "1.2.3", "## [1.2.3] - 2026-01-31\n", 1, id="a tag without v"),
        pytest.param("v1.2.4", "1.2.3", "## [1.2.4] - 2026-01-31\n", 1, id="another version"),
        pytest.param("v1.2.3", "1.2.3", "## [1.2.3]\n", 1, id="a section without a date"),
        pytest.param("v1.2.3", "1.2.3", "- an entry\n", 1, id="entries that are unreleased"),
    ],
)
def test_a_release_is_checked(
    tmp_path: Path, tag: str, version: str, sections: str, status: int
) -> None:
    """A release needs a tag, a version and a changelog that agree."""
    script = tmp_path / ".ci" / "check_release.py"
    script.parent.mkdir()
    script.write_bytes((ROOT / ".ci/check_release.py").read_bytes())
    (tmp_path / "pyproject.toml").write_text(f'version = "{version}"\n', encoding="utf-8")
    changelog = f"## [Unreleased]\n\n{sections}"
    (tmp_path / "CHANGELOG.md").write_text(changelog, encoding="utf-8")
    done = run_to_end([sys.executable, script, tag], capture_output=True, text=True)
    assert (done.returncode, bool(done.stderr)) == (status, status != 0)
