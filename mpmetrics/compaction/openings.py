"""The proof that no process has a file open, nor is in the middle of opening it.

A worker that opens a file has found it by its name some microseconds before the kernel counts it
among those that have the file open. A lease does not see it in between. If the file were folded
then, what that worker counts would be lost. But from the moment at which it has found the file, the
worker refers to the *name* (the kernel's dentry), until it closes the file. So a compactor asks the
kernel whether anything refers to the names of the files that it is about to fold:

1. It has given each file a second name, by which it is counted. It now moves the first names, group
   by group, into directories ``.mpmetrics-opening/<witness>/d<number>``. From now on no process can
   find a file by such a name. A worker that looks for it makes a new file, and does not wait.
2. It asks for each file whether a process has it open for writing. Such a file gets its name back,
   by a move, which those that refer to the name do not notice.
3. It removes the names, and then the directories ``d<number>``. The kernel keeps a directory in
   memory as long as anything refers to one of the names that were in it, and `RemovalWatch` tells
   when it has forgotten it. In general that is before the call returns.
4. A directory that the kernel has forgotten proves that none of its files is open by that name, or
   will ever be. Else the files get their names back, and the *witness* stays: it is the directory
   around ``d<number>``, and the kernel keeps it in memory as long as that. It gets a mark for each
   of those files, a directory called like the inode. They are not folded before the kernel has
   forgotten the witness, too. That is found out in the same way: the witness becomes the ``d0`` of
   a new one.

The witness is there before the first name is moved, so that nothing is forgotten if the compactor
is killed at any point: then the files that still have a second name of the witness' generation get
the marks.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics.compaction.names import move_if_free, remove_if_there, restore_name
from mpmetrics.directory import (
    OPENING,
    UNFINISHED,
    FileName,
    has_writer,
    make_directory_like,
)
from mpmetrics.system import RemovalWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from typing_extensions import Self

    from mpmetrics.directory import Listing, WorkerFile

_PATIENCE: Final = 0.05
"""Seconds until an opener that only reads has gone. Its files are not under their names so long."""

_MOST_GROUPS: Final = 8
"""The most groups of a commit. Removing a directory takes a millisecond on some file systems."""

_INNER: Final = "d"
_PROBE: Final = "probe"
_TESTED: Final = 0
"""The generation of a witness that no commit has made."""

_IS_OPEN: Final = "a process opened it while it was being folded"
_MAY_BE_OPENED: Final = "a process may be in the middle of opening it"
_WAS_REPLACED: Final = "another file has its name now"


class AsideFile(NamedTuple):
    """A *file* that has a second name, *aside*, by which *descriptor* is open for reading."""

    file: WorkerFile
    aside: str
    descriptor: int
    inode: int


class _Group(NamedTuple):
    """The *members* whose names are in the directory *path*; *number* is that of the watch on it.

    *moved* has the members that were moved, by the name that they have now.
    """

    path: str
    number: int
    members: Sequence[AsideFile]
    moved: dict[str, AsideFile]


class Openings:
    """What is known of processes that are in the middle of opening files of a *directory*.

    *proven* are the devices on which the proof has been tested; a test adds to it. One compactor at
    a time may use this, the one that has the lock.
    """

    def __init__(self, directory: str, proven: set[int]) -> None:
        """Look at nothing yet."""
        self._directory = directory
        self._own = os.path.join(directory, OPENING)
        self._proven = proven
        self._started: RemovalWatch | None = None

    def __enter__(self) -> Self:
        """Return the object itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the directory of witnesses, if it is empty, and end the watch."""
        for path in (os.path.join(self._own, UNFINISHED), self._own):
            with suppress(OSError):
                os.rmdir(path)
        if self._started is not None:
            self._started.close()

    @property
    def _watch(self) -> RemovalWatch:
        if self._started is None:
            self._started = RemovalWatch()
        return self._started

    def prove(self) -> bool:
        """Test on the file system of the directory, once, whether the proof tells open from closed.

        Raises `OSError` when that cannot be found out now, as on a full disk.
        """
        device = os.stat(self._directory).st_dev
        if device not in self._proven and self._test():
            self._proven.add(device)
        return device in self._proven

    def list_doubtful(self) -> frozenset[int]:
        """Return the inodes of the files that witnesses mark; nothing is found out or changed."""
        return frozenset().union(*map(_list_marks, self._witnesses()))

    def settle(self, listing: Listing) -> None:
        """Finish what a killed compactor began in a directory that has this *listing*.

        Raises `OSError`.
        """
        for witness in self._witnesses():
            for file in listing.files:
                if file.folding_into and witness.startswith(self._prefix(file.folding_into)):
                    _mark(witness, file.inode)
            for entry in os.listdir(witness):
                if entry.startswith(_INNER):
                    self._empty(os.path.join(witness, entry), listing.inodes)

    def examine(self) -> frozenset[int]:
        """Find out which witnesses the kernel has forgotten.

        Returns the inodes of the files that the others mark. Call `settle` before. Raises
        `OSError`.
        """
        doubtful: set[int] = set()
        for old in list(self._witnesses()):
            marks = _list_marks(old)
            witness = self._make_witness(_TESTED)
            for inode in marks:
                _mark(witness, inode)
            inner = os.path.join(witness, f"{_INNER}0")
            os.rename(old, inner)
            for entry in os.listdir(inner):
                os.rmdir(os.path.join(inner, entry))
            if self._remove([_Group(inner, self._watch.add(inner), (), {})]):
                doubtful |= marks
            else:
                _remove_witness(witness)
        return frozenset(doubtful)

    def withdraw(
        self, files: Sequence[AsideFile], generation: int, leave_aside: Callable[[], object]
    ) -> dict[str, str]:
        """Take away the names of *files*, and prove that no process will have one of them open.

        Their names aside are of *generation*. Returns by path why there is no such proof for a
        file. Those files may have their names, or not; the others have lost theirs. Raises
        `OSError`; then the same holds for all files. If it could not even mark them, it calls
        *leave_aside*: they have to keep their names aside, by which the next compactor knows them.
        """
        lost: dict[str, str] = {}
        size = max(-(-len(files) // _MOST_GROUPS), 1)
        groups: list[_Group] = []
        witness = self._make_witness(generation)
        try:
            for start in range(0, len(files), size):
                members = files[start : start + size]
                groups.append(self._start_group(witness, len(groups), members))
                self._move(groups[-1], lost)
            for group in self._remove(groups):
                for each in group.members:
                    _mark(witness, each.inode)
                    lost.setdefault(each.file.path, _MAY_BE_OPENED)
        except BaseException:
            try:
                self._give_back(witness, groups)
            except OSError:
                leave_aside()
            with suppress(OSError):
                os.rmdir(witness)
            raise
        if not _list_marks(witness):
            os.rmdir(witness)
        return lost

    def _start_group(self, witness: str, number: int, members: Sequence[AsideFile]) -> _Group:
        """Make the directory of a group of *members* in *witness*. Raises `OSError`."""
        path = os.path.join(witness, f"{_INNER}{number}")
        make_directory_like(witness, path)
        try:
            return _Group(path, self._watch.add(path), members, {})
        except BaseException:
            os.rmdir(path)
            raise

    def _move(self, group: _Group, lost: dict[str, str]) -> None:
        """Move the members of a *group*, but those that turn out to be *lost*. Raises `OSError`."""
        for each in group.members:
            moved = os.path.join(group.path, each.file.name.format())
            try:
                os.rename(each.file.path, moved)
            except FileNotFoundError:
                lost[each.file.path] = os.strerror(errno.ENOENT)
                continue
            group.moved[moved] = each
            why = _find_use(each, moved)
            if why:
                lost[each.file.path] = why
                self._move_back(group, moved)

    def _move_back(self, group: _Group, moved: str) -> bool:
        """Give a file of a *group* its name back; return whether it is still the same to openers.

        Raises `OSError`.
        """
        each = group.moved.pop(moved)
        if move_if_free(moved, each.file.path):
            return True
        restore_name(self._directory, moved, each.file.name)
        return False

    def _give_back(self, witness: str, groups: Sequence[_Group]) -> None:
        """Give all files of *groups* their names back after an error.

        Where that is not possible, or a name was removed already, the files of the group get marks
        in the *witness*, which stays. Raises `OSError`.
        """
        for group in groups:
            are_same = True
            for moved in list(group.moved):
                try:
                    are_same &= self._move_back(group, moved)
                except OSError:
                    are_same = False
            if are_same:
                os.rmdir(group.path)
            else:
                for each in group.members:
                    _mark(witness, each.inode)

    def _remove(self, groups: Sequence[_Group]) -> Sequence[_Group]:
        """Remove *groups* and the names in them; return those that the kernel has not forgotten.

        Raises `OSError`.
        """
        for group in groups:
            for moved in group.moved:
                os.unlink(moved)
            os.rmdir(group.path)
        left = self._watch.wait([group.number for group in groups], _PATIENCE)
        return [group for group in groups if group.number in left]

    def _empty(self, path: str, inodes: Collection[int]) -> None:
        """Remove the directory *path* and the names in it.

        A file that has no other name, as *inodes* show, gets its name back. Raises `OSError`.
        """
        for entry in os.listdir(path):
            inner = os.path.join(path, entry)
            name = FileName.parse(entry)
            status = os.lstat(inner)
            if stat.S_ISDIR(status.st_mode):
                os.rmdir(inner)
            elif name is None or status.st_ino in inodes:
                os.unlink(inner)
            else:
                restore_name(self._directory, inner, name)
        os.rmdir(path)

    def _test(self) -> bool:
        """Test whether an open file keeps the directory of its name in memory, until it is closed.

        Raises `OSError`.
        """
        witness = self._make_witness(_TESTED)
        try:
            return self._test_in(self._start_group(witness, 0, ()))
        finally:
            with suppress(OSError):
                _remove_witness(witness)

    def _test_in(self, group: _Group) -> bool:
        """Test with a file in the directory of a *group*. Raises `OSError`."""
        path = os.path.join(group.path, _PROBE)
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            has_links = _can_link(path)
            os.unlink(path)
            os.rmdir(group.path)
            is_kept = bool(self._watch.wait([group.number], 0))
        except OSError:
            self._empty(group.path, ())
            raise
        finally:
            os.close(descriptor)
        is_forgotten = not self._watch.wait([group.number], _PATIENCE)
        return has_links and is_kept and is_forgotten

    def _make_witness(self, generation: int) -> str:
        """Make a new witness of a commit of *generation*; return its path. Raises `OSError`."""
        with suppress(FileExistsError):
            make_directory_like(self._directory, self._own)
        if not stat.S_ISDIR(os.lstat(self._own).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, f"{OPENING} is not a directory", self._own)
        number = 0
        while True:
            path = f"{self._prefix(generation)}{number}"
            try:
                make_directory_like(self._own, path)
            except FileExistsError:
                number += 1
            else:
                return path

    def _prefix(self, generation: int) -> str:
        """Return how the paths of the witnesses of *generation* begin."""
        return os.path.join(self._own, f"{generation}-")

    def _witnesses(self) -> Iterator[str]:
        """Yield the path of each witness. Raises `OSError`."""
        try:
            entries = sorted(os.listdir(self._own))
        except FileNotFoundError:
            return
        for entry in entries:
            if entry != UNFINISHED:
                yield os.path.join(self._own, entry)


def _mark(witness: str, inode: int) -> None:
    """Mark a file in *witness*. Raises `OSError`."""
    with suppress(FileExistsError):
        make_directory_like(witness, os.path.join(witness, str(inode)))


def _list_marks(witness: str) -> frozenset[int]:
    """Return the inodes of the files that are marked in *witness*. Raises `OSError`."""
    return frozenset(int(entry) for entry in os.listdir(witness) if entry.isdecimal())


def _remove_witness(witness: str) -> None:
    """Remove a *witness* and its marks. Raises `OSError`."""
    for entry in os.listdir(witness):
        os.rmdir(os.path.join(witness, entry))
    os.rmdir(witness)


def _find_use(each: AsideFile, moved: str) -> str:
    """Return why the file that was *moved* cannot be folded, "" if nothing speaks against it."""
    if os.lstat(moved).st_ino != each.inode:
        return _WAS_REPLACED
    try:
        return _IS_OPEN if has_writer(each.descriptor) else ""
    except OSError as error:
        return error.strerror or str(error)


def _can_link(path: str) -> bool:
    """Return whether a file can have two names on the file system of *path*."""
    other = f"{path}-link"
    try:
        os.link(path, other)
    except PermissionError:
        return False
    remove_if_there(other)
    return True
