"""What a page reports about its own making, from answers that are made by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mpmetrics.directory import Listing, list_directory
from mpmetrics.errors import Problem
from mpmetrics.pages.self_metrics import SelfMetrics, problems_family, source_up_family
from mpmetrics.pages.source import Gathered
from mpmetrics.pages.text_source import TextSource
from mpmetrics.pages.timed_source import Answer, is_up
from mpmetrics.scrape import Collection
from mpmetrics.scrape.scraper import Scraper
from tests.database import counter, write

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from prometheus_client import Metric

    from mpmetrics.pages.source import Source


def source(name: str) -> Source:
    """Return a source that is never called."""
    return TextSource(str, name)


def values(families: Iterable[Metric]) -> dict[str, float]:
    """Return all samples by name and label values."""
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in families
        for sample in family.samples
    }


FAILED = Gathered((), [Problem("a", "source_failed", "no")])
LATE = Gathered((), [Problem("a", "source_late", "no")])
DAMAGED = Gathered((), [Problem("counter_1.db", "damaged", "cut")])


@pytest.mark.parametrize(
    ("gathered", "expected"),
    [(Gathered(()), True), (DAMAGED, True), (FAILED, False), (LATE, False)],
    ids=["no problem", "a damaged file", "failed", "late"],
)
def test_a_source_is_up_unless_it_failed_or_was_late(gathered: Gathered, *, expected: bool) -> None:
    """A problem with one file of a directory does not take the whole source down."""
    assert is_up(gathered) is expected
    assert values([source_up_family([(source("a"), Answer(gathered))])]) == {
        "mpmetrics_source_up a": float(expected)
    }


def test_of_sources_with_one_name_the_worst_is_shown() -> None:
    """Two sources of one name are up if both are, and have the age of the older answer."""
    gathered = [
        (source("a"), Answer(FAILED, 3.0)),
        (source("a"), Answer(Gathered(()), 1.0)),
        (source("b"), Answer(Gathered(()), 0.0)),
        (source("c"), Answer(Gathered(()))),
    ]
    assert values(SelfMetrics(gathered, 2, {"source_failed": 4}).families(0.5)) == {
        "mpmetrics_source_up a": 0.0,
        "mpmetrics_source_up b": 1.0,
        "mpmetrics_source_up c": 1.0,
        "mpmetrics_source_age_seconds a": 3.0,
        "mpmetrics_source_age_seconds b": 0.0,
        "mpmetrics_scrape_duration_seconds": 0.5,
        "mpmetrics_families_shadowed": 2.0,
        "mpmetrics_problems_total source_failed": 4.0,
    }


def test_families_without_samples_are_left_out() -> None:
    """A page without sources, directories and problems reports its duration and shadowing only."""
    assert values(SelfMetrics([], 0, {}).families(0.0)) == {
        "mpmetrics_scrape_duration_seconds": 0.0,
        "mpmetrics_families_shadowed": 0.0,
    }
    assert problems_family({}).samples == []


def test_directories_are_added_up(tmp_path: Path) -> None:
    """Files, processes and bytes are those of all directories of the page together."""
    gathered: list[tuple[Source, Answer]] = []
    size = 0
    for number in (1, 2):
        directory = tmp_path / str(number)
        directory.mkdir()
        path = write(directory / "counter_7.db", [counter("c", 1)])
        size += path.stat().st_blocks * 512
        collection = collection_of(directory, ["damaged", "as well"][:number])
        answer = Answer(Gathered((), (), collection, {"alive": number}))
        gathered.append((source(str(directory)), answer))
    families = SelfMetrics(gathered, 0, {}).families(0.0)
    assert {key: value for key, value in values(families).items() if str(tmp_path) not in key} == {
        "mpmetrics_files counter": 2.0,
        "mpmetrics_files quarantined": 3.0,
        "mpmetrics_processes alive": 3.0,
        "mpmetrics_directory_bytes": float(size),
        "mpmetrics_scrape_duration_seconds": 0.0,
        "mpmetrics_families_shadowed": 0.0,
    }


def test_a_file_that_is_gone_takes_no_space(tmp_path: Path) -> None:
    """A file that was removed since it was read counts as a file with 0 bytes."""
    path = write(tmp_path / "counter_7.db", [counter("c", 1)])
    answer = Answer(Gathered((), (), collection_of(tmp_path, [])))
    path.unlink()
    reported: dict[str, Any] = values(SelfMetrics([(source("a"), answer)], 0, {}).families(0.0))
    assert reported["mpmetrics_directory_bytes"] == 0.0
    assert reported["mpmetrics_files counter"] == 1.0


def collection_of(directory: Path, quarantined: list[str]) -> Collection:
    """Return a collection of the directory, with these *quarantined* files."""
    listing = list_directory(str(directory))
    scrape = Scraper().scrape(listing)
    return Collection(str(directory), scrape, Listing(listing.files, [], quarantined))
