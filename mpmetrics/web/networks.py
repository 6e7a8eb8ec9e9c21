"""The networks that clients come from, and those that come first."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from mpmetrics.web.recent import RecentKeys

if TYPE_CHECKING:
    from collections.abc import Callable

KnownNetworks: TypeAlias = RecentKeys[str]
"""The networks whose clients were served a page lately: they come first."""

_IPV6_PREFIX: Final = 64
_MOST_KNOWN: Final = 1000
_KNOWN_SECONDS: Final = 900.0


def make_known_networks(**clock: Callable[[], float]) -> KnownNetworks:
    """Return a memory of networks: of the last 1000, each for a quarter of an hour."""
    return RecentKeys(_MOST_KNOWN, _KNOWN_SECONDS, **clock)


def network_of(address: Any) -> str:
    """Return the network of a client's *address*, as a socket reports it.

    That is an IPv4 address, or the /64 of an IPv6 address, of which a single host has as many
    addresses as it likes. It is "" for a unix socket.
    """
    host = address[0] if isinstance(address, tuple | list) and address else ""
    try:
        parsed = ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return str(host)
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, _IPV6_PREFIX), strict=False))
