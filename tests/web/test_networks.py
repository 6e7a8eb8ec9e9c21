"""The network of a client's address."""

from __future__ import annotations

from typing import Any

import pytest

from mpmetrics.web.networks import network_of


@pytest.mark.parametrize(
    ("address", "network"),
    [
        pytest.param(("192.0.2.7", 80), "192.0.2.7", id="IPv4"),
        pytest.param(["192.0.2.7", 80], "192.0.2.7", id="a list"),
        pytest.param(("::ffff:192.0.2.7", 80, 0, 0), "192.0.2.7", id="IPv4 in IPv6"),
        pytest.param(("2001:db8:1:2:3:4:5:6", 80, 0, 0), "2001:db8:1:2::/64", id="IPv6"),
        pytest.param(("2001:db8:1:2:ffff::", 80, 0, 0), "2001:db8:1:2::/64", id="its neighbour"),
        pytest.param(("fe80::1%eth0", 80, 0, 2), "fe80::/64", id="IPv6 with an interface"),
        pytest.param("", "", id="a unix socket"),
        pytest.param(None, "", id="none"),
        pytest.param(("localhost", 80), "localhost", id="a name"),
    ],
)
def test_the_network_of_an_address(address: Any, network: str) -> None:
    """An IPv4 address is a network of its own; the addresses of an IPv6 /64 are one."""
    assert network_of(address) == network
