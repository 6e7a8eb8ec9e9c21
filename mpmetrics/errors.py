"""What can go wrong, as values and as exceptions.

What goes wrong while a page is made becomes a `Problem` beside the result; an exception never
costs the page. Exceptions are for the caller's own mistakes and for the boundary between two
stages, where the stage above turns them into problems.

Every exception here derives from `MpmetricsError` and from a standard exception, and keeps its
type, message and attributes when it is pickled to go to another process.
"""

from __future__ import annotations

import errno
from typing import ClassVar, Final, NamedTuple

from mpmetrics._text import one_line


class Problem(NamedTuple):
    """One thing wrong with the input of a page, and what was left out because of it.

    *path* names the file, directory or source. *reason* is a key of `REASONS` and short enough
    for a label value. *detail* is a sentence with the names and numbers involved.
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
    "leased": "another process asks whether the file's worker is alive, for too long; left out",
    "lost_manifest": "an archive, but no MANIFEST that says whether it counts; the newest is taken",
    "damaged_manifest": "the MANIFEST cannot be read; the newest archives are taken",
    "damaged": "the bytes of the file do not follow the format; the whole file is left out",
    "too_large": "a file, or a key in it, that is larger than any that is read; left out",
    "linked": "another name of a file that counts already; left out",
    "type_conflict": "one family with two types; the first type in file order is kept",
    "mode_conflict": "one gauge with two modes; the first mode in file order is kept",
    "bucket_conflict": "one histogram with two bucket layouts; only shared bounds are kept",
    "duplicate_series": "two processes wrote the same `pid` label; the last in file order is kept",
    "name_clash": "two families would expose the same sample name; the first by name is kept",
    "odd_sample": "a sample that its family's type does not have; the series is left out",
    "directory_lost": "the directory of an engine was missing and has been recreated, empty",
    "help_conflict": "one family with two help texts in a registry tree; the first is kept",
    "repeated_series": "one series twice among sources or in one; the first is kept",
    "callback_failed": "a callback of an engine's page failed; what it gives is left out",
    "uncompacted": "a compaction in the background failed; dead workers' files count as before",
    "source_late": "a source of the page has not answered in time; what it gave last is served",
    "source_failed": "a source of the page raised an error; its families are left out",
}
"""Every reason a `Problem` can have, and what it means for the page."""


class MpmetricsError(Exception):
    """Base class of every error that mpmetrics itself raises."""


class DamagedError(MpmetricsError, ValueError):
    """Bytes that do not follow the `.db` format.

    *offset* is the position of the first wrong byte, counted from the beginning of the file.
    """

    def __init__(self, offset: int, detail: str) -> None:
        """Take the *offset*, and what is wrong there (*detail*)."""
        super().__init__(offset, detail)
        self.offset = offset
        self.detail = detail

    def __str__(self) -> str:
        """Return one line: what is wrong, and at which offset."""
        return f"{self.detail} (at offset {self.offset})"


class TooLargeError(DamagedError):
    """Bytes that may follow the `.db` format, but are more than is read of one file."""


class NotAMetricsFileError(MpmetricsError, OSError):
    """A *path* that cannot be read as a file: a directory, a socket, a pipe."""

    def __init__(self, path: str) -> None:
        """Take the *path*; the error number is `EINVAL`."""
        super().__init__(errno.EINVAL, "not a regular file", path)

    def __reduce__(self) -> tuple[type[NotAMetricsFileError], tuple[str]]:
        """Return how to make the error again: not from `args`, which are those of `OSError`."""
        return type(self), (self.filename,)


class _AboutError(MpmetricsError):
    """An error about a thing that has a *name*, with the reason (*why*)."""

    _sentence: ClassVar = "{}: {}"

    def __init__(self, name: str, why: str) -> None:
        """Take the *name* of the thing, and *why* it cannot be used."""
        super().__init__(name, why)
        self.name = name
        self.why = why

    def __str__(self) -> str:
        """Return one line for a person."""
        return self._sentence.format(self.name, self.why)


class _PathError(_AboutError):
    """An error about a *path*, with the reason (*why*)."""

    def __init__(self, path: str, why: str) -> None:
        """Take the *path* as the caller gave it, and *why* it cannot be used."""
        super().__init__(path, why)
        self.path = path


class DirectoryError(_PathError, ValueError):
    """A multiprocess directory that cannot be used: *path* and *why*.

    It is a `ValueError` because prometheus_client's own collector raises that.
    """

    def __str__(self) -> str:
        """Return one line for a person; without a path, that is the reason alone."""
        return super().__str__() if self.path else self.why


class CompactionError(_PathError, RuntimeError):
    """A directory that could not be compacted: *path* and *why*.

    Every file of it still counts as it did before.
    """

    _sentence = "{}: not compacted: {}"


class LabelError(_AboutError, ValueError):
    """A label that may not be injected: *name* and *why*."""

    _sentence = "label {!r}: {}"


class FilterError(MpmetricsError, ValueError):
    """A prefix filter that cannot be used: empty, not a string, or given under two names."""


class SourceError(_AboutError, RuntimeError):
    """A *source* that no page can have, or that failed to return families, and *why*."""

    def __init__(self, source: str, why: str) -> None:
        """Take the name of the *source*, and *why* it failed."""
        super().__init__(source, why)
        self.source = source


class PageError(MpmetricsError, ValueError):
    """A page that Prometheus would refuse: the *number* of the first bad *line*, and *why*.

    *line* is shortened to 80 characters.
    """

    _LONGEST = 80

    def __init__(self, number: int, line: str, why: str) -> None:
        """Take the *number* of the line, counted from 1, the *line* itself, and *why*."""
        shortened = line if len(line) <= self._LONGEST else f"{line[: self._LONGEST]}…"
        super().__init__(number, shortened, why)
        self.number = number
        self.line = shortened
        self.why = why

    def __str__(self) -> str:
        """Return one line for a person."""
        return f"line {self.number}: {self.why}: {one_line(self.line)}"


class ListenError(_AboutError, OSError):
    """An address that no socket can listen on: its *name* as the caller gave it, and *why*.

    The address is in use, is not of this machine, or needs rights that this process lacks.
    """

    _sentence = "cannot listen on {}: {}"


class SourceConfigError(_PathError, ValueError):
    """A configuration of a source's requests that cannot be used: its *path* and *why*."""


class WebConfigError(_PathError, ValueError):
    """A web configuration file that cannot be used: *path* and *why*."""


class MissingExtraError(MpmetricsError, ImportError):
    """A missing *package*, which an optional part needs and the *extra* installs."""

    def __init__(self, package: str, extra: str) -> None:
        """Take the name of the missing *package*, and the *extra* that installs it."""
        super().__init__(package, extra)
        self.package = package
        self.extra = extra

    def __str__(self) -> str:
        """Return one line that says what to install, where the distribution comes from."""
        return (
            f"the package {self.package} is needed, which the extra {self.extra!r} brings: "
            f"pip install '.[{self.extra}]' in a clone of mpmetrics"
        )


class UnsupportedReleaseError(MpmetricsError, ImportError):
    """A *release* of a *package* that lacks a part which is used, and *why* it cannot be used."""

    def __init__(self, package: str, release: str, why: str) -> None:
        """Take the name of the *package*, its *release*, and *why* it cannot be used."""
        super().__init__(package, release, why)
        self.package = package
        self.release = release
        self.why = why

    def __str__(self) -> str:
        """Return one line that says what is missing."""
        package = f"{self.package} {self.release}".strip()
        return f"{package} cannot be used: {self.why}; see pyproject.toml for the releases that can"


class RunDirectoryError(_PathError, OSError):
    """A directory that `mpmetrics run` cannot give to a server: *path* and *why*.

    It is a run directory that cannot be made, or a directory that was named and cannot be used.
    """


class AccountError(_AboutError, ValueError):
    """A user or group that a command cannot be run as: its *name* as it was given, and *why*."""


class CommandError(_AboutError, OSError):
    """A command that cannot be started: its *name*, *why*, and the exit *status* to end with.

    A shell ends with the same *status* for the same reason: 127 if it does not find the command.
    """

    def __init__(self, name: str, why: str, status: int) -> None:
        """Take the *name* of the command, *why* it does not start, and the exit *status*."""
        super().__init__(name, why)
        self.status = status

    def __reduce__(self) -> tuple[type[CommandError], tuple[str, str, int]]:
        """Return how to make the error again: `args` lack the *status*."""
        return type(self), (self.name, self.why, self.status)
