"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def parse_label(text: str) -> tuple[str, str]:
    """Split NAME=VALUE at the first equals sign."""
    name, equals, value = text.partition("=")
    if not equals:
        message = f"{text!r} is not of the form NAME=VALUE"
        raise click.BadParameter(message)
    return name, value


# Without it the library asks the environment, in the order that prometheus_client has.
directory_argument: Final[Decorator] = click.argument("directory", metavar="[DIR]", required=False)

_SELECTION: Final[tuple[Decorator, ...]] = (
    click.option(
        "--prefix",
        "include",
        multiple=True,
        metavar="PREFIX",
        help="Only metrics whose name begins with PREFIX (repeatable).",
    ),
    click.option(
        "--exclude",
        multiple=True,
        metavar="PREFIX",
        help="No metrics whose name begins with PREFIX (repeatable; beats --prefix).",
    ),
    click.option(
        "--label",
        "labels",
        multiple=True,
        type=parse_label,
        metavar="NAME=VALUE",
        help="Add this label to every series that does not have it (repeatable).",
    ),
)


def selection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose and label metrics to *command*."""
    for option in reversed(_SELECTION):
        command = option(command)
    return command
