"""A full disk: whatever operation fails, the totals stay, and the error is raised."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mpmetrics import CompactionError, compact
from mpmetrics.directory import liveness, refill_reserve
from mpmetrics.directory.files import MANIFEST, OPENING
from tests.generations import by_process, kept, ours, theirs, write_workers
from tests.operations import is_change, watched
from tests.workers import environment, run_to_end

pytestmark = pytest.mark.skipif(
    not liveness.HAS_LEASES, reason="this system has no file leases (Linux has them)"
)

ERRORS = [errno.ENOSPC, errno.EDQUOT, errno.EIO]


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """Return a directory with an archive, and with files of a dead worker."""
    path = tmp_path / "before"
    path.mkdir()
    write_workers(path, [1, 2])
    if not liveness.prove_leases(str(path)):
        pytest.skip("leases do not work on the file system of the temporary directory")
    compact(path)
    return write_workers(path, [3])


def contents(path: Path) -> dict[str, bytes]:
    """Return the bytes of each file in *path*."""
    return {each.name: each.read_bytes() for each in path.iterdir() if each.is_file()}


def takes_room(name: str, arguments: tuple[Any, ...]) -> bool:
    """Return whether an operation may fail for lack of room, and is one of a compactor."""
    if name == "mkdir":  # filelock makes the directory of its file
        return f"{OPENING}{os.sep}" in str(arguments[0])
    return is_change(name, arguments) and name != "rmdir"


class Failures:
    """Fails one operation of those that take room, or all from then on."""

    def __init__(self, number: int, code: int, *, once: bool) -> None:
        """Fail operation *number* with the error *code*; later ones too unless only *once*."""
        self._number = number
        self._code = code
        self._once = once
        self._seen = 0
        self.failed = ""

    def before(self, _number: int, name: str, arguments: tuple[Any, ...]) -> None:
        """Raise `OSError` if this is to fail."""
        if takes_room(name, arguments):
            self._seen += 1
            is_one = self._seen == self._number
            # Removing and shortening works on a full disk.
            goes_on = self.failed and not self._once and name not in {"unlink", "ftruncate"}
            if is_one or goes_on:
                self.failed = self.failed or name
                raise OSError(self._code, os.strerror(self._code), str(arguments[0]))


@pytest.mark.parametrize("once", [True, False], ids=["once", "from then on"])
@pytest.mark.parametrize("code", ERRORS, ids=errno.errorcode.get)
def test_any_operation_may_fail(before: Path, tmp_path: Path, code: int, *, once: bool) -> None:
    """A failure before the commit changes nothing, and one after it changes no total."""
    path = tmp_path / "now"
    expected = kept([1, 2, 3])
    unchanged = 0
    number = 0
    failed = "?"
    while failed:
        number += 1
        shutil.copytree(before, path)
        as_it_was = contents(path)
        failures = Failures(number, code, once=once)
        said = None
        with watched(failures.before), suppress(CompactionError):
            try:
                compact(path)
            except CompactionError as error:
                said = error.path, error.why
                raise
        failed = failures.failed
        assert said == ((str(path), os.strerror(code)) if failed else None), (number, failed)
        if once and contents(path)[MANIFEST] == as_it_was[MANIFEST]:
            unchanged += 1
            now = contents(path)
            assert now.keys() == as_it_was.keys(), (number, failed)
            assert now == as_it_was, (number, failed)
            # Whether a process was opening files whose names had gone is found out the next time.
            assert failed == "unlink" or not (path / OPENING).exists(), (number, failed)
        there = ours(path)
        assert there.items() >= expected.items(), (number, failed)
        compact(path)
        assert ours(path) == theirs(path) == expected, (number, failed)
        assert not (path / OPENING).exists(), (number, failed)
        shutil.rmtree(path)
    assert number > 60, f"there were only {number} operations"
    assert unchanged > 20 or not once, f"only {unchanged} of them were before the commit"
    assert by_process([3]).keys().isdisjoint(expected)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT], ids=errno.errorcode.get)
def test_any_operation_may_fail_beside_a_reserve(before: Path, tmp_path: Path, code: int) -> None:
    """With the reserve the whole compaction starts again, and counts each value once."""
    path = tmp_path / "now"
    expected = kept([1, 2, 3])
    started_again = number = 0
    failed = "?"
    while failed:
        number += 1
        shutil.copytree(before, path)
        assert refill_reserve(str(path)) > 0
        failures = Failures(number, code, once=True)
        is_refused = False
        with watched(failures.before):
            try:
                result = compact(path)
            except CompactionError:
                is_refused = True
        failed = failures.failed
        assert ours(path).items() >= expected.items(), (number, failed)
        if not is_refused:
            assert ours(path) == theirs(path) == expected, (number, failed)
            assert result.outcome == "folded", (number, failed)
        started_again += bool(failed) and not is_refused
        compact(path)
        assert ours(path) == theirs(path) == expected, (number, failed)
        assert not (path / OPENING).exists(), (number, failed)
        shutil.rmtree(path)
    assert started_again > 20, f"only {started_again} of {number} compactions started again"


FILL = """
import os, sys
from pathlib import Path
from mpmetrics import CompactionError, compact
from tests.generations import kept, ours, write_workers

path = Path(sys.argv[1])
write_workers(path, [1, 2])
# So that the lock, the only file that stays, is there.
compact(path)
write_workers(path, [3])
filler = path.parent / "filler"
with filler.open("wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(4096))
    except OSError:
        pass
before = {each.name: each.is_file() and each.read_bytes() for each in path.iterdir()}
try:
    compact(path)
except CompactionError as error:
    print(error.why)
assert {each.name: each.is_file() and each.read_bytes() for each in path.iterdir()} == before
assert ours(path).items() >= kept([1, 2, 3]).items()
filler.unlink()
print(compact(path).outcome)
assert ours(path) == kept([1, 2, 3])
"""


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """A compaction on a full tmpfs changes nothing; it succeeds as soon as there is room."""
    script = 'mount -t tmpfs -o size=1m tmpfs "$0" && mkdir "$0/d" && exec "$1" -c "$2" "$0/d"'
    command = ["unshare", "--mount", "sh", "-c", script, str(tmp_path), sys.executable]
    if run_to_end([*command, "pass"], capture_output=True).returncode != 0:
        pytest.skip("a file system cannot be mounted here")
    ended = run_to_end(
        [*command, FILL],
        capture_output=True,
        text=True,
        env=environment(None, PYTHONPATH=os.fspath(Path(__file__).parents[2])),
    )
    assert (ended.stdout, ended.stderr) == ("No space left on device\nfolded\n", "")


EXHAUST = """
import os, sys
from pathlib import Path
from mpmetrics import compact
from mpmetrics.directory import refill_reserve
from tests.generations import kept, ours, write_workers

path = Path(sys.argv[1])
compact(path)
assert refill_reserve(str(path)) > 0
workers = [1]
write_workers(path, workers)
while os.statvfs(path).f_favail > len(list(path.glob("*_1.db"))):
    workers.append(workers[-1] + 1)
    write_workers(path, workers[-1:])
try:
    for number in range(1000):
        (path.parent / str(number)).touch()
except OSError:
    pass
assert os.statvfs(path).f_favail == 0
result = compact(path)
print(result.outcome, len(result.skipped))
assert ours(path) == kept(workers)
assert len(result.folded) + len(result.dropped) > 10
assert os.statvfs(path).f_favail > 0
"""


@pytest.mark.parametrize("inodes", [60, 150])
def test_a_disk_without_inodes(tmp_path: Path, inodes: int) -> None:
    """With the inodes that were kept one file is folded, then more, until all are."""
    script = (
        f'mount -t tmpfs -o size=4m,nr_inodes={inodes} tmpfs "$0" && mkdir "$0/d" && '
        'exec "$1" -c "$2" "$0/d"'
    )
    command = ["unshare", "--mount", "sh", "-c", script, str(tmp_path), sys.executable]
    if run_to_end([*command, "pass"], capture_output=True).returncode != 0:
        pytest.skip("a file system cannot be mounted here")
    ended = run_to_end(
        [*command, EXHAUST],
        capture_output=True,
        text=True,
        env=environment(None, PYTHONPATH=os.fspath(Path(__file__).parents[2])),
    )
    assert (ended.stdout, ended.stderr) == ("folded 0\n", "")
