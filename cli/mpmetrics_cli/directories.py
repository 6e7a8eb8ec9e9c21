"""The arguments and options of commands that read several directories."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from mpmetrics_cli.options import complete_directory, with_options
from mpmetrics_cli.streams import write_message

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mpmetrics.pages import Source
    from mpmetrics.scrape import NamedDirectory
    from mpmetrics_cli.options import Decorator

METAVAR: Final = "[NAME=]DIR"


class DirectoryArgument(NamedTuple):
    """The *path* of a directory, and its *name* on the page, "" for none."""

    path: str
    name: str = ""


def parse_directory(text: str) -> DirectoryArgument:
    """Split [NAME=]DIR; a path with an equals sign behind a slash has no name before it."""
    name, equals, path = text.partition("=")
    if not equals or os.sep in name:
        return DirectoryArgument(text)
    if not name or not path:
        message = f"{text!r} is not of the form NAME=DIR; a path may begin with ./"
        raise click.BadParameter(message)
    return DirectoryArgument(path, name)


_directories: Final[Decorator] = click.argument(
    "directories",
    metavar=f"[{METAVAR}]...",
    nargs=-1,
    type=parse_directory,
    shell_complete=complete_directory,
)

also_option: Final[Decorator] = click.option(
    "--also",
    "directories",
    multiple=True,
    type=parse_directory,
    shell_complete=complete_directory,
    metavar=METAVAR,
    help="Merge DIR, too, which others write to (repeatable).",
)

_SEVERAL: Final[tuple[Decorator, ...]] = (
    click.option(
        "--each",
        "parents",
        multiple=True,
        type=parse_directory,
        shell_complete=complete_directory,
        metavar=METAVAR,
        help="Merge every sub-directory of DIR, such as those of containers, which may come and go "
        "(repeatable).",
    ),
    click.option(
        "--directory-label",
        metavar="NAME",
        help="Tell the processes of several directories apart by this label instead of "
        "`directory`; its values are the names of the directories, or their paths.",
    ),
)


def directories_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an argument for several directories, and the options for them, to *command*."""
    return _directories(several_options(command))


def several_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for several directories to *command*."""
    return with_options(_SEVERAL, command)


def make_sources(
    directories: Sequence[DirectoryArgument], parents: Sequence[DirectoryArgument]
) -> list[Source]:
    """Return the sources of a page: the *directories*, and the sub-directories of the *parents*.

    Write which of them do not exist yet. Raises `DirectoryError` for those that cannot come to be.
    """
    from mpmetrics.directory import expect_directory
    from mpmetrics.pages import DirectorySource, SubdirectoriesSource

    for path, _ in [*directories, *parents]:
        _, why = expect_directory(path)
        if why:
            write_message(f"waiting for {path} ({why}): its metrics come as soon as it is there")
    return [
        *(DirectorySource(path, name=name, liveness=True) for path, name in directories),
        *(SubdirectoriesSource(path, name=name, liveness=True) for path, name in parents),
    ]


def from_environment() -> list[DirectoryArgument]:
    """Return the directory that the environment names. Raises `DirectoryError` if there is none."""
    from mpmetrics.directory import resolve_directory

    return [DirectoryArgument(resolve_directory(None))]


def list_directories(
    directories: Sequence[DirectoryArgument], parents: Sequence[DirectoryArgument]
) -> list[NamedDirectory]:
    """Return the *directories*, and the sub-directories that the *parents* have now.

    Raises `DirectoryError`.
    """
    from mpmetrics.scrape import NamedDirectory, join_names, list_subdirectories

    found = [NamedDirectory(path, name) for path, name in directories]
    for parent, name in parents:
        for each in list_subdirectories(parent):
            path = f"{parent}{os.sep}{each}" if each else parent
            found.append(NamedDirectory(path, join_names(name, each)))
    return found
