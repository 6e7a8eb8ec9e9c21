"""The wheel is what users get: its contents, and its behaviour in an environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from filelock import FileLock

from tests.workers import run_to_end

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
NAMED_WHEEL = "MPMETRICS_WHEEL"
"""The variable that names a wheel to be tested; without it the tests build one."""

pytestmark = pytest.mark.packaging


class Installation(NamedTuple):
    """A virtual environment with the wheel, its dependencies and nothing else."""

    home: Path

    @property
    def python(self) -> Path:
        """The interpreter."""
        return self._scripts / "python"

    @property
    def command(self) -> Path:
        """The command that the wheel brings."""
        return self._scripts / "mpmetrics"

    @property
    def _scripts(self) -> Path:
        return self.home / ("Scripts" if os.name == "nt" else "bin")

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a program away from the source tree, without what the environment may point to."""
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return run_to_end(
            arguments,
            capture_output=True,
            cwd=self.home,
            encoding="utf-8",
            env=clean,
            timeout=None,  # pip and builds are slow
        )


def succeed(*arguments: str | Path) -> None:
    """Run a program and show what it said if it fails."""
    done = run_to_end(
        arguments,
        encoding="utf-8",
        stderr=subprocess.STDOUT,
        stdout=subprocess.PIPE,
        timeout=None,
    )
    assert done.returncode == 0, done.stdout


class Workshop(NamedTuple):
    """A folder that all xdist workers of a test run have in common, for what costs seconds."""

    folder: Path

    def once(self, name: str, make: Callable[[Path], None]) -> Path:
        """Return the path *name*, which *make* has made: in this worker or in another one."""
        target = self.folder / name
        with FileLock(f"{target}.lock"):
            done = Path(f"{target}.done")
            if not done.exists():
                make(target)
                done.touch()
        return target


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Return the folder that is shared within this test run."""
    base = tmp_path_factory.getbasetemp()
    return Workshop(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)


@pytest.fixture(scope="session")
def wheel(workshop: Workshop) -> Path:
    """Return the wheel under test: the one that was named, or a new one."""
    if named := os.environ.get(NAMED_WHEEL):
        return Path(named).resolve()
    (built,) = workshop.once("dist", build).glob("*.whl")
    return built


@pytest.fixture(scope="session")
def installation(wheel: Path, workshop: Workshop) -> Installation:
    """Return a clean virtual environment that the wheel was installed into."""
    return Installation(workshop.once("clean", partial(install, wheel)))


def build(target: Path) -> None:
    """Build the wheel into *target*, from a copy because setuptools writes beside its source."""
    source = target.with_name("source")
    for name in ("mpmetrics", "cli", "tests", "examples", "docs"):
        shutil.copytree(
            ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "_build")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = (sys.executable, "-m", "build", "--wheel", "--no-isolation")
    succeed(*command, "--outdir", target, source)


def install(wheel: Path, target: Path) -> None:
    """Make the virtual environment *target* with the *wheel* in it."""
    venv.create(target, with_pip=True)
    succeed(Installation(target).python, "-m", "pip", "install", "--quiet", wheel)


def top_level(wheel: Path) -> set[str]:
    """Return the first part of every path in the *wheel*."""
    with zipfile.ZipFile(wheel) as archive:
        return {name.split("/")[0] for name in archive.namelist()}


def test_only_the_two_packages_reach_site_packages(wheel: Path) -> None:
    """Neither `cli` nor `tests` nor anything else may become a top-level name of the user's."""
    name, version = wheel.name.split("-")[:2]

    assert top_level(wheel) == {"mpmetrics", "mpmetrics_cli", f"{name}-{version}.dist-info"}


def test_every_module_is_in_the_wheel(wheel: Path) -> None:
    """What is in the tree is in the wheel, and nothing that is not."""
    packages = {ROOT: "mpmetrics", ROOT / "cli": "mpmetrics_cli"}
    tree = {
        path.relative_to(root).as_posix()
        for root, package in packages.items()
        for path in (root / package).rglob("*.py")
    }

    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.endswith(".py")}

    assert packed == tree


def test_the_types_are_in_the_wheel(wheel: Path) -> None:
    """Without `py.typed` a type checker ignores the annotations."""
    with zipfile.ZipFile(wheel) as archive:
        assert "mpmetrics/py.typed" in archive.namelist()


def test_the_command_says_its_version(installation: Installation, wheel: Path) -> None:
    """The console script works, and says the version that was installed."""
    done = installation.run(installation.command, "--version")

    assert (done.returncode, done.stderr) == (0, "")
    assert wheel.name.split("-")[1] in done.stdout


def test_the_module_says_the_same_as_the_command(installation: Installation) -> None:
    """`python -m mpmetrics_cli` is the command, for users who have no scripts on the path."""
    by_script = installation.run(installation.command, "--version")
    by_module = installation.run(installation.python, "-m", "mpmetrics_cli", "--version")

    assert (by_module.returncode, by_module.stderr) == (0, "")
    assert by_module.stdout == by_script.stdout


def test_every_public_name_can_be_imported(installation: Installation) -> None:
    """The declared dependencies are enough for every name in `mpmetrics.__all__`."""
    done = installation.run(installation.python, "-c", "from mpmetrics import *")

    assert (done.returncode, done.stderr) == (0, "")


def test_there_is_no_package_called_cli(installation: Installation) -> None:
    """`cli/` is a folder of the source tree and nothing more."""
    done = installation.run(installation.python, "-c", "import cli")

    assert done.returncode == 1
    assert "No module named 'cli'" in done.stderr
