"""Whether uWSGI ends at SIGTERM."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mpmetrics.system.uwsgi import reloads_at_sigterm

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("uwsgi --master -p 2 --wsgi-file app.py", True),
        ("/usr/bin/uwsgi_python3 --master", True),
        ("python3 /venv/bin/uwsgi --master", True),
        ("python3 -m pyuwsgi --master", True),
        ("uwsgi --master --die-on-term", False),
        ("uwsgi --master --die-on-term=1", False),
        ("uwsgi --set die-on-term=true", False),
        ("uwsgi --hook-master-start unix_signal:15_gracefully_kill_them_all", False),
        ("gunicorn app:wsgi", False),
        ("python3 -m gunicorn uwsgi:app", False),
        ("cat uwsgi.ini", False),
        ("uwsgi missing.ini", True),
        ("uwsgi ending.ini", False),
        ("uwsgi --ini ending.ini:production", False),
        ("uwsgi --ini=ending.ini", False),
        ("uwsgi --yaml reloading.yaml", True),
        ("uwsgi .", True),
    ],
)
def test_a_command_line_tells(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, expected: bool
) -> None:
    """UWSGI reloads unless an option, a hook or its configuration says otherwise."""
    (tmp_path / "ending.ini").write_text("[uwsgi]\ndie-on-term = true\n")
    (tmp_path / "reloading.yaml").write_text("uwsgi:\n  master: true\n")
    monkeypatch.chdir(tmp_path)
    assert reloads_at_sigterm(command.split()) is expected


def test_a_variable_of_uwsgi_counts() -> None:
    """UWSGI takes its options from variables, too."""
    assert not reloads_at_sigterm(["uwsgi"], {"UWSGI_DIE_ON_TERM": "1"})
    assert not reloads_at_sigterm([])
