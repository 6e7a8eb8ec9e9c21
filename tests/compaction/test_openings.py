"""A process in the middle of opening a file, which no lease shows, keeps it from being folded.

A descriptor of `O_PATH` refers to the name of a file as such a process does, for as long as a test
wants. Opening that descriptor's entry in `/proc` goes on where the process was.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from prometheus_client.mmap_dict import MmapedDict, mmap_key

import mpmetrics
from mpmetrics import CompactionError, compact
from mpmetrics.compaction import Compactor
from mpmetrics.compaction.openings import Openings
from mpmetrics.directory import liveness
from mpmetrics.directory.files import OPENING
from mpmetrics.errors import MpmetricsError
from tests.database import counter, write
from tests.generations import ours, theirs
from tests.operations import is_change, killed_at, watched

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(
    not liveness.HAS_LEASES, reason="this system has no file leases (Linux has them)"
)

_KEY: Final = mmap_key("c", "c_total", [], [], "help")


class Opener:
    """A process in the middle of opening the file of worker 2, as far as the kernel can tell."""

    def __init__(self, directory: Path) -> None:
        """Look the file up."""
        self._found = os.open(directory / "counter_2.db", os.O_PATH)
        self._file: Any = None

    def open(self) -> bool:
        """Open the file and count 1000, as prometheus_client does; False where a lease forbids it.

        This process has the lease then, and would wait for itself.
        """
        path = f"/proc/self/fd/{self._found}"
        try:
            os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
        except BlockingIOError:
            return False
        self._file = MmapedDict(path)
        self.count(1000)
        self._forget()
        return True

    def count(self, amount: float) -> None:
        """Count in the open file."""
        self._file.write_value(_KEY, self._file.read_value(_KEY)[0] + amount, 0)

    def close(self) -> None:
        """Close the file, or give up opening it."""
        self._forget()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _forget(self) -> None:
        if self._found >= 0:
            os.close(self._found)
            self._found = -1


def fill(path: Path) -> Path:
    """Write an archive and files of three dead workers, 11 in all, to the new directory *path*."""
    path.mkdir()
    if not liveness.prove_leases(str(path)):
        pytest.skip("leases do not work on the file system of the temporary directory")
    for number in (1, 2, 3):
        write(path / f"counter_{number}.db", [counter("c", number)], size=4096)
    compact(path)
    for number in (2, 3):
        write(path / f"counter_{number}.db", [counter("c", number)], size=4096)
    return path


@contextmanager
def opener(path: Path) -> Iterator[Opener]:
    """Return an opener of worker 2's file in *path*, which is closed at the end."""
    each = Opener(path)
    try:
        yield each
    finally:
        each.close()


def total(path: Path) -> float:
    """Return the value of the only counter in *path*."""
    return float(ours(path)["c_total", ()])


def check_end(path: Path, expected: float) -> None:
    """Check that everything in *path* can be folded now, and comes to what is *expected*."""
    compact(path)
    assert total(path) == expected
    assert theirs(path) == ours(path)
    names = {each.name for each in path.iterdir()}
    assert not [name for name in names if "_2" in name or ".folding" in name or name == OPENING]


def check_late_opening(path: Path, late: Opener, *, after: int) -> None:
    """Check that all counts that the process *late* makes *after* so many compactions of *path*."""
    for _ in range(after):
        compact(path)
        assert total(path) == 11, path
    assert late.open()
    assert total(path) == 1011, path
    compact(path)
    late.count(1)
    assert total(path) == 1012, path


def reasons(path: Path) -> dict[str, str]:
    """Compact *path*; return why each file was left alone, by its name."""
    return {Path(each.path).name: each.reason for each in compact(path).skipped}


def test_a_file_that_may_be_opened_is_not_folded(tmp_path: Path) -> None:
    """However often a directory is compacted, a file stays that a process may still open.

    The others are folded, and so is the file once that process has closed it.
    """
    path = fill(tmp_path / "metrics")
    with opener(path) as late:
        assert reasons(path) == {"counter_2.db": "changed"}
        for _ in range(4):
            assert reasons(path) == {"counter_2.db": "opening"}
            assert total(path) == 11
        assert not (path / "counter_3.db").exists()
        preview = compact(path, dry_run=True)
        assert [each.reason for each in preview.skipped] == ["opening"]
        assert late.open()
        assert reasons(path) == {"counter_2.db": "alive"}
        late.count(1)
        assert total(path) == 1012
    check_end(path, 1012)


def test_an_opener_that_gives_up_delays_the_folding_only(tmp_path: Path) -> None:
    """A file that a process looked up but did not open is folded the next time."""
    path = fill(tmp_path / "metrics")
    with opener(path):
        compact(path)
    check_end(path, 11)


@pytest.mark.parametrize("stays", [False, True], ids=["leaves", "stays"])
def test_a_file_is_opened_at_any_moment(tmp_path: Path, *, stays: bool) -> None:
    """An opener that had found the file before goes on before any operation: all of it counts."""
    point = 0
    has_opened = True
    while has_opened:
        point += 1
        path = fill(tmp_path / str(point))
        with opener(path) as late:
            has_opened = False

            def go_on(
                number: int, _name: str, _arguments: tuple[Any, ...], late: Opener = late
            ) -> None:
                nonlocal has_opened
                if number >= point and not has_opened:  # noqa: B023 - it is called in this turn
                    has_opened = late.open()
                    if has_opened and not stays:
                        late.close()

            with watched(go_on):
                compact(path)
            expected = 1011.0 if has_opened else 11.0
            assert total(path) == expected, point
            compact(path)
            assert total(path) == expected, point
            if stays and has_opened:
                late.count(1)
                expected += 1
                assert total(path) == expected, point
        check_end(path, expected)
    assert point > 60, f"there were only {point} points"


@pytest.mark.parametrize("after", [0, 2], ids=["at once", "after two more compactions"])
def test_a_compactor_is_killed_and_a_file_is_opened(tmp_path: Path, after: int) -> None:
    """If the compactor is killed at any operation, what an opener counts later is not lost.

    The kill forgets nothing: the next compactors do not fold the file either.
    """
    point = 0
    killed = True
    while killed:
        point += 1
        path = fill(tmp_path / str(point))
        with opener(path) as late:
            killed = killed_at(point, lambda path=path: compact(path))  # type: ignore[misc]
            check_late_opening(path, late, after=after)
        check_end(path, 1012)
    assert point > 30, f"there were only {point} points"


@pytest.mark.parametrize("lasts", [False, True], ids=["once", "from then on"])
def test_an_operation_fails_and_a_file_is_opened(tmp_path: Path, *, lasts: bool) -> None:
    """If any operation fails, what an opener counts after more compactions is not lost."""
    point = 0
    has_failed = True
    while has_failed:
        point += 1
        path = fill(tmp_path / str(point))
        has_failed = False
        changes = 0

        def fail(_number: int, name: str, arguments: tuple[Any, ...], point: int = point) -> None:
            nonlocal changes, has_failed
            changes += is_change(name, arguments)
            if is_change(name, arguments) and (changes == point or (lasts and changes > point)):
                has_failed = True
                raise OSError(errno.EIO, os.strerror(errno.EIO))

        with opener(path) as late:
            with watched(fail), suppress(MpmetricsError):
                compact(path)
            check_late_opening(path, late, after=2)
        check_end(path, 1012)
    assert point > 20, f"there were only {point} points"


def test_a_name_that_is_given_to_another_file_is_left_to_it(tmp_path: Path) -> None:
    """A file that replaces another one in the middle of a compaction is neither folded nor lost."""
    path = fill(tmp_path / "metrics")
    is_done = False

    def replace(_number: int, name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal is_done
        if name == "link" and "counter_2" in str(arguments[0]) and not is_done:
            is_done = True
            (path / "counter_2.db").unlink()
            write(path / "counter_2.db", [counter("c", 500)], size=4096)

    with watched(after=replace):
        compact(path)
    assert is_done
    # The old one still had a name: it was the file of a worker that had counted 2.
    assert total(path) == 511
    compact(path)
    assert total(path) == 511


def test_what_is_not_a_directory_stops_a_compaction(tmp_path: Path) -> None:
    """A link in the place of the directory that a compaction needs is one clear error."""
    path = fill(tmp_path / "metrics")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (path / OPENING).symlink_to(elsewhere)
    with pytest.raises(CompactionError, match="is not a directory"):
        compact(path)
    assert list(elsewhere.iterdir()) == []
    assert total(path) == 11


def test_without_a_proof_nothing_is_folded(tmp_path: Path) -> None:
    """Where the kernel does not tell who refers to a name, files are unknown and stay."""
    path = fill(tmp_path / "metrics")

    class Unproven(Openings):
        def prove(self) -> bool:
            return False

    class Doubter(Compactor):
        def openings(self) -> Openings:
            return Unproven(self.path, set())

    done = Doubter(path).compact()
    assert {each.reason for each in done.skipped} == {"unknown"}
    assert done.outcome == "nothing"
    assert mpmetrics.collect(path).problems == []
    assert total(path) == 11
