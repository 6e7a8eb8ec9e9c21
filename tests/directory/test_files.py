"""File names and listings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mpmetrics.directory.files import MOST_STRANGERS, FileName, list_directory
from tests.database import write

NAMES = {
    "counter_1.db": FileName("counter", "", "1"),
    "summary_1.db": FileName("summary", "", "1"),
    "histogram_worker_2.db": FileName("histogram", "", "worker_2"),
    "gauge_all_1.db": FileName("gauge", "all", "1"),
    "gauge_livemostrecent_rust-17.db": FileName("gauge", "livemostrecent", "rust-17"),
    "counter_a.db.db": FileName("counter", "", "a.db"),
    "counter__.db": FileName("counter", "", "_"),
}


@pytest.mark.parametrize("text", NAMES)
def test_a_name_says_type_mode_and_id(text: str) -> None:
    """A name has a type, a mode and the rest as its id; formatting them gives the name again."""
    name = FileName.parse(text)
    assert name == NAMES[text]
    assert name is not None
    assert name.format() == text


@pytest.mark.parametrize(
    "text",
    [
        *("backup.db", "counter_.db", "counter.db", "gauge_1.db", "gauge_most_1.db"),
        *(
            "gauge_all.db",
            "info_1.db",
            "counter_1.db-journal",
            "counter_1.db.bak",
            "MANIFEST",
            "Counter_1.db",
        ),
    ],
)
def test_other_names_are_not_parsed(text: str) -> None:
    """A name that no writer uses has no parts."""
    assert FileName.parse(text) is None


def test_only_live_modes_are_live() -> None:
    """A file is live only if its mode begins with "live"."""
    live = {text for text, name in NAMES.items() if name.is_live}
    assert live == {"gauge_livemostrecent_rust-17.db"}


def test_a_listing_is_sorted_and_reports_strangers(tmp_path: Path) -> None:
    """A listing has workers' files and strangers apart, each in the order of their names."""
    for name in ("counter_2.db", "counter_10.db", "gauge_all_1.db", "backup.db"):
        write(tmp_path / name, [])
    (tmp_path / "x.db").mkdir()
    (tmp_path / "counter_3.db").mkdir()
    os.mkfifo(tmp_path / "counter_4.db")
    (tmp_path / "counter_5.db").symlink_to(tmp_path / "counter_2.db")
    (tmp_path / "counter_6.db").symlink_to(tmp_path / "nowhere")
    listing = list_directory(str(tmp_path))
    assert [Path(file.path).name for file in listing.files] == [
        *("counter_10.db", "counter_2.db", "counter_5.db", "gauge_all_1.db"),
    ]
    assert [(Path(path).name, reason) for path, reason, _ in listing.problems] == [
        *(("backup.db", "stranger"), ("counter_3.db", "stranger"), ("counter_4.db", "stranger")),
        *(("counter_6.db", "stranger"), ("x.db", "stranger")),
    ]


def test_very_many_strangers_are_counted(tmp_path: Path) -> None:
    """Of very many strangers only the first have a problem each, and the rest have one."""
    for number in range(MOST_STRANGERS + 7):
        (tmp_path / f"{number:05}.txt").touch()
    (tmp_path / "counter_1.db").touch()
    listing = list_directory(str(tmp_path))
    assert len(listing.files) == 1
    assert len(listing.problems) == MOST_STRANGERS + 1
    assert listing.problems[-1].path == str(tmp_path)
    assert listing.problems[-1].detail == "7 more entries are no metrics files"
