"""The keeper of a server's directory: it notices what becomes of it, and who writes to it.

A server may remove the directory and make it again, and its workers may run as another user. The
keeper sees to it that there is a directory, that it is locked, and that workers may write to it.
What it cannot mend, it says in one line. Linux only.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from mpmetrics._log_limit import get_log
from mpmetrics.errors import RunDirectoryError
from mpmetrics.supervisor.account import describe_user, read_account
from mpmetrics.system import select_workers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mpmetrics.directory import RunDirectory
    from mpmetrics.supervisor.account import Account
    from mpmetrics.system import Process

_log = get_log()

_MISSING: Final = 5.0
"""Seconds after which a directory that is missing is made again.

A server that removes it usually makes it at once, and would fail if it were there by then.
"""


_SETTLING: Final = 10.0
"""Seconds after its start in which a process may change its user."""


class DirectoryKeeper:
    """The keeper of one *directory*, which belongs to *account* unless that is None."""

    def __init__(
        self,
        directory: RunDirectory,
        account: Account | None = None,
        *,
        read_account: Callable[[int], Account | None] = read_account,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Look at nothing yet; *read_account* finds the account of a process."""
        self._directory = directory
        self._account = account
        self._read_account = read_account
        self._clock = clock
        self._missing_since: float | None = None
        self._settled: set[int] = set()
        """The users that need nothing, or for whom nothing more can be done."""
        self._seen: dict[int, float] = {}
        """When each process was seen first."""

    def look(self, processes: Sequence[Process]) -> None:
        """Look at the directory, and at the *processes* that descend from this one."""
        try:
            if not os.path.isdir(self._directory.path):
                self._note_missing()
                return
            self._missing_since = None
            if self._directory.has_been_replaced():
                self._settled.clear()
                self._seen.clear()
                if self._account is not None:
                    self._directory.hand_over(self._account.uid, self._account.gid)
            self._serve_writers(processes)
        except FileNotFoundError:
            pass  # it was removed meanwhile: the next look notices that
        except RunDirectoryError as error:
            _log.warning("%s", error)
        except OSError as error:
            _log.warning("%s: %s", self._directory.path, error.strerror)

    def _note_missing(self) -> None:
        """Make the directory again if it has been missing for some time. Raises `OSError`."""
        now = self._clock()
        if self._missing_since is None:
            self._missing_since = now
        elif now >= self._missing_since + _MISSING:
            self._missing_since = None
            self._directory.make_again()
            _log.warning(
                "%s was removed, with what was counted there, and has been made again",
                self._directory.path,
            )

    def _serve_writers(self, processes: Sequence[Process]) -> None:
        """See to it that the processes that write metrics may do so. Raises `OSError`."""
        now = self._clock()
        self._seen = {each.pid: self._seen.get(each.pid, now) for each in processes}
        if all(now > seen + _SETTLING for seen in self._seen.values()):
            return
        for process in list_writers(processes):
            account = self._read_account(process.pid)
            if account is None or account.uid in self._settled:
                continue
            self._settled.add(account.uid)
            if account.may_write(self._directory.path):
                continue
            # If it belongs to another worker's user, that one needs it, too.
            if self._account is None and self._try_to_hand_over(account):
                self._account = account
            else:
                self._complain(process.pid, account)

    def _try_to_hand_over(self, account: Account) -> bool:
        """Give the directory to *account*; return whether that user may write to it now."""
        try:
            self._directory.hand_over(account.uid, account.gid)
            return account.may_write(self._directory.path)
        except PermissionError:
            return False

    def _complain(self, pid: int, account: Account) -> None:
        path, name = self._directory.path, describe_user(account.uid)
        _log.warning(
            "process %d runs as user %s, who may not write metrics to %s: "
            "start mpmetrics run as that user, or give it a directory of that user with --dir",
            *(pid, name, path),
            extra={"kind": str(account.uid)},
        )


def list_writers(processes: Sequence[Process]) -> list[Process]:
    """List those of *processes* that are likely to write metrics, the likeliest first.

    Those are the workers, and the main process, with the one below it for as long as there is only
    one: programs that change the user, such as sudo, stay above the server. Other programs that a
    server starts are none of them.
    """
    running = [process for process in processes if process.is_running]
    chain: list[Process] = []
    parent = os.getpid()
    while len(children := [each for each in running if each.parent == parent]) == 1:
        chain += children
        parent = children[0].pid
    workers = [*select_workers(running)]
    known = {process.pid for process in workers}
    return [*workers, *(process for process in chain if process.pid not in known)]
