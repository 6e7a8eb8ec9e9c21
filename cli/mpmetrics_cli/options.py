"""Arguments and options that several commands share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import click
from click.shell_completion import CompletionItem

from mpmetrics_cli.renamed_option import RenamedOption
from mpmetrics_cli.source_options import SOURCE_OPTIONS, make_url_sources

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mpmetrics.pages import Page, Source
    from mpmetrics.web import WebConfig
    from mpmetrics_cli.source_options import NamedText

    Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Seconds(click.FloatRange):
    """A number of seconds within limits; NaN, which click finds within any limits, is refused."""

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        """Return the number; fail for NaN."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a length of time.", param, ctx)
        return number


def parse_label(text: str) -> tuple[str, str]:
    """Split NAME=VALUE at the first equals sign."""
    name, equals, value = text.partition("=")
    if not equals:
        message = f"{text!r} is not of the form NAME=VALUE"
        raise click.BadParameter(message)
    return name, value


def complete_directory(
    _context: click.Context, _parameter: click.Parameter, begun: str
) -> list[CompletionItem]:
    """Have the shell complete a directory of which a part is *begun*."""
    return [CompletionItem(begun, type="dir")]


def complete_file(
    _context: click.Context, _parameter: click.Parameter, begun: str
) -> list[CompletionItem]:
    """Have the shell complete a file of which a part is *begun*."""
    return [CompletionItem(begun, type="file")]


# Without it the library reads the environment, in the order of prometheus_client.
directory_argument: Final[Decorator] = click.argument(
    "directory", metavar="[DIR]", required=False, shell_complete=complete_directory
)


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
        help="Keep gauges of mode all, one series for each process, when their process has died.",
    ),
    click.option(
        "--gauge-fate",
        "dead_gauges",
        cls=RenamedOption,
        former_names=["--dead-gauges"],
        multiple=True,
        callback=parse_fates,
        metavar="PREFIX=kept|gone",
        help="Whether gauges whose name begins with PREFIX outlive their process, where their "
        "mode is sum, min, max or mostrecent (repeatable; the default is lmcache:=gone).",
    ),
)

report_format_option: Final[Decorator] = click.option(
    "--format",
    "form",
    cls=RenamedOption,
    former_values={"text": "report"},
    type=click.Choice(["report", "json"]),
    default="report",
    show_default=True,
    help="report for people, json for programs.",
)

_SELECTION: Final[tuple[Decorator, ...]] = (
    click.option(
        "--include",
        cls=RenamedOption,
        former_names=["--prefix"],
        multiple=True,
        metavar="PREFIX",
        help="Only metrics whose name begins with PREFIX (repeatable).",
    ),
    click.option(
        "--exclude",
        multiple=True,
        metavar="PREFIX",
        help="No metrics whose name begins with PREFIX (repeatable; beats --include).",
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


_LISTEN: Final = click.option(
    "--listen",
    default="127.0.0.1:9464",
    show_default=True,
    metavar="ADDRESS",
    help="Serve at HOST:PORT, [IPv6]:PORT, :PORT for every interface, or unix:PATH. Port 0 takes a "
    "free one.",
)

_WEB_CONFIG: Final = click.option(
    "--web-config",
    "web_config_file",
    metavar="FILE",
    shell_complete=complete_file,
    help="TLS and passwords, in the format that all Prometheus exporters share.",
)

_SERVING: Final[tuple[Decorator, ...]] = (
    _LISTEN,
    *SOURCE_OPTIONS,
    click.option(
        "--timeout",
        type=Seconds(min=0, min_open=True),
        default=5.0,
        show_default=True,
        metavar="SECONDS",
        help="How long a scrape waits for each source; of a late one the page has the last answer.",
    ),
    _WEB_CONFIG,
)


def listen_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a command that serves only metrics of its own to *command*."""
    return with_options((_LISTEN, _WEB_CONFIG), command)


def serving_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a command that serves a page to *command*."""
    return with_options(_SERVING, command)


def load_web_config(path: str | None) -> WebConfig | None:
    """Return the settings in the file *path*, None without a path. Raises `WebConfigError`."""
    from mpmetrics.web import read_web_config  # `--help` does not wait

    return None if path is None else read_web_config(path)


def make_page(
    sources: Sequence[Source],
    *,
    urls: Sequence[NamedText],
    source_configs: Sequence[NamedText],
    timeout: float,
    include: Sequence[str],
    exclude: Sequence[str],
    labels: Sequence[tuple[str, str]],
    also: Sequence[Source] = (),
    directory_label: str | None = None,
) -> Page:
    """Return the page of *sources*, those *also* given, and *urls*.

    Raises what `Page` and `make_url_sources` raise.
    """
    from mpmetrics.pages import Page

    # An answer that is too late for one scrape serves the next one.
    others = make_url_sources(urls, source_configs, 2 * timeout)
    return Page(
        [*sources, *also, *others],
        include,
        exclude,
        dict(labels),
        timeout=timeout,
        directory_label=directory_label,
    )


def selection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose and label metrics to *command*."""
    return with_options(_SELECTION, command)


def dead_gauges_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for the gauges of dead workers to *command*."""
    return with_options(_DEAD_GAUGES, command)


def with_options(options: Sequence[Decorator], command: Callable[..., Any]) -> Callable[..., Any]:
    """Add *options* to *command*; the help has them in this order."""
    for option in reversed(options):
        command = option(command)
    return command
