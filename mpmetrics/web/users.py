"""The users of a server, and what is remembered of their passwords.

Passwords are compared with bcrypt hashes, which is slow on purpose. A pair of user and password
that was compared is remembered as a keyed hash, so that neither scrapes nor repeated mistakes are
compared each time. A comparison for any user, known or not, takes as much work as one with the
costliest hash: its time does not tell who is a user.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from typing import TYPE_CHECKING, Final

from mpmetrics.web.recent import RecentKeys

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    CheckPassword = Callable[[bytes, bytes], bool]
    """Returns whether a password (first) has a hash (second)."""

_MOST_RIGHT: Final = 100
"""Right pairs of user and password that are remembered."""

_RIGHT_SECONDS: Final = 3600.0
"""Time after its last use that a right pair is remembered: many scrape intervals."""

_MOST_WRONG: Final = 1000
"""Wrong pairs that are remembered; they stay wrong, because the hashes are read once."""

_LONGEST_PASSWORD: Final = 72
"""Bytes of a password that bcrypt looks at; newer releases refuse longer ones."""

# Of a hash, which begins with the algorithm: $2b$10$ and so on.
_COST: Final = slice(4, 6)


def check_bcrypt(password: bytes, hashed: bytes) -> bool:
    """Return whether *hashed* is bcrypt's hash of *password*, after a tenth of a second or more."""
    import bcrypt  # only servers with users need it

    return bcrypt.checkpw(password[:_LONGEST_PASSWORD], hashed)


class Users:
    """The users of a server, with the bcrypt hashes of their passwords by name."""

    def __init__(
        self, users: Mapping[str, bytes], check_password: CheckPassword = check_bcrypt
    ) -> None:
        """Admit these *users*; *check_password* compares a password with a hash."""
        self._users = users
        self._check_password = check_password
        self._key = secrets.token_bytes(32)
        self._right: RecentKeys[bytes] = RecentKeys(_MOST_RIGHT, _RIGHT_SECONDS)
        self._wrong: RecentKeys[bytes] = RecentKeys(_MOST_WRONG, math.inf)
        self._costliest = max(users.values(), key=_cost_of, default=b"")

    def __bool__(self) -> bool:
        """Whether there is any user."""
        return bool(self._users)

    def recall(self, user: str, password: bytes) -> bool | None:
        """Return whether this pair is right, or None if it has to be compared first."""
        digest = self._digest(user, password)
        if digest in self._right:
            self._right.add(digest)
            return True
        return False if digest in self._wrong else None

    def compare(self, user: str, password: bytes) -> bool:
        """Return whether *password* is that of *user*: always with the work of the costliest hash.

        The work of a hash is 2 to the power of its cost. After one of cost 10, further ones of
        the costs 10 and 11 make up the work of cost 12.
        """
        hashed = self._users.get(user, self._costliest)
        is_right = self._check_password(password, hashed)
        for cost in range(_cost_of(hashed), _cost_of(self._costliest)):
            self._check_password(password, _with_cost(self._costliest, cost))
        return is_right and user in self._users

    def remember(self, user: str, password: bytes, *, is_right: bool) -> None:
        """Remember the outcome of `compare`."""
        (self._right if is_right else self._wrong).add(self._digest(user, password))

    def _digest(self, user: str, password: bytes) -> bytes:
        text = b"%d:%b%b" % (len(user.encode()), user.encode(), password)
        return hashlib.blake2b(text, key=self._key).digest()


def _cost_of(hashed: bytes) -> int:
    return int(hashed[_COST])


def _with_cost(hashed: bytes, cost: int) -> bytes:
    """Return *hashed* with another cost, so that it is the hash of no known password."""
    return b"%b%02d%b" % (hashed[: _COST.start], cost, hashed[_COST.stop :])
