"""The users that processes of a server run as."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

from mpmetrics.supervisor.account import (
    Account,
    describe_user,
    find_account,
    foresee_account,
    read_account,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="run needs Linux")

FORESEEN = [
    ("gunicorn --user 65534 app", 65534),
    ("gunicorn --user=65534 app", 65534),
    ("/usr/bin/gunicorn -u 65534 app", 65534),
    ("python -m gunicorn -w 2 -u 1 --user 65534 app", 65534),
    ("celery -A tasks worker --uid=65534", 65534),
    ("uwsgi --http :80 --uid 65534 --gid 65534", 65534),
    ("hypercorn -u 65534 app", 65534),
    ("gunicorn -u65534 -g65534 app", 65534),
    ("gunicorn -u 1 -uroot app", 0),
    ("hypercorn -u65534 app", 65534),
    ("celery -A tasks worker -u65534", None),
    ("gunicorn --unknown app", None),
    ("gunicorn app", None),
    ("gunicorn --user", None),
    ("gunicorn --user not-a-user app", None),
    ("python -u 65534", None),
    ("psql --user 65534 gunicorn", None),
]


@pytest.mark.parametrize(("line", "uid"), FORESEEN)
def test_a_command_line_tells_who_the_workers_will_be(line: str, uid: int | None) -> None:
    """The user of the workers is known from the options of servers that have such options."""
    account = foresee_account(line.split(), {})
    assert (account and account.uid) == uid


VARIABLES = [("--user 65534", 65534), ("--user '", None), ("--bind :80", None)]


@pytest.mark.parametrize(("value", "uid"), VARIABLES)
def test_a_variable_tells_who_the_workers_will_be(value: str, uid: int | None) -> None:
    """Gunicorn takes options from a variable, too; the command line beats it."""
    variables = {"GUNICORN_CMD_ARGS": value}
    account = foresee_account(["gunicorn", "app"], variables)
    assert (account and account.uid) == uid
    account = foresee_account(["gunicorn", "--user", "1", "app"], variables)
    assert account is not None
    assert account.uid == 1


MODES = [
    (0o700, Account(7, 7), False),
    (0o777, Account(7, 7), True),
    (0o770, Account(7, 7), False),
    (0o770, Account(7, 9), True),
    (0o770, Account(7, 7, (8, 9)), True),
    (0o757, Account(7, 9), False),
    (0o000, Account(0, 0), True),
]


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="needs root to chown")
@pytest.mark.parametrize(("mode", "account", "may"), MODES)
def test_permissions_decide_who_may_write(mode: int, account: Account, *, may: bool) -> None:
    """A user may write by the permissions of user, group, or others, of which one set counts."""
    base = "/tmp"  # noqa: S108 - every user may look into it, unlike into pytest's own
    with tempfile.TemporaryDirectory(dir=base) as directory:
        os.chown(directory, 5, 9)
        Path(directory).chmod(mode)
        assert account.may_write(directory) is may
        os.chown(directory, account.uid, 9)
        Path(directory).chmod(0o300)
        assert account.may_write(directory)


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="needs root to chown")
def test_a_directory_above_may_be_closed(tmp_path: Path) -> None:
    """A user may not write where a directory above is closed, whatever the last one permits."""
    place = tmp_path / "closed" / "open"
    place.mkdir(parents=True)
    place.chmod(0o777)
    place.parent.chmod(0o700)
    assert not Account(7, 7).may_write(str(place))


def test_the_account_of_a_process_is_read() -> None:
    """The account of a process is what it has effectively; there is none once it has ended."""
    account = read_account(os.getpid())
    assert account is not None
    assert (account.uid, account.gid) == (os.geteuid(), os.getegid())
    assert {*account.groups} == {*os.getgroups()}
    assert read_account(1 << 22) is None


def test_accounts_by_name_and_number() -> None:
    """A user is found by its name and by its number; a number that has no name will do."""
    by_number, by_name = find_account("0"), find_account(describe_user(0))
    assert by_number == by_name
    assert (by_name.uid, by_name.gid) == (0, 0)
    assert by_name.variables["LOGNAME"] == by_name.name
    unnamed = find_account("123456789", "987654321")
    assert unnamed == Account(123456789, 987654321, (987654321,))
    assert (unnamed.variables, describe_user(123456789)) == ({}, "123456789")
