"""A source that is another exporter's page, behind a URL."""

from __future__ import annotations

import time
import zlib
from typing import TYPE_CHECKING, Final
from urllib.request import Request, urlopen

from mpmetrics.errors import SourceError
from mpmetrics.pages.text_source import as_gathered
from mpmetrics.parsing import PageReader

if TYPE_CHECKING:
    import http.client
    from collections.abc import Iterator

    from mpmetrics.pages.source import Gathered

DEFAULT_TIMEOUT: Final = 5.0
"""Seconds that another exporter has to answer."""

LARGEST_PAGE: Final = 64 << 20
"""The most bytes of another exporter's page, uncompressed, that are read."""

_CHUNK: Final = 1 << 16
_OPENMETRICS: Final = "application/openmetrics-text"
_GZIP: Final = ("gzip", "x-gzip")
_GZIP_FORMAT: Final = 16 + zlib.MAX_WBITS
_ACCEPT: Final = (
    "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1"
)


class UrlSource:
    """Another exporter's page."""

    in_process = False

    def __init__(
        self, url: str, timeout: float = DEFAULT_TIMEOUT, largest: int = LARGEST_PAGE
    ) -> None:
        """Configure only; *url* is http or https.

        The server has *timeout* seconds for each part of its answer, and for the whole page,
        which may have *largest* bytes, uncompressed. Raises `SourceError` for other schemes.
        """
        if not url.startswith(("http://", "https://")):
            raise SourceError(url, "only http and https URLs can be scraped")
        self.name = url
        self._timeout = timeout
        self._largest = largest

    def gather(self) -> Gathered:
        """Fetch and parse. Raises `OSError`, `SourceError`, or what the parser raises."""
        deadline = time.monotonic() + self._timeout
        headers = {"Accept": _ACCEPT, "Accept-Encoding": "gzip", "User-Agent": "mpmetrics"}
        request = Request(self.name, headers=headers)
        with urlopen(request, timeout=self._timeout) as response:
            kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            reader = PageReader(openmetrics=kind == _OPENMETRICS)
            size = 0
            for piece in self._unpack(response, deadline):
                size += len(piece)
                self._check_size(size)
                self._check_time(deadline)
                reader.feed(piece)
        return as_gathered(self.name, reader.finish())

    def _unpack(self, response: http.client.HTTPResponse, deadline: float) -> Iterator[bytes]:
        """Yield the page in pieces. Raises `SourceError` for one that is cut short or damaged."""
        coding = response.headers.get("Content-Encoding", "").lower()
        if coding not in _GZIP:
            yield from self._read(response, deadline)
            return
        unpacker = zlib.decompressobj(_GZIP_FORMAT)
        try:
            for chunk in self._read(response, deadline):
                packed = chunk
                while packed:
                    yield unpacker.decompress(packed, _CHUNK)
                    packed = unpacker.unconsumed_tail
        except zlib.error as error:
            raise SourceError(self.name, f"its page cannot be unpacked: {error}") from error
        if not unpacker.eof:
            raise SourceError(self.name, "its compressed page is cut short")

    def _read(self, response: http.client.HTTPResponse, deadline: float) -> Iterator[bytes]:
        """Yield the bytes to the end, the deadline or the largest size. Raises `SourceError`."""
        size = 0
        length = response.headers.get("Content-Length", "")
        # Not `read`, which waits for all the bytes that it was asked for, whatever the deadline.
        while chunk := response.read1(_CHUNK):
            size += len(chunk)
            self._check_size(size)
            self._check_time(deadline)
            yield chunk
        if length.isdecimal() and size < int(length):
            raise SourceError(self.name, f"its page ends after {size} of {length} bytes")

    def _check_size(self, size: int) -> None:
        """Raise `SourceError` when *size* bytes are too many for a page."""
        if size > self._largest:
            raise SourceError(self.name, f"its page has more than {self._largest} bytes")

    def _check_time(self, deadline: float) -> None:
        """Raise `SourceError` when the *deadline* is over."""
        if time.monotonic() > deadline:
            raise SourceError(self.name, f"its page took more than {self._timeout} s")
