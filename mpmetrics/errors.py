"""What can go wrong, as values and as exceptions.

A thing that goes wrong while a page is made becomes a `Problem` beside the result; an exception
never costs the page. Exceptions are for the caller's own mistakes and for the boundary between
two stages, where the stage above turns them into problems.
"""

from __future__ import annotations

import errno
from typing import ClassVar, Final, NamedTuple

from mpmetrics._text import one_line


class Problem(NamedTuple):
    """One thing that was wrong with the input of a page, and what was left out because of it.

    *path* names the file, directory or source; *reason* is a key of `REASONS`, fit for a label
    value; *detail* is a sentence with the names and numbers involved.
    """

    path: str
    reason: str
    detail: str

    def __str__(self) -> str:
        """Return the problem as one line for a person."""
        return one_line(f"{self.path}: {self.reason}: {self.detail}")


REASONS: Final = {
    "stranger": "not a file of prometheus_client's multiprocess mode; ignored",
    "unreadable": "the file could not be opened or read; left out",
    "vanished": "the file went away between the listing and the reading; left out",
    "leased": "somebody else asks whether the file's worker is alive, for too long; left out",
    "lost_manifest": "an archive, but no MANIFEST that says whether it counts; the newest is taken",
    "damaged_manifest": "the MANIFEST cannot be read; the newest archives are taken",
    "damaged": "the bytes of the file do not follow the format; the whole file is left out",
    "type_conflict": "one family with two types; the first type in file order is kept",
    "mode_conflict": "one gauge with two modes; the first mode in file order is kept",
    "bucket_conflict": "one histogram with two bucket layouts; only shared bounds are kept",
    "duplicate_series": "two processes wrote the same `pid` label; the last in file order is kept",
    "name_clash": "two families would expose the same sample name; the first by name is kept",
    "odd_sample": "a sample that its family's type does not have; the series is left out",
    "directory_lost": "the directory of an engine was gone and has been made anew, empty",
    "help_conflict": "one family with two help texts in a registry tree; the first is kept",
    "repeated_series": "one series twice in a registry tree; the first is kept",
    "callback_failed": "a callback of an engine's page failed; what it gives is left out",
    "source_late": "a source of the page has not answered in time; what it gave last is served",
    "source_failed": "a source of the page raised an error; its families are left out",
}
"""Every reason a `Problem` can have, and what it means for the page."""


class MpmetricsError(Exception):
    """Base class of every error that this package raises on its own account."""


class DamagedError(MpmetricsError, ValueError):
    """Bytes that do not follow the `.db` format.

    *offset* is where the trouble starts, in bytes from the beginning of the file.
    """

    def __init__(self, offset: int, detail: str) -> None:
        """Remember where (*offset*) and what (*detail*)."""
        super().__init__(offset, detail)
        self.offset = offset
        self.detail = detail

    def __str__(self) -> str:
        """Return one line: what is wrong, and at which offset."""
        return f"{self.detail} (at offset {self.offset})"


class NotAMetricsFileError(MpmetricsError, OSError):
    """A *path* that cannot be read as a file: a directory, a socket, a pipe."""

    def __init__(self, path: str) -> None:
        """Remember the *path*."""
        super().__init__(errno.EINVAL, "not a regular file", path)


class _AboutError(MpmetricsError):
    """An error about something with a name, and why it happened."""

    _sentence: ClassVar = "{}: {}"

    def __init__(self, name: str, why: str) -> None:
        """Remember the *name* of what it is about, and *why* that is of no use."""
        super().__init__(name, why)
        self.name = name
        self.why = why

    def __str__(self) -> str:
        """Return one line for a person."""
        return self._sentence.format(self.name, self.why)


class _PathError(_AboutError):
    """An error about a *path*."""

    def __init__(self, path: str, why: str) -> None:
        """Remember the *path* as it was given, and *why* it is of no use."""
        super().__init__(path, why)
        self.path = path


class DirectoryError(_PathError, ValueError):
    """A multiprocess directory that cannot be used: *path* and *why*.

    It is a `ValueError` because prometheus_client's own collector raises that.
    """

    def __str__(self) -> str:
        """Return one line for a person; there may be no path at all."""
        return super().__str__() if self.path else self.why


class CompactionError(_PathError, RuntimeError):
    """A directory that could not be compacted: *path* and *why*. It counts as before."""

    _sentence = "{}: not compacted: {}"


class LabelError(_AboutError, ValueError):
    """A label that may not be injected: *name* and *why*."""

    _sentence = "label {!r}: {}"


class FilterError(MpmetricsError, ValueError):
    """A prefix filter that cannot be meant: empty, or not a string."""


class SourceError(_AboutError, RuntimeError):
    """A source of a page that gave no families: *source* and *why*."""

    def __init__(self, source: str, why: str) -> None:
        """Remember the name of the *source* and *why* it failed."""
        super().__init__(source, why)
        self.source = source


class ListenError(_AboutError, OSError):
    """An address that cannot be listened on: its *name*, as it was given, and *why*."""

    _sentence = "cannot listen on {}: {}"


class WebConfigError(_PathError, ValueError):
    """A web configuration file that cannot be used: *path* and *why*."""


class MissingExtraError(MpmetricsError, ImportError):
    """A package that an optional part needs is not installed: *package*, of the *extra*."""

    def __init__(self, package: str, extra: str) -> None:
        """Remember which *package* is missing and which *extra* brings it."""
        super().__init__(package, extra)
        self.package = package
        self.extra = extra

    def __str__(self) -> str:
        """Return one line that says what to install."""
        return (
            f"the package {self.package} is needed: pip install 'mpmetrics-toolkit[{self.extra}]'"
        )


class RunDirectoryError(_PathError, OSError):
    """A directory that a server cannot be run with: *path* and *why*."""


class CommandError(_AboutError, OSError):
    """A command that cannot be started: its *name*, *why*, and the exit *status* for that."""

    def __init__(self, name: str, why: str, status: int) -> None:
        """Remember the *name* of the command, *why* it does not start, and the exit *status*."""
        super().__init__(name, why)
        self.status = status
