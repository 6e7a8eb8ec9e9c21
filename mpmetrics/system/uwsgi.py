"""Whether uWSGI reloads at SIGTERM instead of ending, by its command line.

That is its default, and the opposite of what every supervisor of processes expects.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PROGRAMS: Final = ("uwsgi", "pyuwsgi")
_ENDS: Final = ("die-on-term", "unix_signal:15")
"""What ends it at SIGTERM: the option, and a hook for the signal."""

_CONFIGURATIONS: Final = (".ini", ".yaml", ".yml", ".json", ".xml")
_MOST_BYTES: Final = 1 << 20

UWSGI_ADVICE: Final = "start it with --die-on-term"


def reloads_at_sigterm(arguments: Sequence[str], environment: Mapping[str, str] = {}) -> bool:
    """Return whether a command of these *arguments* is a uWSGI that reloads at SIGTERM.

    Its configuration files, as far as they can be read, and its variables count as well.
    """
    program = next(
        (index for index, each in enumerate(arguments[:3]) if _is_uwsgi(each)), len(arguments)
    )
    options = arguments[program + 1 :]
    if program == len(arguments) or environment.get("UWSGI_DIE_ON_TERM"):
        return False
    texts = [*options, *(_read(_path_of(each)) for each in options if _is_configuration(each))]
    return not any(end in text for text in texts for end in _ENDS)


def _is_uwsgi(argument: str) -> bool:
    """Return whether an *argument* is the program, perhaps behind an interpreter."""
    return os.path.basename(argument).startswith(_PROGRAMS) and not _is_configuration(argument)


def _is_configuration(argument: str) -> bool:
    # A section may follow: config.ini:production.
    return _path_of(argument).endswith(_CONFIGURATIONS)


def _path_of(argument: str) -> str:
    """Return the path in an *argument* such as --ini=config.ini:production."""
    value = argument.partition("=")[2] if argument.startswith("-") else argument
    return value.partition(":")[0]


def _read(path: str) -> str:
    """Return the beginning of the file *path*, "" if it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError):
        return ""
    try:
        return os.read(descriptor, _MOST_BYTES).decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(descriptor)
