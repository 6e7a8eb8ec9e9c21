"""The words that the project does without: they hide the subject of a sentence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.docs.pages import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

PLACES: Final = [
    *("mpmetrics", "cli", "docs", "examples", "tests"),
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "RELEASING.md", "SECURITY.md"),
]
ENDINGS: Final = {".conf", ".md", ".py", ".pyi", ".service", ".sh", ".yaml", ".yml"}

# Between letters an underscore separates words, too: names are made of words.
RIDDLES: Final = re.compile(
    r"(?<![a-z])(whoever|somebody|nobody|anew|anybody)(?![a-z])", re.IGNORECASE
)


def texts() -> Iterator[Path]:
    """Yield the text files of the project but this one."""
    for place in PLACES:
        path = ROOT / place
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.suffix in ENDINGS and "_build" not in file.parts and file != Path(__file__):
                yield file


def test_no_sentence_has_a_riddle_for_a_subject() -> None:
    """No text says whoever, somebody, nobody, anybody or anew; a sentence names its subject."""
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in texts()
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1)
        if RIDDLES.search(line)
    ]
    assert not found
