"""The users that processes of a server run as, and what they may write to.

Some servers are told to change their user: their workers then write metrics as that user.
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics.errors import AccountError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SWITCHES: Final[Mapping[str, tuple[frozenset[str], frozenset[str]]]] = {
    "gunicorn": (frozenset({"-u", "--user"}), frozenset({"-g", "--group"})),
    "hypercorn": (frozenset({"-u", "--user"}), frozenset({"-g", "--group"})),
    "uwsgi": (frozenset({"--uid"}), frozenset({"--gid"})),
    "celery": (frozenset({"--uid"}), frozenset({"--gid"})),
}
"""The options by which servers are told the user and the group of their workers."""

_VARIABLES: Final[Mapping[str, str]] = {"gunicorn": "GUNICORN_CMD_ARGS"}
"""The variables from which servers take further options."""


class Account(NamedTuple):
    """A user *uid* with the main group *gid* and all *groups*, a *name* and a *home* directory."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    name: str = ""
    home: str = ""

    @property
    def variables(self) -> Mapping[str, str]:
        """The variables of the environment that belong to a user."""
        if not self.name:
            return {}
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name}

    def may_write(self, path: str) -> bool:
        """Return whether the user may make files in the directory *path*, by its permissions.

        Raises `OSError` if there is no such directory.
        """
        parents = [path]
        while (parent := os.path.dirname(parents[-1])) != parents[-1]:
            parents.append(parent)
        needed = [0o3, *[0o1] * (len(parents) - 1)]
        return all(self._may(*each) for each in zip(parents, needed, strict=True))

    def _may(self, path: str, needed: int) -> bool:
        status = os.stat(path)
        if self.uid == 0 or _has_acl(path):
            return True
        if status.st_uid == self.uid:
            shift = 6
        else:
            shift = 3 if status.st_gid in {self.gid, *self.groups} else 0
        return (status.st_mode >> shift) & needed == needed


def find_account(user: str, group: str = "") -> Account:
    """Return the account of *user* and *group*, names or numbers; "" stands for this process's own.

    Raises `AccountError`.
    """
    import grp  # noqa: PLC0415 - not on every system
    import pwd  # noqa: PLC0415 - not on every system

    uid, gid, name, home = os.geteuid(), os.getegid(), "", ""
    if user:
        try:
            entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
        except (KeyError, OverflowError):
            if not user.isdecimal():
                raise AccountError(user, "there is no such user") from None
            uid = gid = int(user)
        else:
            uid, gid, name, home = entry.pw_uid, entry.pw_gid, entry.pw_name, entry.pw_dir
    if group:
        try:
            gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
        except KeyError:
            raise AccountError(group, "there is no such group") from None
    if max(uid, gid) >= _NO_ID:
        raise AccountError(user or group, "the number is too large")
    groups = os.getgrouplist(name, gid) if name else [gid]
    return Account(uid, gid, tuple(groups), name, home)


_NO_ID: Final = 0xFFFFFFFF
"""The number that no user and no group has."""


def foresee_account(command: Sequence[str], environment: Mapping[str, str]) -> Account | None:
    """Return the account that the *command* tells a server to run its workers as, None if none.

    Only command lines of servers that are known for it count, and `GUNICORN_CMD_ARGS`.
    """
    for position, word in enumerate(command):
        program = os.path.basename(word)
        if program in _SWITCHES:
            more = _split(environment.get(_VARIABLES.get(program, ""), ""))
            users, groups = _SWITCHES[program]
            arguments = [*more, *command[position + 1 :]]
            user, group = _find_value(arguments, users), _find_value(arguments, groups)
            if not user:
                return None
            try:
                return find_account(user, group)
            except AccountError:  # the server will say it
                return None
    return None


def read_account(pid: int) -> Account | None:
    """Return the account that process *pid* has effectively, None if it has ended."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            fields = dict(line.split(b":", 1) for line in file if b":" in line)
        # Real, effective, saved, and that for files, which follows the effective one.
        uid, gid = (int(fields[name].split()[3]) for name in (b"Uid", b"Gid"))
        return Account(uid, gid, tuple(map(int, fields[b"Groups"].split())))
    except (OSError, ValueError, KeyError, IndexError):
        return None


def describe_user(uid: int) -> str:
    """Return what the user *uid* is called."""
    import pwd  # noqa: PLC0415 - not on every system

    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)


def _find_value(arguments: Sequence[str], names: frozenset[str]) -> str:
    """Return the value of the last option in *arguments* with one of *names*, "" without one."""
    found = ""
    for word, following in zip(arguments, [*arguments[1:], ""], strict=False):
        name, _, value = word.partition("=")
        if word in names:
            found = following
        elif name in names:
            found = value
        elif word[:2] in names and not word.startswith("--"):
            found = word[2:]
    return found


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return []


def _has_acl(path: str) -> bool:
    """Return whether more than the permissions decides who may write to *path*."""
    try:
        return "system.posix_acl_access" in os.listxattr(path)
    except OSError:
        return False
