"""A source that is another exporter's page, behind a URL."""

from __future__ import annotations

import time
import zlib
from typing import TYPE_CHECKING, Final

from mpmetrics.errors import PageError, SourceError
from mpmetrics.pages.http_client import HttpError, has_secret, open_url, parse_url, time_left
from mpmetrics.pages.http_config import HttpSettings
from mpmetrics.pages.text_source import as_gathered
from mpmetrics.parsing import Limits, PageReader

if TYPE_CHECKING:
    import http.client
    from collections.abc import Iterator

    from mpmetrics.pages.http_config import HttpConfigLike
    from mpmetrics.pages.source import Gathered
    from mpmetrics.parsing import ParsedPage

DEFAULT_TIMEOUT: Final = 5.0
"""Seconds that another exporter has to answer."""

LARGEST_PAGE: Final = 64 << 20
"""The most bytes of another exporter's page, uncompressed, that are read."""

_CHUNK: Final = 1 << 16
_LONGEST_LENGTH: Final = 20
_OPENMETRICS: Final = "application/openmetrics-text"
_GZIP: Final = ("gzip", "x-gzip")
_GZIP_FORMAT: Final = 16 + zlib.MAX_WBITS
_ACCEPT: Final = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=1.0.0;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
)
_HEADERS: Final = {"Accept": _ACCEPT, "Accept-Encoding": "gzip", "User-Agent": "mpmetrics"}


class UrlSource:
    """Another exporter's page."""

    in_process = False

    def __init__(
        self,
        url: str,
        timeout: float = DEFAULT_TIMEOUT,
        largest: int = LARGEST_PAGE,
        *,
        name: str = "",
        config: HttpConfigLike = None,
    ) -> None:
        """Configure only; *url* is http or https, and may have a user and a password.

        The server has *timeout* seconds for its whole answer, and so has the parsing of its page,
        which may have *largest* bytes, uncompressed. The *name* is by default the URL without
        user, password and query. *config* is the path of a YAML file with the fields of
        Prometheus' `http_config`, or these fields.

        Raises `SourceError` for other schemes, and `SourceConfigError`.
        """
        try:
            self._url = parse_url(url)
        except HttpError as error:
            raise SourceError(name or _shown(url), str(error)) from None
        self.name = name or self._url.name
        self._timeout = timeout
        self._largest = largest
        self._settings = HttpSettings(config)

    def gather(self) -> Gathered:
        """Fetch and parse. Raises `OSError`, `SourceError`, `SourceConfigError` or `PageError`."""
        deadline = time.monotonic() + self._timeout
        try:
            with open_url(self._url, self._settings, _HEADERS, deadline) as response:
                return as_gathered(self.name, self._parse(response, deadline))
        except TimeoutError:
            raise SourceError(self.name, f"its page took more than {self._timeout:g} s") from None
        except PageError as error:
            # An exporter, or a proxy before it, may answer with a page that repeats the request.
            if has_secret(str(error), self._url, self._settings.read()):
                why = "Prometheus would refuse it; it may have a password or a query of the request"
                raise PageError(error.number, "it is not shown", why) from None
            raise
        except HttpError as error:
            raise SourceError(self.name, str(error)) from None

    def _parse(self, response: http.client.HTTPResponse, deadline: float) -> ParsedPage:
        """Parse the page while it comes."""
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        samples = self._settings.read().sample_limit
        limits = Limits.for_samples(samples) if samples else None
        reader = PageReader(openmetrics=kind == _OPENMETRICS, limits=limits)
        size = 0
        for piece in self._unpack(response):
            size += len(piece)
            self._check_size(size)
            time_left(deadline)
            reader.feed(piece)
        return reader.finish()

    def _unpack(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        """Yield the page in pieces. Raises `SourceError` for one that is cut short or damaged."""
        coding = response.headers.get("Content-Encoding", "").strip().lower()
        if coding in {"", "identity"}:
            yield from self._read(response)
            return
        if coding not in _GZIP:
            raise SourceError(self.name, "its page is compressed in a way that was not asked for")
        unpacker = zlib.decompressobj(_GZIP_FORMAT)
        try:
            for chunk in self._read(response):
                packed = chunk
                while packed:
                    if unpacker.eof:  # a file of gzip may have several members
                        unpacker = zlib.decompressobj(_GZIP_FORMAT)
                    yield unpacker.decompress(packed, _CHUNK)
                    packed = unpacker.unused_data or unpacker.unconsumed_tail
        except zlib.error as error:
            raise SourceError(self.name, f"its page cannot be unpacked: {error}") from None
        if not unpacker.eof:
            raise SourceError(self.name, "its compressed page is cut short")

    def _read(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        """Yield the bytes to the end, the deadline or the largest size. Raises `SourceError`."""
        size = 0
        length = response.headers.get("Content-Length", "")
        # Not `read`, which waits for all the bytes that it was asked for.
        while chunk := response.read1(_CHUNK):
            size += len(chunk)
            self._check_size(size)
            yield chunk
        if length.isdecimal() and len(length) < _LONGEST_LENGTH and size < int(length):
            raise SourceError(self.name, f"its page ends after {size} of {length} bytes")

    def _check_size(self, size: int) -> None:
        """Raise `SourceError` when *size* bytes are too many for a page."""
        if size > self._largest:
            raise SourceError(self.name, f"its page has more than {self._largest} bytes")


def _shown(url: str) -> str:
    """Return what can be shown of a *url* that is none: the scheme at most."""
    scheme, colon, _ = url.partition("://")
    return f"{scheme}://…" if colon and scheme.isalnum() else "the URL of a source"
