"""Findings, and the remedy for each reason of a problem."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


Level = Literal["error", "warning", "note", "ok"]
"""How bad a finding is, the worst first.

error: metrics are lost; warning: metrics may get lost, or mislead; note: worth knowing; ok: nothing
is wrong.
"""


class Finding(NamedTuple):
    """A finding of one *check*: how bad it is (*level*), *what* it is, and *advice*."""

    level: Level
    check: str
    what: str
    advice: str


class Remedy(NamedTuple):
    """How to present the problems of one reason: "3 *noun*s *what*", and *advice*."""

    level: Level
    noun: str
    what: str
    advice: str


REMEDIES: Final[Mapping[str, Remedy]] = {
    "stranger": Remedy(
        "note",
        "thing",
        "in the directory that no worker wrote",
        "move it to another place; prometheus_client's own collector fails on strange *.db files",
    ),
    "unreadable": Remedy(
        "error",
        "unreadable file",
        "missing from the page",
        "let this user read what the workers write, or run the scrape as their user",
    ),
    "vanished": Remedy(
        "note",
        "file",
        "gone between the listing and the reading",
        "look again; something removes files while the server runs",
    ),
    "leased": Remedy(
        "warning",
        "file",
        "missing from the page because another process holds a lease on it for too long",
        "look again; if it stays so, find the process that compacts this directory and has stopped",
    ),
    "lost_manifest": Remedy(
        "warning",
        "archive",
        "without the MANIFEST that says which archives count, so that the newest is taken",
        "a program that removes files from this directory should remove all of them, or none",
    ),
    "damaged_manifest": Remedy(
        "error",
        "MANIFEST",
        "that cannot be used, so that the newest archives are taken and nothing is compacted",
        "let this user read it; if it is damaged, remove it: what is taken stays the same",
    ),
    "damaged": Remedy(
        "error",
        "damaged file",
        "missing from the page",
        "move it away once no worker uses it; it was cut short or overwritten, comes from another "
        "kind of machine, or two processes with the same pid wrote to it, as happens when "
        "containers share a directory",
    ),
    "too_large": Remedy(
        "error",
        "file",
        "missing from the page because it, or a key in it, is too large to be read",
        "find out which label has a value for each request; move the file away once no worker "
        "uses it",
    ),
    "linked": Remedy(
        "warning",
        "name",
        "of a file that counts under another name",
        "remove it; a file with two names is not folded either when its worker is dead",
    ),
    "type_conflict": Remedy(
        "error",
        "metric",
        "with one name but two types, of which only one is on the page",
        "give the metrics different names, or remove the files of an earlier version",
    ),
    "mode_conflict": Remedy(
        "error",
        "gauge",
        "with two modes, of which only one is on the page",
        "give the gauge the same multiprocess_mode everywhere, or remove the files of an earlier "
        "version",
    ),
    "bucket_conflict": Remedy(
        "warning",
        "histogram",
        "with different buckets, of which only the shared ones are on the page",
        "give the histogram the same buckets everywhere, or remove the files of an earlier version",
    ),
    "duplicate_series": Remedy(
        "warning",
        "gauge value",
        "with a label pid that several processes set alike, of which only the last is on the page",
        "call the label something else; then each process keeps its own value",
    ),
    "name_clash": Remedy(
        "error",
        "metric",
        "missing from the page because another one has samples of the same name",
        "rename one of them",
    ),
    "odd_sample": Remedy(
        "warning",
        "sample",
        "missing from the page because metrics of this type have none like it",
        "find out which program writes it; prometheus_client does not",
    ),
}
"""The remedy for each reason that a problem with a directory can have."""
