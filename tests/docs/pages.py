"""The pages of the documentation, and the code blocks on them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
README: Final = ROOT / "README.md"
PAGES: Final = [
    README,
    *(page for page in sorted(DOCS.rglob("*.md")) if "_build" not in page.parts),
]

FENCED: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    """Return the name of a *page* as a test id."""
    return str(page.relative_to(ROOT))


def blocks(page: Path, *languages: str) -> list[str]:
    """Return the code blocks of a *page* in one of the *languages*."""
    found = FENCED.findall(page.read_text(encoding="utf-8"))
    return [code for language, code in found if language in languages]
