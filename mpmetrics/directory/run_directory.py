"""The run directory: the multiprocess directory that is made or taken for one server, and locked.

A directory that is made here is private, and lies in a home of its own (`run_home`). If its owner
is killed, it stays. The next owner with the same prefix removes it, but only when no process uses
it any more. A directory that a user has named is never removed.
"""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Final

from mpmetrics._text import plural
from mpmetrics.directory.claims import Claim, identify
from mpmetrics.directory.files import MANIFEST, list_directory
from mpmetrics.directory.liveness import Liveness, is_alive
from mpmetrics.directory.open_directory import OpenDirectory
from mpmetrics.directory.run_home import RunHome
from mpmetrics.errors import RunDirectoryError
from mpmetrics.system import (
    find_mentions,
    find_mount,
    measure_space,
    read_boot,
    read_pid_namespace,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mpmetrics.system import Mentions

PREFIX: Final = "mpmetrics-run-"
"""The prefix of the names of homes that `mpmetrics run` makes."""

_MEMORY: Final = "/dev/shm"  # noqa: S108 - where tmpfs is, not a file
_AT_ONCE: Final = 64
"""How many homes are open at once while they are swept."""

_ENOUGH: Final = 64 << 20
"""Bytes that have to be free on a tmpfs: a thousand new files of workers, of 64 KiB each."""


class RunDirectory:
    """The directory *path* of one server, locked against other runs.

    It is private if it has a *home*, which this process or an earlier one has made. If a user has
    named it, there is a *claim* on it.
    """

    def __init__(
        self,
        path: str,
        *,
        home: RunHome | None = None,
        claim: Claim | None = None,
        is_new: bool = True,
    ) -> None:
        """Take the locked *home*, or the *claim*; it *is_new* if this process has made it."""
        self.path = path
        self._home = home
        self._claim = claim
        self._is_new = is_new
        self._is_whole = False
        self._held: OpenDirectory | None = None
        self._identity = identify(path)

    @property
    def is_private(self) -> bool:
        """Whether it was made for one run, and not named by a user."""
        return self._home is not None

    def count_files_in_use(self, *, besides: str = "") -> int:
        """Count the files whose worker is not proven dead, *besides* those with that id.

        Raises `OSError`.
        """
        try:
            paths = [path for path, id_ in _list_worker_files(self.path) if id_ != besides]
        except FileNotFoundError:  # the server has removed it
            return 0
        return sum(is_alive(path) is not Liveness.DEAD for path in paths)

    def why_it_stays(self, *, besides: str = "") -> str:
        """Return why a private directory must not be removed, "" if it may. Raises `OSError`.

        Files of the process with the id *besides* do not count, nor what that process mentions.
        """
        if self._home is None:
            return "because you have chosen it"
        foreign = self._home.find_foreign()
        if foreign:
            return f"because it has an entry that is not of mpmetrics ({foreign})"
        if self.count_files_in_use(besides=besides):
            return "because a process still has files in it open"
        name = os.path.basename(self._home.path)
        mentions = find_mentions([name], besides=os.getpid())
        if mentions is None or mentions.may_include_below(name, os.getpid()):
            return "because a process that still runs may have been started with it"
        return ""

    def hold(self) -> None:
        """Keep the directory open: no other one gets its inode, by which it is known."""
        with suppress(OSError):
            held = OpenDirectory(os.path.realpath(self.path))
            if self._held is not None:
                self._held.close()
            self._held = held
        self._identity = identify(self.path)

    def has_been_replaced(self) -> bool:
        """Return whether another directory has its name now; then lock that one.

        A server may remove the directory and make another one. Raises `RunDirectoryError` if
        another run has that one.
        """
        now = identify(self.path)
        if now is None or now == self._identity:
            return False
        self.hold()
        if self._claim is not None and not self._claim.is_held:
            self._claim.renew()
        return True

    def hand_over(self, uid: int, gid: int, *, whole: bool = False) -> None:
        """Give the directory to the user *uid* and the group *gid*, and to no other user.

        With *whole*, that user may also remove it and make it again. A directory that a user has
        made stays as it is. Raises `OSError`.
        """
        self._is_whole = self._is_whole or whole
        if self._home is not None:
            self._home.give(uid, gid, whole=self._is_whole)
        elif self._is_new:
            with OpenDirectory(os.path.realpath(self.path)) as directory:
                directory.give(uid, gid, 0o700)

    def make_again(self) -> None:
        """Make the directory again after it was removed. Raises `OSError`."""
        os.makedirs(self.path, mode=0o700, exist_ok=True)
        self._is_new = True

    def release(self, *, keep: bool, besides: str = "") -> str:
        """Release the lock, and remove a private directory; return why it stays, "" if it is gone.

        With *keep* it stays. See `why_it_stays`. Raises `OSError`.
        """
        try:
            why = "as you wish" if keep else self.why_it_stays(besides=besides)
            if not why and self._home is not None:
                self._home.remove()
            return why
        finally:
            self.close()

    def close(self) -> None:
        """Release the lock; the directory stays."""
        if self._held is not None:
            self._held.close()
        if self._home is not None:
            self._home.close()
        if self._claim is not None:
            self._claim.release()


def make_private_directory(*, keep: bool = False) -> RunDirectory:
    """Make a directory for one run, in memory if possible. Raises `RunDirectoryError`.

    With *keep*, no other run removes it, however this run ends.
    """
    return make_run_directory(_choose_base(), PREFIX, keep=keep)


def make_run_directory(base: str, prefix: str, *, keep: bool = False) -> RunDirectory:
    """Make a directory, in a home below *base* whose name begins with *prefix*.

    With *keep*, it is not swept. Raises `RunDirectoryError`.
    """
    try:
        home = RunHome.make(base, prefix, keep=keep)
    except OSError as error:
        raise RunDirectoryError(base, error.strerror or str(error)) from error
    made = RunDirectory(home.metrics, home=home)
    made.hold()
    return made


def take_run_directory(path: str, *, fresh: bool = False) -> RunDirectory:
    """Take the directory *path* for one run, and make it if it is missing.

    With *fresh*, the metrics of earlier runs are removed from it. From now on it is the user's,
    even if an earlier run has made it. Raises `RunDirectoryError` when another run has the
    directory, or when a process may still use what is to be removed.
    """
    directory = os.path.abspath(path)
    is_new = not os.path.lexists(directory)
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        real = os.path.realpath(directory)
        for home in real, os.path.dirname(real):
            _take_from_runs(home)
    except RunDirectoryError:
        raise
    except OSError as error:
        raise RunDirectoryError(directory, error.strerror or str(error)) from error
    taken = RunDirectory(directory, claim=Claim(directory), is_new=is_new)
    taken.hold()
    if fresh:
        try:
            _remove_metrics(taken)
        except RunDirectoryError:
            taken.close()
            raise
    return taken


def sweep_run_directories() -> list[str]:
    """Remove unused directories of earlier runs of this user; return the paths of their homes."""
    bases = sorted({_MEMORY, tempfile.gettempdir()})
    return [path for base in bases for path in sweep_below(base, PREFIX)]


def sweep_below(base: str, prefix: str) -> list[str]:
    """Remove unused homes below *base* whose names begin with *prefix*; return their paths.

    A home is unused if its run has ended, no file in it is open, and no living process was started
    with its path. One that holds anything else than metrics stays. On other systems than Linux,
    all stay.
    """
    removed: list[str] = []
    homes = _take_homes(base, prefix)
    while some := [*islice(homes, _AT_ONCE)]:
        try:
            removed += _sweep([home for home in some if not home.mark.kept])
        finally:
            for home in some:
                home.close()
    return removed


def _take_homes(base: str, prefix: str) -> Iterator[RunHome]:
    """Take the homes below *base* whose runs have ended."""
    try:
        names = sorted(name for name in os.listdir(base) if name.startswith(prefix))
    except OSError:
        return
    for name in names:
        path = os.path.join(base, name)
        with suppress(OSError):
            home = RunHome.take(path) if stat.S_ISDIR(os.lstat(path).st_mode) else None
            if home is not None:
                yield home


def _sweep(homes: Sequence[RunHome]) -> Iterator[str]:
    """Remove those of *homes* that are unused; yield the paths of the removed."""
    mentions = find_mentions([os.path.basename(home.path) for home in homes]) if homes else None
    for home in homes:
        with suppress(OSError):
            if mentions is not None and _remove_if_unused(home, mentions):
                yield home.path


def _remove_if_unused(home: RunHome, mentions: Mentions) -> bool:
    """Remove *home* if it is unused; return whether it is removed. Raises `OSError`."""
    directory = RunDirectory(home.metrics, home=home)
    is_used = home.is_given() or directory.count_files_in_use() > 0
    if is_used or home.find_foreign() or _is_mentioned(home, mentions):
        return False
    if not _can_see_users(home):
        home.remove_files()
        return False
    home.remove()
    return True


def _is_mentioned(home: RunHome, mentions: Mentions) -> bool:
    """Return whether a process may have been started with the path of *home*."""
    name, mark = os.path.basename(home.path), home.mark
    if mark.boot != read_boot():  # no process has been started before that
        return name in mentions.words
    return mentions.may_include(name, since=mark.tick, session=mark.session, group=mark.group)


def _can_see_users(home: RunHome) -> bool:
    """Return whether processes that were started with the path of *home* can be seen from here.

    They cannot be seen from another container, and not from another machine that has the same
    files. After a reboot there are none, unless it was another machine that has been booted.
    """
    if not read_boot():  # not Linux
        return False
    if home.mark.boot == read_boot():
        return home.mark.pid_namespace == read_pid_namespace()
    mount = find_mount(home.path)
    return mount is not None and not mount.is_networked


def _take_from_runs(path: str) -> None:
    """Make a home at *path* a directory of the user, if it is one. Raises `OSError`."""
    home = RunHome.take(path)
    if home is not None:
        try:
            home.forget()
        finally:
            home.close()


def _choose_base() -> str:
    """Choose where to make a directory: on the tmpfs if it has room, else among temporary files."""
    mount, space = find_mount(_MEMORY), measure_space(_MEMORY)
    is_memory = mount is not None and mount.kind == "tmpfs"
    if is_memory and space is not None and space.free >= _ENOUGH and os.access(_MEMORY, os.W_OK):
        return _MEMORY
    return tempfile.gettempdir()


def _list_worker_files(path: str) -> list[tuple[str, str]]:
    """List path and id of the files in the directory *path* that workers may have open."""
    files = [file for file in list_directory(path).files if not file.name.is_archive]
    return [(file.path, file.name.id) for file in files]


def _remove_metrics(directory: RunDirectory) -> None:
    """Remove all metrics from a *directory* that is not in use. Raises `RunDirectoryError`."""
    try:
        used = directory.count_files_in_use()
        if used:
            why = f"nothing was removed: {plural(used, 'file')} may still be in use"
            raise RunDirectoryError(directory.path, why)
        listing = list_directory(directory.path)
        for path in [*(file.path for file in listing.files), *listing.quarantined]:
            os.unlink(path)
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(directory.path, MANIFEST))
    except OSError as error:
        raise RunDirectoryError(directory.path, error.strerror or str(error)) from error
