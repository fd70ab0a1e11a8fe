"""Reverse proxies in front of the pages: whose word about a client's address is believed, and what it says."""

import ipaddress
from collections.abc import Sequence
from typing import Final

MAX_HOPS: Final = 16  # of X-Forwarded-For that are looked at, from the right

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class ReverseProxies:
    """Believes X-Forwarded-For of named networks, and of nobody else: a client could write anything into it."""

    def __init__(self, networks: Sequence[str] = ()) -> None:
        self._networks: tuple[_Network, ...] = ()
        self.configure(networks)

    def configure(self, networks: Sequence[str]) -> None:
        """Believe these networks from now on.

        Raises:
            ValueError: one is none.
        """
        self._networks = tuple(map(ipaddress.ip_network, networks))

    def __contains__(self, address: str | None) -> bool:
        return bool(self._networks) and self._is_proxy(_parse(address or ""))

    def find_client(self, peer: str, forwarded_for: str) -> str:
        """The address of the client behind a proxy: the last one that a proxy saw and that is no proxy itself.

        Args:
            peer: the proxy that the connection comes from.
            forwarded_for: X-Forwarded-For of the request, its lines joined by commas; it may hold anything.

        Returns:
            An IP address; that of the last proxy that is known if the header names nobody further.
        """
        client = peer
        for hop in reversed(forwarded_for.split(",")[-MAX_HOPS:]):
            address = _parse(hop.strip())
            if address is None:
                break
            client = str(address)
            if not self._is_proxy(address):
                break
        return client

    def _is_proxy(self, address: _Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)


def _parse(text: str) -> _Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
