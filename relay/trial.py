"""What a connection test may do with the relay: reach itself, a little, for a minute.

Its user name says whom it is for (`stun.trial`). All that follows from that is decided here and enforced by the server
and the forwarding plane. Why: docs/decisions/0030-connection-tests.md.
"""

import ipaddress
from typing import Final, final

from relay.datapath import Limits
from relay.errors import Forbidden
from relay.peer_policy import PeerPolicy
from stun.address import TransportAddress
from stun.trial import Network, read_trial, trial_network

ALLOCATION_SECONDS: Final = 60  # how long one allocation of a test may live, whatever is refreshed
ALLOCATIONS_PER_ADDRESS: Final = 8  # at once: two connections of a device with two networks, each with IPv4 and IPv6
MAX_ALLOCATIONS: Final = 256  # at once, of all tests of a realm
ALLOCATIONS_PER_TEST: Final = 32  # six ports and the loopback's two connections, up to four for each in a browser
ALLOCATIONS_PER_SECOND: Final = 5.0  # begun from one address (/56 for IPv6): ten tests a minute
ALLOCATION_BURST: Final = 5 * ALLOCATIONS_PER_TEST  # begun from one address at once: a class that tries it together
_PORTS_PER_ALLOCATION: Final = 10  # of all relayed ports, tests get one in so many: the others are for consultations
BYTES_PER_SECOND: Final = 625_000  # of payload in each direction: 5 Mbit/s, more than a picture needs
PACKETS_PER_SECOND: Final = 1_000  # from peers


@final
class Trial:
    """Whom a test is for."""

    __slots__ = ("_network",)

    def __init__(self, network: Network) -> None:
        self._network = network

    def check_client(self, client: bytes, policy: PeerPolicy) -> None:
        """Refuse a client at another address than the one that asked for the test.

        A client of the other IP version passes: the way to the pages says nothing about its address there. So does one
        on this machine that asked from this machine, which has several addresses. Neither gets further than to itself.

        Raises:
            Forbidden: it is somebody else, or the test came to the pages another way (a web proxy) than to the relay.
        """
        address = ipaddress.ip_address(client)
        if address.version != self._network.version or address in self._network:
            return
        own = [ipaddress.ip_address(ip) for ip in policy.own]
        if address in own and any(ip in self._network for ip in own):
            return
        raise Forbidden("trial_client")

    def check_peer(self, peer: TransportAddress, client: bytes, policy: PeerPolicy) -> None:
        """Refuse every peer but the client's own address and relayed transport addresses.

        Of these the forwarding plane reaches those of the same circle only; see `circle_of`.

        Raises:
            Forbidden: it is another one.
        """
        own = self._network.network_address.packed if self._network.version == 4 else client
        if peer.ip not in {client, own} and not policy.is_closed_relay(peer.ip):
            raise Forbidden("trial_peer")


def trial_of(username: str) -> Trial | None:
    """The test that a user name is for; None for an ordinary one.

    Raises:
        ValueError: it says that it is for a test, but not whose.
    """
    network = read_trial(username)
    return None if network is None else Trial(network)


def circle_of(holder: str, client: bytes) -> str:
    """Which relayed clients may meet this one: those of the same test, at the same address.

    Two relay-only connections of one page meet on the relay's address. Without circles two strangers with credentials
    of their own would meet there as well, and the test would be a relay for everybody.
    """
    return f"{holder}\0{trial_network(str(ipaddress.ip_address(client)))}"


def max_allocations(port_count: int) -> int:
    """How many allocations all tests of a realm may have at once, of so many relayed ports."""
    return max(ALLOCATIONS_PER_ADDRESS, min(MAX_ALLOCATIONS, port_count // _PORTS_PER_ALLOCATION))


def limits_of(general: Limits) -> Limits:
    """What an allocation of a test may carry where another one may carry `general`."""
    return Limits(
        min(BYTES_PER_SECOND, general.bytes_per_second or BYTES_PER_SECOND),
        min(PACKETS_PER_SECOND, general.packets_per_second or PACKETS_PER_SECOND),
    )
