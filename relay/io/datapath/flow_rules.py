"""Which flows the kernel may carry for the plain plane, and what becomes of their packets.

Everything is read from the tables of the plain plane, which stay the only truth: asked again after each command, this
says what has to stand in the kernel now. What is not certain is left to user space: listeners without an address of
their own, clients and peers on this machine, clients with two families (their limits are shared), and, unless the
program can do it, ways from one address family to the other.
"""

import ipaddress
import socket
from functools import lru_cache
from typing import Final

from relay.five_tuple import Transport
from relay.io.datapath.bpf.program import Kind, Onward, Way
from relay.io.datapath.relay_socket import RelaySocket
from relay.io.datapath.segments import SocketAddress
from relay.io.datapath.switchboard import Switchboard, socket_address
from stun.address import TransportAddress

_NANOSECONDS: Final = 1_000_000_000


class FlowRules:
    """Decides for one plane."""

    def __init__(self, board: Switchboard, local_addresses: frozenset[bytes], *, crosses_families: bool) -> None:
        """Read from the tables of a plane.

        Args:
            board: what its relays share.
            local_addresses: packed IP addresses of this machine: what goes there does not leave by an interface.
            crosses_families: whether the program can turn IPv4 packets into IPv6 ones and back.
        """
        self._board = board
        self._crosses_families = crosses_families
        self.local_addresses = local_addresses

    def may_carry(self, relay: RelaySocket) -> bool:
        """Whether anything of this relayed transport address may be left to the kernel."""
        client = relay.client
        path = client.path
        is_dual = client.relay_v4 is not None and client.relay_v6 is not None
        return (
            path.transport is Transport.UDP
            and not is_dual
            and _is_unicast(path.server.ip)
            and self._leaves(path.client.ip)
            and (self._crosses_families or len(path.client.ip) == (16 if relay.is_v6 else 4))
        )

    def way_to_peer(self, relay: RelaySocket, peer: SocketAddress, number: int) -> Way:
        """What a packet from the client looks like; `number` is its channel, 0 for a Send indication."""
        path = relay.client.path
        if number:
            return Way(Kind.CHANNEL, path.client, path.server, number)
        return Way(Kind.SEND, path.client, path.server, 0, transport_address(peer))

    def way_to_client(self, relay: RelaySocket, peer: SocketAddress) -> Way:
        """What a packet from a peer looks like, or one that another relayed client has sent."""
        if peer in self._board.relays:
            return Way(Kind.MEET, transport_address(peer), transport_address(relay.relayed))
        return Way(Kind.PEER, transport_address(peer), bound_address(relay))

    def onward(self, way: Way, relay: RelaySocket, bound: TransportAddress, slot: int, now: float) -> Onward | None:
        """What becomes of the packets of a way; None if the kernel must not carry them (any more).

        Args:
            way: of this relay.
            relay: an open one.
            bound: its relayed transport address, as bound.
            slot: its place in the kernel's tables.
            now: monotonic time, in seconds.
        """
        if way.kind is Kind.CHANNEL:
            channel = relay.client.channels.get(way.number)
            if channel is None or channel.relay is not relay:
                return None
            return self._to_peer(channel.address, relay, bound, slot, channel.live_until, now)
        peer = way.peer or way.remote
        address = socket_address(peer.ip, peer.port)
        if way.kind is Kind.SEND:
            permission = relay.permissions.get(address[0])
            live_until = 0.0 if permission is None else permission.live_until
            return self._to_peer(address, relay, bound, slot, live_until, now)
        return self._to_client(address, relay, slot, now)

    def _to_peer(
        self,
        peer: SocketAddress,
        relay: RelaySocket,
        bound: TransportAddress,
        slot: int,
        live_until: float,
        now: float,
    ) -> Onward | None:
        if live_until <= now:
            return None
        destination = transport_address(peer)
        if destination.ip in self._board.own_relays:
            other = self._board.relays.get(peer)
            if other is None or other.client.circle != relay.client.circle:
                return None  # denied, or behind a socket of this machine
            return Onward(transport_address(relay.relayed), destination, 0, slot, _instant(live_until), meets=True)
        if not self._leaves(destination.ip):
            return None
        return Onward(bound, destination, 0, slot, _instant(live_until))

    def _to_client(self, peer: SocketAddress, relay: RelaySocket, slot: int, now: float) -> Onward | None:
        if peer not in self._board.relays and not self._leaves(transport_address(peer).ip):
            return None
        channel = relay.by_peer.get(peer)
        number = 0
        if channel is not None and channel.live_until > now:
            number, live_until = channel.number, channel.live_until
        else:
            permission = relay.permissions.get(peer[0])
            if permission is None or permission.live_until <= now:
                return None
            live_until = permission.live_until
        path = relay.client.path
        return Onward(path.server, path.client, number, slot, _instant(live_until))

    def _leaves(self, ip: bytes) -> bool:
        """Whether packets to this address leave the machine."""
        return ip not in self.local_addresses and _is_unicast(ip)


def bound_address(relay: RelaySocket) -> TransportAddress:
    """The relayed transport address as it was bound, which is not what peers see behind a one-to-one NAT."""
    return transport_address(relay.sock.getsockname())


def transport_address(address: SocketAddress) -> TransportAddress:
    """A numeric address of the socket module, packed."""
    return TransportAddress(_packed(address[0]), address[1])


@lru_cache(maxsize=4096)
def _packed(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


@lru_cache(maxsize=4096)
def _is_unicast(ip: bytes) -> bool:
    """Whether an address stands for one host that is reached through an interface, and without a zone."""
    address = ipaddress.ip_address(ip)
    return not (address.is_unspecified or address.is_loopback or address.is_multicast or address.is_link_local)


def _instant(live_until: float) -> int:
    """CLOCK_MONOTONIC in nanoseconds, never later than the same instant in seconds."""
    return int(live_until * _NANOSECONDS)
