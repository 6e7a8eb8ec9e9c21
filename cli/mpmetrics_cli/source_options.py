"""The options for other exporters' pages: their URLs, names and configuration files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from mpmetrics.pages import UrlSource

    Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class NamedText(NamedTuple):
    """A *text* with a *name*, which is "" if none was given."""

    name: str
    text: str


def parse_source(text: str) -> NamedText:
    """Split [NAME=]URL; a URL may have equals signs itself."""
    name, equals, url = text.partition("=")
    if equals and "://" not in name:
        if not name:
            # Not with the text: it may have a password.
            message = "the name before the equals sign is empty"
            raise click.BadParameter(message)
        return NamedText(name, url)
    return NamedText("", text)


def parse_source_config(text: str) -> NamedText:
    """Split [NAME=]FILE at the first equals sign."""
    name, equals, path = text.partition("=")
    return NamedText(name, path) if equals else NamedText("", text)


SOURCE_OPTIONS: Final[tuple[Decorator, ...]] = (
    click.option(
        "--source",
        "urls",
        multiple=True,
        type=parse_source,
        metavar="[NAME=]URL",
        help="Add the page of another exporter, called NAME in mpmetrics_source_up (repeatable).",
    ),
    click.option(
        "--source-config",
        "source_configs",
        multiple=True,
        type=parse_source_config,
        metavar="[NAME=]FILE",
        help="Passwords, tokens and TLS for the source NAME: YAML with the fields of Prometheus' "
        "http_config (repeatable). NAME may be left out if there is one source.",
    ),
)


def make_url_sources(
    urls: Sequence[NamedText], configs: Sequence[NamedText], timeout: float
) -> list[UrlSource]:
    """Return the sources of *urls*, each with the file of its name among *configs*.

    Raises `click.UsageError`, or what `UrlSource` raises.
    """
    from mpmetrics.pages import UrlSource

    files: dict[str, str] = {}
    for name, path in configs:
        if not name and len(urls) != 1:
            message = "--source-config needs a name, as in NAME=FILE, unless there is one --source"
            raise click.UsageError(message)
        key = name or urls[0].name
        if [each.name for each in urls].count(key) != 1 or key in files:
            message = f"--source-config {name}=…: there is not just one --source {name}=…"
            raise click.UsageError(message)
        files[key] = path
    return [
        UrlSource(url, timeout=timeout, name=name, config=files.get(name)) for name, url in urls
    ]
