"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mpmetrics.environment import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class LabelType(click.ParamType):
    """A label as NAME=VALUE."""

    name = "name=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Split at the first equals sign."""
        if isinstance(value, tuple):
            return value
        name, equals, text = str(value).partition("=")
        if not equals:
            self.fail(f"{value!r} is not of the form NAME=VALUE", param, ctx)
        return name, text


def directory_argument() -> Decorator:
    """Return the argument DIR."""
    return click.argument("directory", metavar="[DIR]", required=False, envvar=VARIABLE)


def selection_options() -> Decorator:
    """Return the options that choose and label families."""
    options = (
        click.option(
            "--prefix",
            "include",
            multiple=True,
            metavar="PREFIX",
            help="Only families whose name begins with PREFIX (repeatable).",
        ),
        click.option(
            "--exclude",
            multiple=True,
            metavar="PREFIX",
            help="No families whose name begins with PREFIX (repeatable; beats --prefix).",
        ),
        click.option(
            "--label",
            "labels",
            multiple=True,
            type=LabelType(),
            help="Add this label to every series that does not have it (repeatable).",
        ),
    )

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
