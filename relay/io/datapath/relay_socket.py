"""One relayed transport address: its socket, what it lets through, and the way from peers to the client."""

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from relay.datapath import NO_TRAFFIC, Drop, Traffic
from relay.errors import NotSent
from relay.io.clients import Buffer
from relay.io.datapath.datagrams import DatagramSocket
from relay.io.datapath.icmp import IcmpError, collect_errors, encode_icmp_indication, read_error
from relay.io.datapath.indications import HEADROOM, MAX_PAYLOAD, data_head_v4, data_head_v6
from relay.io.datapath.limits import BURST_SECONDS
from relay.io.datapath.routes import Channel, Permission, Route
from relay.io.datapath.segments import (
    Destination,
    SocketAddress,
    max_run,
    send_run,
)
from relay.io.datapath.switchboard import Switchboard, socket_address
from relay.io.poller import READABLE
from stun.address import IPV4, IPV6, TransportAddress

if TYPE_CHECKING:
    from relay.io.datapath.relayed_client import RelayedClient

_JOIN_AT: Final = 4  # datagrams at once, from which on the kernel is asked to join them: not before it pays
# A burst of a peer must wait here, not get lost. The kernel gives less if net.core.rmem_max says so.
RECEIVE_BUFFER_BYTES: Final = 1 << 20
MAX_UDP_PAYLOAD: Final = 65507  # bytes, over IPv4
_MAX_ERRORS: Final = 16  # ICMP errors read from one socket before the others have their turn
_MAX_REPORTS: Final = 10  # ICMP errors told to a client per second and relay
_CHANNEL_HEADER: Final = struct.Struct("!HH")

# IP_MTU_DISCOVER and its values are missing in the socket module. Linux sets DF unless told otherwise. DONT would
# clear it, but then keeps "fragmentation needed" from the error queue, also when it answers a datagram that was sent
# with DF before; OMIT clears DF, fragments to the MTU of the link, believes nobody about the path, and reports.
_IP_MTU_DISCOVER: Final = 10
_IP_PMTUDISC_OMIT: Final = 5
# IPv6 routers never fragment: what the default does, to fragment to the path MTU, is right (RFC 8656 §16).
_IPV6_MTU_DISCOVER: Final = 23
_IPV6_PMTUDISC_WANT: Final = 1
_PMTUDISC_PROBE: Final = 3  # both: DF, or no fragment header, whatever is known of the path

_NO_PERMISSION: Final = Drop.NO_PERMISSION
_MALFORMED: Final = Drop.MALFORMED
_BANDWIDTH: Final = Drop.BANDWIDTH
_PEER_RATE: Final = Drop.PEER_RATE


def open_relay_socket(ip: bytes, port: int) -> socket.SocketType:
    """Bind a socket for a relayed transport address; its options are what each relay needs, nothing more.

    Raises:
        OSError: the port is taken, the address is not ours, or the system has nothing left.
    """
    is_v6 = len(ip) == 16
    # The C type: the class around it adds nothing that is used here, and each allocation would pay for it.
    sock = socket.SocketType(
        socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    )
    try:
        if is_v6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_OMIT)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        collect_errors(sock)
        sock.bind(socket_address(ip, port))
    except OSError:
        sock.close()
        raise
    return sock


class RelaySocket:
    """The relay's side of one relayed transport address."""

    __slots__ = (
        "_board",
        "_expires_at",
        "_joins",
        "_reports",
        "_reports_since",
        "by_peer",
        "bytes_to_client",
        "bytes_to_peer",
        "client",
        "handle",
        "is_v6",
        "moved",
        "packets_to_client",
        "packets_to_peer",
        "permissions",
        "relayed",
        "sock",
        "socket",
    )

    def __init__(
        self, board: Switchboard, client: "RelayedClient", sock: socket.SocketType, relayed: SocketAddress
    ) -> None:
        self._board = board
        self.by_peer: dict[SocketAddress, Channel] = {}
        self._expires_at = 0.0
        self._joins = False
        self._reports = 0
        self._reports_since = 0.0
        self.client = client
        self.sock = sock
        self.socket = DatagramSocket(sock, board.inbox)
        self.handle = sock.fileno()
        self.is_v6 = sock.family == socket.AF_INET6
        self.relayed = relayed  # as peers see it
        self.permissions: dict[str, Permission] = {}
        self.packets_to_peer = self.bytes_to_peer = self.packets_to_client = self.bytes_to_client = 0
        self.moved = NO_TRAFFIC  # what of it is accounted to an earlier transport of the client

    # Client to peer

    def route(self, address: SocketAddress, ip: bytes, permission: Permission) -> Route:
        """The way to a peer."""
        return Route(address, permission, self, is_own=ip in self._board.own_relays)

    def send_run(self, parts: list[Buffer], size: int, to: Destination) -> None:
        """Send payloads of `size` bytes, the last may be shorter.

        Raises:
            OSError: at least one of them was not sent.
        """
        send_run(self.sock, parts, size, to)

    @contextlib.contextmanager
    def unfragmented(self) -> Iterator[None]:
        """What is sent meanwhile leaves whole, or not at all."""
        if self.is_v6:
            level, option, usual = socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _IPV6_PMTUDISC_WANT
        else:
            level, option, usual = socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_OMIT
        self.sock.setsockopt(level, option, _PMTUDISC_PROBE)
        try:
            yield
        finally:
            self.sock.setsockopt(level, option, usual)

    def hand_over(self, parts: list[Buffer], size: int, to: Destination, now: float) -> None:
        """Two relayed clients meet: hand the payloads over without a detour through two sockets.

        Nothing but relayed transport addresses of the same circle, and named services, is reachable on an own
        address, or the relay would be a way around the peer policy to every UDP service of this machine. What another
        process of ours serves is reached through the socket.

        Raises:
            OSError: at least one of them was not sent; NotSent if nothing is relayed there.
        """
        board = self._board
        other, circle = board.relays.get(to.address), self.client.circle
        if other is None:
            family = IPV6 if self.is_v6 else IPV4
            is_service = not circle and to.address in board.own_services
            if not is_service and not board.is_relayed_elsewhere(family, to.address[1], circle):
                raise NotSent(Drop.OWN_ADDRESS)
            if len(parts) == 1:
                self.socket.send(parts[0], 0, len(parts[0]), to.target)
            else:
                self.send_run(parts, size, to)
            return
        if other.client.circle != circle:
            raise NotSent(Drop.OWN_ADDRESS)
        if size > MAX_UDP_PAYLOAD:
            raise NotSent(Drop.SEND_FAILED)  # as the socket would have said
        view, end = board.views[0], HEADROOM
        for part in parts:
            start, end = end, end + len(part)
            view[start:end] = part
        other.deliver(0, end - HEADROOM, size if len(parts) > 1 else 0, self.relayed, now)

    # Peer to client

    def on_ready(self, events: int) -> None:
        """Relay what peers have sent to this relayed transport address (RFC 8656 §12.7)."""
        now = time.monotonic()
        if events != READABLE:
            self._report_errors(now)
        received = self.socket.receive()
        for slot, (size, segment, address, _) in enumerate(received):
            self.deliver(slot, size, segment, address, now)
        if len(received) >= _JOIN_AT and not self._joins:
            self._joins = self.socket.join()

    def deliver(self, slot: int, size: int, segment: int, address: SocketAddress, now: float) -> None:
        """Relay the payloads in a slot of the inbox to the client, if their sender may do that.

        A stranger is told nothing: an answer would show a port scanner that the address is alive.

        Args:
            slot: where they lie.
            size: bytes of all of them.
            segment: size of each payload, the last may be shorter; 0 if there is but one.
            address: who sent them.
            now: monotonic time, in seconds.
        """
        board = self._board
        count = -(-size // segment) if segment else 1
        channel = self.by_peer.get(address)
        permission = None
        if channel is None or channel.live_until <= now:
            permission = self.permissions.get(address[0])
            if permission is None or permission.live_until <= now:
                board.drops[_NO_PERMISSION] += count
                return
            channel = None
            if (segment or size) > MAX_PAYLOAD:
                board.drops[_MALFORMED] += count
                return
        client = self.client
        rates = client.rates
        if rates.seconds_per_byte or rates.seconds_per_packet:
            if client.to_client_until > now + BURST_SECONDS:
                board.drops[_BANDWIDTH] += count
                return
            if client.to_client_until_packets > now + BURST_SECONDS:
                board.drops[_PEER_RATE] += count
                return
            client.to_client_until = max(client.to_client_until, now) + size * rates.seconds_per_byte
            client.to_client_until_packets = max(client.to_client_until_packets, now) + count * rates.seconds_per_packet
        try:
            if count > 1:
                self._send_run_to_client(slot, size, segment, channel, permission, address[1])
            else:
                view = board.views[slot]
                end = HEADROOM + size
                if channel is not None:
                    start = HEADROOM - 4
                    _CHANNEL_HEADER.pack_into(view, start, channel.number, size)
                    pads = client.link.pads
                else:
                    head = self._data_head(size, permission, address[1])
                    start = HEADROOM - len(head)
                    view[start:HEADROOM] = head
                    pads = True
                if pads and size & 3:
                    padding = -size & 3
                    view[end : end + padding] = bytes(padding)
                    end += padding
                client.link.send(view[start:end])
        except OSError as error:
            board.count_failure(error, count)
            return
        self.packets_to_client += count
        self.bytes_to_client += size

    def _send_run_to_client(
        self, slot: int, size: int, segment: int, channel: Channel | None, permission: Permission | None, port: int
    ) -> None:
        """Send each payload with a header in front of it, in as few bursts as they fit into."""
        link = self.client.link
        window = self._board.views[slot][HEADROOM : HEADROOM + size]
        payloads = [window[at : at + segment] for at in range(0, size, segment)]
        count, rest = len(payloads), size % segment
        if channel is not None:
            heads = [_CHANNEL_HEADER.pack(channel.number, segment)] * count
            if rest:
                heads[-1] = _CHANNEL_HEADER.pack(channel.number, rest)
        else:
            heads = [self._data_head(segment, permission, port) for _ in range(count)]
            if rest:
                heads[-1] = self._data_head(rest, permission, port)
        each = 2
        message = len(heads[0]) + segment
        padded = (channel is None or link.pads) and (segment & 3 or rest & 3)
        parts: list[Buffer]
        if padded:
            each = 3
            message += -segment & 3
            parts = [bytes(-segment & 3)] * (3 * count)
            if rest:
                parts[-1] = bytes(-rest & 3)
        else:
            parts = [b""] * (2 * count)
        parts[0::each] = heads
        parts[1::each] = payloads
        most = max_run(message)
        if count <= most:
            link.send_burst(parts, message)
            return
        for at in range(0, each * count, each * most):
            link.send_burst(parts[at : at + each * most], message)

    def _data_head(self, size: int, permission: Permission | None, port: int) -> bytes:
        ip = permission.ip if permission is not None else 0
        return (data_head_v6 if self.is_v6 else data_head_v4)(size, self._board.ids, ip, port)

    def _report_errors(self, now: float) -> None:
        """Tell the client which of its datagrams have caused ICMP errors (RFC 8656 §11.5).

        The queue has to be emptied anyway: what is in it keeps the socket ready.
        """
        for _ in range(_MAX_ERRORS):
            try:
                error = read_error(self.sock)
            except OSError:
                return
            if error is not None:
                self._report(error, now)

    def _report(self, error: IcmpError, now: float) -> None:
        permission = self.permissions.get(error.peer[0])
        if permission is None or permission.live_until <= now:
            return
        if now >= self._reports_since + 1.0:
            self._reports_since = now
            self._reports = 0
        self._reports += 1
        if self._reports > _MAX_REPORTS:
            return
        ip = permission.ip.to_bytes(16 if self.is_v6 else 4)
        peer = TransportAddress(ip, error.peer[1])
        with contextlib.suppress(OSError):  # the client is told once; it may be lost as any other datagram
            self.client.link.send(encode_icmp_indication(error, peer, self._board.ids.next()))

    # Commands of the control plane

    def set_expiry(self, expires_at: float) -> None:
        """The allocation ends at `expires_at`, and with it all that it lets through."""
        self._expires_at = expires_at
        for permission in self.permissions.values():
            permission.live_until = min(permission.expires_at, expires_at)
        for channel in self.by_peer.values():
            channel.live_until = min(channel.expires_at, channel.permission.live_until)

    def allow_peer(self, ip: bytes, expires_at: float) -> None:
        """Install or refresh a permission, also for the channels that lean on it."""
        text = socket_address(ip, 0)[0]
        permission = self.permissions.get(text)
        if permission is None:
            permission = self.permissions[text] = Permission(int.from_bytes(ip))
            for channel in self.by_peer.values():  # they outlive it, and speak again with a new one
                if channel.address[0] == text:
                    channel.permission = permission
        permission.expires_at = expires_at
        permission.live_until = min(expires_at, self._expires_at)
        for channel in self.by_peer.values():
            if channel.permission is permission:
                channel.live_until = min(channel.expires_at, permission.live_until)

    def forget_peer(self, ip: bytes) -> None:
        """Remove a permission; channels of this peer fall silent."""
        permission = self.permissions.pop(socket_address(ip, 0)[0], None)
        if permission is None:
            return
        permission.expires_at = permission.live_until = 0.0
        self.client.forget_targets()
        for channel in self.by_peer.values():
            if channel.permission is permission:
                channel.live_until = 0.0

    def bind_channel(self, number: int, peer: TransportAddress, expires_at: float) -> None:
        """Bind a channel to a permitted peer, or refresh its binding."""
        address = socket_address(peer.ip, peer.port)
        permission = self.permissions[address[0]]
        channel = self.client.channels.get(number)
        if channel is None:
            channel = Channel(number, address, permission, self, is_own=peer.ip in self._board.own_relays)
            self.client.channels[number] = self.by_peer[address] = channel
        channel.permission = permission
        channel.expires_at = expires_at
        channel.live_until = min(expires_at, permission.live_until)

    def unbind_channel(self, number: int) -> None:
        """Remove a channel binding."""
        channel = self.client.channels.pop(number, None)
        if channel is not None:
            del channel.relay.by_peer[channel.address]

    def traffic(self) -> Traffic:
        """What has been relayed so far."""
        return Traffic(self.packets_to_peer, self.bytes_to_peer, self.packets_to_client, self.bytes_to_client)
