"""The exit statuses of the command.

Several meanings share a number: a caller that has to tell them apart reads standard error.
"""

from __future__ import annotations

from signal import SIGINT
from typing import Final

OK: Final = 0
"""The command has done what it was asked to."""

FINDINGS: Final = 1
"""The command was asked to report problems by its status, and there are some."""

FAILED: Final = 1
"""The command could not do its work, or could not go on."""

UNWRITABLE: Final = 1
"""The output could not be written."""

USAGE: Final = 2
"""The call has a mistake: an option, an argument, a directory that does not exist."""

# A shell reports a process that a signal has ended as 128 and the number of the signal. Windows
# has no SIGPIPE, and no other number for it.
_BY_SIGNAL: Final = 128
_SIGPIPE: Final = 13

INTERRUPTED: Final = _BY_SIGNAL + SIGINT
"""The command was interrupted, by Ctrl-C for example."""

READER_GONE: Final = _BY_SIGNAL + _SIGPIPE
"""The reader of the output has closed it."""
