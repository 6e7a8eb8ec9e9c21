"""Check that a tag, the version of the package and the changelog agree.

    python .ci/check_release.py v0.2.0

Exits with status 1 and one line for each disagreement.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def disagreements(tag: str, pyproject: str, changelog: str) -> list[str]:
    """Return a line for each thing that keeps *tag* from being released."""
    declared = re.search(r'^version = "(.+)"$', pyproject, re.MULTILINE)
    version = declared[1] if declared else "(none)"
    lines = []
    if tag != f"v{version}":
        lines.append(f"the tag is {tag}, but pyproject.toml has version {version}")
    if not re.search(
        rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE
    ):
        lines.append(f"CHANGELOG.md has no section '## [{version}] - YYYY-MM-DD'")
    unreleased = re.search(
        r"^## \[Unreleased\]\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL
    )
    if unreleased is None:
        lines.append("CHANGELOG.md has no section '## [Unreleased]'")
    elif unreleased[1].strip():
        lines.append("CHANGELOG.md has entries under Unreleased: move them to the version")
    return lines


def main(arguments: list[str]) -> int:
    """Check the tag that the *arguments* name; return the exit status."""
    if len(arguments) != 1:
        print("usage: check_release.py TAG", file=sys.stderr)
        return 2
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    lines = disagreements(arguments[0], pyproject, changelog)
    for line in lines:
        print(line, file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
