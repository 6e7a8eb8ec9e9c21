"""Content negotiation: the format, compression and time limit that a scrape's headers ask for.

`Accept` and `Accept-Encoding` are those of RFC 9110.

Prometheus lists several formats with falling quality values, each with a version and, since 3.0,
an escaping scheme (https://prometheus.io/docs/instrumenting/content_negotiation/). A client that
accepts none of our formats gets the oldest one: a status of 406 would fail the whole scrape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics.exposition.escaping import ESCAPING_SCHEMES, UNDERSCORES
from mpmetrics.exposition.formats import Format

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_OPENMETRICS_VERSIONS: Final = ("", "1.0.0")
_TEXT_VERSIONS: Final = ("", "0.0.4", "1.0.0")

_SENDING_SECONDS: Final = 0.5
"""The part of a client's time limit that is kept for sending the page."""

_SHORTEST_LIMIT: Final = 1.0
"""The seconds below which a client's time limit is ignored."""


class _Range(NamedTuple):
    """One element of a header: the *name* of what is accepted, its parameters and quality value."""

    name: str
    parameters: Mapping[str, str]
    quality: float


def choose_format(accept: str | None) -> Format:
    """Return the format that the `Accept` header prefers."""
    best = Format()
    best_quality = 0.0
    for accepted in _ranges(accept or ""):
        offer = _OFFERS.get(accepted.name)
        form = offer(accepted.parameters) if offer else None
        # Of several with the same quality the first: the client lists them in its own order.
        if form is not None and accepted.quality > best_quality:
            best, best_quality = form, accepted.quality
    return best


def accepts_gzip(accept_encoding: str | None) -> bool:
    """Return whether the `Accept-Encoding` header allows gzip."""
    qualities = {accepted.name: accepted.quality for accepted in _ranges(accept_encoding or "")}
    return qualities.get("gzip", qualities.get("*", 0.0)) > 0


def time_limit(scrape_timeout: str | None) -> float | None:
    """Return the seconds that a page may take, None if the client sets no limit.

    Prometheus gives up after the seconds in `X-Prometheus-Scrape-Timeout-Seconds`, so the page
    has to be there earlier: by half a second, as in other exporters. A limit below one second, or
    that is no number, is ignored: concurrent scrapes share one page, and a client with such a
    limit would spoil it for the others.
    """
    try:
        seconds = float(scrape_timeout or "nan")
    except ValueError:
        return None
    return max(seconds - _SENDING_SECONDS, seconds / 2) if seconds >= _SHORTEST_LIMIT else None


def _offer_openmetrics(parameters: Mapping[str, str]) -> Format | None:
    """Return OpenMetrics 1.0 if the client accepts that version, else None."""
    if parameters.get("version", "") not in _OPENMETRICS_VERSIONS:
        return None
    return Format(openmetrics=True, escaping=_escaping(parameters))


def _offer_text(parameters: Mapping[str, str]) -> Format | None:
    """Return the text format if the client accepts one of its versions, else None."""
    version = parameters.get("version", "")
    if version not in _TEXT_VERSIONS:
        return None
    # Version 0.0.4 knows classic names only.
    return Format(escaping=_escaping(parameters) if version == "1.0.0" else UNDERSCORES)


def _escaping(parameters: Mapping[str, str]) -> str:
    """Return the escaping scheme that the client asks for, or underscores if it is unknown."""
    scheme = parameters.get("escaping", UNDERSCORES)
    return scheme if scheme in ESCAPING_SCHEMES else UNDERSCORES


_OFFERS: Final[Mapping[str, Callable[[Mapping[str, str]], Format | None]]] = {
    "application/openmetrics-text": _offer_openmetrics,
    "application/*": _offer_openmetrics,
    "text/plain": _offer_text,
    "text/*": _offer_text,
    "*/*": _offer_text,
}


def _ranges(header: str) -> Iterator[_Range]:
    """Yield the elements of a header; skip those with a quality value that is not valid."""
    for element in header.split(","):
        name, *pairs = (part.strip() for part in element.split(";"))
        parameters = {}
        for pair in pairs:
            key, _, value = pair.partition("=")
            parameters[key.strip().lower()] = value.strip().strip('"')
        try:
            quality = float(parameters.pop("q", "1"))
        except ValueError:
            continue
        if name and 0 <= quality <= 1:
            yield _Range(name.lower(), parameters, quality)
