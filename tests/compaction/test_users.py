"""Compactions by several users: after each of them the application can read and compact on.

The tests need root, which starts compactions as other users.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from mpmetrics import compact
from mpmetrics.directory import liveness
from tests.database import counter, gauge, write
from tests.generations import ours
from tests.operations import killed_at
from tests.workers import environment, run_python

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.skipif(
        not liveness.HAS_LEASES, reason="this system has no file leases (Linux has them)"
    ),
    pytest.mark.skipif(
        not hasattr(os, "getuid") or os.getuid() != 0, reason="needs root to become another user"
    ),
]

APPLICATION: Final = 64_001
COLLEAGUE: Final = 64_002
GROUP: Final = 64_003

_AS_USER: Final = """
import encodings.ascii, os, sys, tempfile
import mpmetrics
# What is imported late may be out of the other user's reach.
with tempfile.TemporaryDirectory() as other:
    mpmetrics.compact(other)
    mpmetrics.collect(other).render()
path, user, group, umask = sys.argv[1], *map(int, sys.argv[2:])
os.setgroups([group])
os.setgid(user)
os.setuid(user)
os.umask(umask)
try:
    done = mpmetrics.compact(path)
    print(done.outcome, sorted({each.reason for each in done.skipped}))
except mpmetrics.CompactionError as error:
    print(error.why)
print({sample.name: sample.value for family in mpmetrics.collect(path).families
       for sample in family.samples})
"""


def compact_as(path: Path, user: int, umask: int = 0o022) -> list[str]:
    """Compact *path* as *user*; return what came out, and then the page as that user sees it."""
    arguments = [str(path), *map(str, (user, GROUP, umask))]
    return run_python(_AS_USER, *arguments, env=environment(None)).splitlines()


def compact_as_root(path: Path) -> None:
    """Compact *path* as `umask 077; mpmetrics compact` does."""
    before = os.umask(0o077)
    try:
        compact(path)
    finally:
        os.umask(before)


def leave(path: Path, worker: int, user: int = APPLICATION, mode: int = 0o644) -> None:
    """Write the files of a dead *worker* of *user*, who counted 1."""
    files = {"counter": counter("jobs", 1), "gauge_max": gauge("top", worker)}
    for kind, entry in files.items():
        file = write(path / f"{kind}_{worker}.db", [entry], size=4096)
        os.chown(file, user, user)
        file.chmod(mode)


def page(jobs: float, top: float) -> str:
    """Return the page with these values, as `compact_as` does."""
    return str({"jobs_total": float(jobs), "top": float(top)})


@pytest.fixture
def directory() -> Iterator[Path]:
    """Return an empty directory below one that every user may enter."""
    with tempfile.TemporaryDirectory() as above:
        Path(above).chmod(0o755)
        path = Path(above, "metrics")
        path.mkdir()
        if not liveness.prove_leases(str(path)):
            pytest.skip("leases do not work on the file system of the temporary directory")
        yield path


def give(path: Path, user: int, group: int, mode: int) -> None:
    """Give the directory *path* to *user* and *group*."""
    os.chown(path, user, group)
    path.chmod(mode)


PLACES: Final = {
    "of the application": (APPLICATION, APPLICATION, 0o755),
    "private": (APPLICATION, APPLICATION, 0o700),
    "of root, for the group": (0, GROUP, 0o2775),
    "of root, for all": (0, 0, 0o777),
    "of root, sticky": (0, 0, 0o1777),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("root_is_first", [True, False], ids=["root first", "root second"])
def test_root_compacts_once(
    directory: Path, place: tuple[int, int, int], *, root_is_first: bool
) -> None:
    """After root has compacted, with a umask of 077, the application reads and compacts on."""
    give(directory, *place)
    leave(directory, 1)
    if not root_is_first:
        assert compact_as(directory, APPLICATION) == ["folded []", page(1, 1)]
    leave(directory, 2)
    compact_as_root(directory)
    assert len(list(directory.glob("*.db"))) == 2, "both files are archives"
    leave(directory, 3)
    assert compact_as(directory, APPLICATION) == ["folded []", page(3, 3)]
    compact_as_root(directory)
    assert ours(directory)["jobs_total", ()] == 3


def test_what_is_written_belongs_to_the_application(directory: Path) -> None:
    """No file that root's compaction leaves belongs to root, or is closed to other readers."""
    give(directory, APPLICATION, APPLICATION, 0o755)
    leave(directory, 1)
    compact_as_root(directory)
    found = {each.name: each.stat() for each in directory.iterdir()}
    assert {name for name, status in found.items() if status.st_uid != APPLICATION} == set()
    assert {name for name, status in found.items() if status.st_mode & 0o777 != 0o644} == set()
    assert len(found) == 4  # two archives, MANIFEST and the lock


def test_private_files_stay_private(directory: Path) -> None:
    """The archive of files that only their user may read is one that only that user may read."""
    give(directory, APPLICATION, APPLICATION, 0o755)
    leave(directory, 1, mode=0o600)
    compact_as_root(directory)
    modes = {each.stat().st_mode & 0o777 for each in directory.glob("*.db")}
    assert modes == {0o600}
    assert compact_as(directory, APPLICATION) == ["nothing []", page(1, 1)]


def test_the_archives_of_an_older_release_are_mended(directory: Path) -> None:
    """Root's next compaction mends what root left closed to the application earlier."""
    give(directory, APPLICATION, APPLICATION, 0o755)
    leave(directory, 1)
    compact_as_root(directory)
    for each in directory.iterdir():
        os.chown(each, 0, 0)
        each.chmod(0o600)
    leave(directory, 2)
    said, _ = compact_as(directory, APPLICATION)
    assert said == (
        ".mpmetrics-compaction.lock belongs to user 0 with mode 0600: compact once as that user or "
        "as root, or remove the file while no compaction runs"
    )
    compact_as_root(directory)
    leave(directory, 3)
    assert compact_as(directory, APPLICATION) == ["folded []", page(3, 3)]


def test_two_users_share_a_directory(directory: Path) -> None:
    """Two users of a group compact one directory in turn, each the files that are theirs."""
    give(directory, 0, GROUP, 0o2775)
    for turn, user in enumerate([APPLICATION, COLLEAGUE] * 2, start=1):
        leave(directory, turn, user)
        assert compact_as(directory, user, umask=0o077) == ["folded []", page(turn, turn)]


def test_a_killed_compactor_of_root_leaves_nothing_in_the_way(directory: Path) -> None:
    """Wherever a compactor of root is killed, the application's next one finishes its work."""
    give(directory, APPLICATION, APPLICATION, 0o755)
    for total, point in enumerate(range(2, 60, 6), start=1):
        leave(directory, total)
        before = os.umask(0o077)
        try:
            killed_at(point, lambda: compact(directory))
        finally:
            os.umask(before)
        assert compact_as(directory, APPLICATION)[1] == page(total, total), point
        assert compact_as(directory, APPLICATION) == ["nothing []", page(total, total)], point
        names = {each.name for each in directory.iterdir()}
        assert not [name for name in names if ".folding" in name or name.endswith(".new")], point
