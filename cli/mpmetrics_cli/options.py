"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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


def parse_fates(
    _context: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]
) -> dict[str, str]:
    """Turn each PREFIX=FATE into an entry of a table."""
    fates = {}
    for text in texts:
        prefix, _, fate = text.rpartition("=")
        if not prefix or fate not in {"kept", "gone"}:
            message = f"{text!r} is neither PREFIX=kept nor PREFIX=gone"
            raise click.BadParameter(message)
        fates[prefix] = fate
    return fates


_DEAD_GAUGES: Final[tuple[Decorator, ...]] = (
    click.option(
        "--keep-dead-gauges",
        is_flag=True,
        help="Leave gauges of mode all, one series for each process, when the process has died.",
    ),
    click.option(
        "--dead-gauges",
        multiple=True,
        callback=parse_fates,
        metavar="PREFIX=kept|gone",
        help="Whether gauges whose name begins with PREFIX outlive their process, where their "
        "mode is sum, min, max or mostrecent (repeatable; the default is lmcache:=gone).",
    ),
)

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
    return _with_options(_SELECTION, command)


def dead_gauges_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say what becomes of dead workers' gauges to *command*."""
    return _with_options(_DEAD_GAUGES, command)


def _with_options(options: Sequence[Decorator], command: Callable[..., Any]) -> Callable[..., Any]:
    """Add *options*, in the order in which the help shall have them."""
    for option in reversed(options):
        command = option(command)
    return command
