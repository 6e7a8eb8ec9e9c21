"""Merging is commutative and associative: a merged file can be merged again."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpmetrics.collector import MultiProcessCollector
from mpmetrics.directory.files import GAUGE_MODES
from mpmetrics.scrape.view import collect
from tests.database import Entry, entries_of, write
from tests.strategies import entries_of_kind

if TYPE_CHECKING:
    from collections.abc import Iterable

KINDS = ["counter", "summary", "histogram", *(f"gauge_{mode}" for mode in GAUGE_MODES)]
MERGED_KINDS = [kind for kind in KINDS if not kind.endswith("all")]


def page(files: dict[str, list[Entry]]) -> bytes:
    """Return the page of a directory of *files*."""
    with tempfile.TemporaryDirectory() as directory:
        for name, entries in files.items():
            write(Path(directory, name), entries, size=0)
        return collect(directory).render()


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_the_order_within_files_does_not_matter(kind: str, data: st.DataObject) -> None:
    """A page depends neither on the order of entries nor, if it merges processes, on theirs."""
    files = data.draw(st.lists(entries_of_kind(kind), min_size=2, max_size=4))
    shuffled = [entries[::-1] for entries in files]
    if kind in MERGED_KINDS:
        shuffled.reverse()
    assert page({f"{kind}_{number}.db": each for number, each in enumerate(files)}) == page(
        {f"{kind}_{number}.db": each for number, each in enumerate(shuffled)}
    )


def fold(kind: str, files: Iterable[list[Entry]]) -> list[Entry]:
    """Merge *files* and return the entries of a file that holds the result."""
    files = list(files)
    stamps: dict[frozenset[tuple[str, str]], float] = defaultdict(float)
    for entry in (entry for entries in files for entry in entries):
        labels = frozenset(entry.labels.items())
        stamps[labels] = max(stamps[labels], entry.timestamp)
    with tempfile.TemporaryDirectory() as directory:
        paths = [
            write(Path(directory, f"{kind}_{number}.db"), entries, size=0)
            for number, entries in enumerate(files)
        ]
        families = MultiProcessCollector.merge(paths, accumulate=False)
    return [
        entry._replace(timestamp=stamps[frozenset(entry.labels.items())])
        for family in families
        for entry in entries_of(family)
    ]


@pytest.mark.parametrize("kind", MERGED_KINDS)
@given(data=st.data())
def test_merging_in_two_steps_equals_merging_at_once(kind: str, data: st.DataObject) -> None:
    """A page of a folded file and the rest equals that of all files, whichever were folded."""
    files = data.draw(st.lists(entries_of_kind(kind), min_size=2, max_size=5))
    cut = data.draw(st.integers(1, len(files)))
    at_once = page({f"{kind}_{number}.db": each for number, each in enumerate(files)})
    archive = {f"{kind}_archive.db": fold(kind, files[:cut])}
    live = {f"{kind}_{number}.db": each for number, each in enumerate(files[cut:])}
    assert page(archive | live) == at_once
