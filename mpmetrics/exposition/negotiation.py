"""What a client accepts: formats, compression and waiting time, in the headers of a scrape.

`Accept` and `Accept-Encoding` are those of RFC 9110.

Prometheus lists several formats with falling quality values, each with a version and, since 3.0,
an escaping scheme (https://prometheus.io/docs/instrumenting/content_negotiation/). A client that
accepts none of our formats gets the oldest one: for a scrape, 406 would only be an outage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics.exposition.text import ESCAPING_SCHEMES, UNDERSCORES, Format

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_OPENMETRICS_VERSIONS: Final = ("", "1.0.0")
_TEXT_VERSIONS: Final = ("", "0.0.4", "1.0.0")

_SENDING_SECONDS: Final = 0.5
"""What is left of a client's time to send it the page."""

_SENSIBLE_SECONDS: Final = 1.0


class _Range(NamedTuple):
    """One element of a header: what is accepted, its parameters, its quality value."""

    name: str
    parameters: Mapping[str, str]
    quality: float


def choose_format(accept: str | None) -> Format:
    """Return the format that the `Accept` header asks for most."""
    best = Format()
    best_quality = 0.0
    for accepted in _ranges(accept or ""):
        offer = _OFFERS.get(accepted.name)
        form = offer(accepted.parameters) if offer else None
        # The first of several with the same quality: that is the order of the client.
        if form is not None and accepted.quality > best_quality:
            best, best_quality = form, accepted.quality
    return best


def accepts_gzip(accept_encoding: str | None) -> bool:
    """Tell whether the `Accept-Encoding` header allows gzip."""
    qualities = {accepted.name: accepted.quality for accepted in _ranges(accept_encoding or "")}
    return qualities.get("gzip", qualities.get("*", 0.0)) > 0


def time_limit(scrape_timeout: str | None) -> float | None:
    """Return the seconds that a page may take, None where the client does not say.

    `X-Prometheus-Scrape-Timeout-Seconds` is when Prometheus gives up, so the page has to be
    there earlier; by half a second, as with other exporters. What is no sensible time is passed
    over: scrapes share what is gathered, and nobody shall make it useless for the others.
    """
    try:
        seconds = float(scrape_timeout or "nan")
    except ValueError:
        return None
    return max(seconds - _SENDING_SECONDS, seconds / 2) if seconds >= _SENSIBLE_SECONDS else None


def _openmetrics(parameters: Mapping[str, str]) -> Format | None:
    """Offer OpenMetrics 1.0, if that version is wanted."""
    if parameters.get("version", "") not in _OPENMETRICS_VERSIONS:
        return None
    return Format(openmetrics=True, escaping=_escaping(parameters))


def _text(parameters: Mapping[str, str]) -> Format | None:
    """Offer the text format, if a version that we speak is wanted."""
    version = parameters.get("version", "")
    if version not in _TEXT_VERSIONS:
        return None
    # Version 0.0.4 knows classic names only.
    return Format(escaping=_escaping(parameters) if version == "1.0.0" else UNDERSCORES)


def _escaping(parameters: Mapping[str, str]) -> str:
    """Return the escaping scheme that is asked for, if there is such a scheme."""
    scheme = parameters.get("escaping", UNDERSCORES)
    return scheme if scheme in ESCAPING_SCHEMES else UNDERSCORES


_OFFERS: Final[Mapping[str, Callable[[Mapping[str, str]], Format | None]]] = {
    "application/openmetrics-text": _openmetrics,
    "application/*": _openmetrics,
    "text/plain": _text,
    "text/*": _text,
    "*/*": _text,
}


def _ranges(header: str) -> Iterator[_Range]:
    """Split a header into what it accepts; what cannot be understood is passed over."""
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
