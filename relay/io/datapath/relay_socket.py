"""One relayed transport address: its socket, what it lets through, and the way from peers to the client."""

import contextlib
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from relay.datapath import NO_TRAFFIC, Drop, Traffic
from relay.errors import NotSent
from relay.io.clients import Buffer
from relay.io.datapath.datagrams import DatagramSocket
from relay.io.datapath.icmp import IcmpError, collect_errors, encode_icmp_indication, read_error
from relay.io.datapath.indications import (
    DATA_HEAD_V4_BYTES,
    DATA_HEAD_V6_BYTES,
    HEADROOM,
    MAX_PAYLOAD,
    data_head_v4,
    data_head_v6,
)
from relay.io.datapath.limits import BURST_SECONDS
from relay.io.datapath.pieces import interleave
from relay.io.datapath.routes import Channel, Permission, Route
from relay.io.datapath.segments import (
    DatagramLink,
    Destination,
    SocketAddress,
    max_run,
    send_run,
)
from relay.io.datapath.switchboard import BUSY_PACKETS, Switchboard, socket_address
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

# IP_MTU_DISCOVER and its values are missing in the socket module. Linux sets DF unless told otherwise. DONT would
# clear it, but then keeps "fragmentation needed" from the error queue, also when it answers a datagram that was sent
# with DF before; OMIT clears DF, fragments to the MTU of the link, believes nobody about the path, and reports.
_IP_MTU_DISCOVER: Final = 10
_IP_PMTUDISC_OMIT: Final = 5
# IPv6 routers never fragment: what the default does, to fragment to the path MTU, is right (RFC 8656 §16).
_IPV6_MTU_DISCOVER: Final = 23
_IPV6_PMTUDISC_WANT: Final = 1
_PMTUDISC_PROBE: Final = 3  # both: DF, or no fragment header, whatever is known of the path

_BUSY: Final = BUSY_PACKETS - 1
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
        "_latest",
        "_latest_peer",
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
        # The peer that was heard last, mostly the next one, too, and its channel.
        self._latest_peer: SocketAddress | None = None
        self._latest: Channel | None = None
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

    def send_run(self, data: Buffer, start: int, stop: int, size: int, to: Destination) -> None:
        """Send the payloads in `data[start:stop]`, of `size` bytes, the last may be shorter.

        Raises:
            OSError: at least one of them was not sent.
        """
        send_run(self.socket, data, start, stop, size, to)

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

    def hand_over(self, data: Buffer, start: int, stop: int, size: int, to: Destination, now: float) -> None:
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
            self.send_run(data, start, stop, size, to)
            return
        if other.client.circle != circle:
            raise NotSent(Drop.OWN_ADDRESS)
        if size > MAX_UDP_PAYLOAD:
            raise NotSent(Drop.SEND_FAILED)  # as the socket would have said
        whole = stop - start
        board.views[0][HEADROOM : HEADROOM + whole] = data[start:stop]
        other.deliver(0, whole, size if whole > size else 0, self.relayed, now)

    # Peer to client

    def on_ready(self, events: int) -> None:
        """Relay what peers have sent to this relayed transport address (RFC 8656 §12.7)."""
        now = time.monotonic()
        if events != READABLE:
            self._report_errors(now)
        received = self.socket.receive()
        for slot, (size, segment, address, _) in enumerate(received):
            self.deliver(slot, size, segment, address, now)
        if len(received) >= _JOIN_AT and not self._joins and self._board.joins_runs:
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
        channel = self._latest
        if address is not self._latest_peer:
            channel = self.by_peer.get(address)
            if channel is not None:
                self._latest, self._latest_peer = channel, address
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
        if (rates.seconds_per_byte or rates.seconds_per_packet) and self._is_too_much(size, count, now):
            return
        try:
            if count > 1:
                self._send_run_to_client(slot, size, segment, channel, permission, address[1])
            elif channel is not None:
                self._send_to_client(channel.number << 16 | size, board.views[slot], HEADROOM + size, 1)
            else:
                head = self._data_head(size, permission, address[1])
                self._send_to_client(head, board.views[slot], HEADROOM + size, 4)
        except OSError as error:
            board.count_failure(error, count)
            return
        self.packets_to_client += count
        self.bytes_to_client += size
        if self.packets_to_client & _BUSY < count:
            board.on_busy_to_client(self, address)

    def _is_too_much(self, size: int, count: int, now: float) -> bool:
        """Whether a limit forbids so many bytes and packets from peers; what it lets through counts against it."""
        client = self.client
        if client.to_client_until > now + BURST_SECONDS:
            self._board.drops[_BANDWIDTH] += count
            return True
        if client.to_client_until_packets > now + BURST_SECONDS:
            self._board.drops[_PEER_RATE] += count
            return True
        rates = client.rates
        client.to_client_until = max(client.to_client_until, now) + size * rates.seconds_per_byte
        client.to_client_until_packets = max(client.to_client_until_packets, now) + count * rates.seconds_per_packet
        return False

    def _send_to_client(self, head: bytes | int, view: memoryview, end: int, align: int) -> None:
        """Send one payload with a header in front of it; a number stands for its four bytes."""
        link = self.client.link
        if isinstance(link, DatagramLink):
            link.socket.send_behind(head, view, HEADROOM, end, align, link.target)
            return
        if isinstance(head, int):
            head = head.to_bytes(4, "big")
        start, padding = HEADROOM - len(head), -(end - HEADROOM) % (4 if link.pads else align)
        view[start:HEADROOM] = head
        view[end : end + padding] = bytes(padding)
        link.send(view[start : end + padding])

    def _send_run_to_client(
        self, slot: int, size: int, segment: int, channel: Channel | None, permission: Permission | None, port: int
    ) -> None:
        """Send each payload with a header in front of it, in as few bursts as they fit into."""
        link, board = self.client.link, self._board
        view, end = board.views[slot], HEADROOM + size
        align = 4 if channel is None or link.pads else 1
        head = 4 if channel is not None else DATA_HEAD_V6_BYTES if self.is_v6 else DATA_HEAD_V4_BYTES
        message = head + segment + -segment % align
        step = max_run(message) * segment
        start = HEADROOM
        while start < end:
            stop = min(start + step, end)
            heads = self._heads(stop - start, segment, channel, permission, port)
            written = interleave(board.outbox, heads, view, start, stop, segment, align)
            if isinstance(link, DatagramLink):
                send_run(link.socket, board.outbox, 0, written, message, link)
            else:
                link.send_burst(board.outbox[:written], message)
            start = stop

    def _heads(
        self, size: int, segment: int, channel: Channel | None, permission: Permission | None, port: int
    ) -> bytes:
        """The headers of so many bytes of payloads, of `segment` bytes each, the last may be shorter."""
        count, rest = size // segment, size % segment
        if channel is not None:
            heads = (channel.number << 16 | segment).to_bytes(4, "big") * count
            return heads + (channel.number << 16 | rest).to_bytes(4, "big") if rest else heads
        each = [self._data_head(segment, permission, port) for _ in range(count)]
        if rest:
            each.append(self._data_head(rest, permission, port))
        return b"".join(each)

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
            self._latest_peer = None
        channel.permission = permission
        channel.expires_at = expires_at
        channel.live_until = min(expires_at, permission.live_until)

    def unbind_channel(self, number: int) -> None:
        """Remove a channel binding."""
        self.client.forget_channel(number)

    def forget_channel(self, channel: Channel) -> None:
        """One of this relay is not bound any more."""
        del self.by_peer[channel.address]
        self._latest_peer = None

    def take_over(self, traffic: Traffic, since: float) -> None:
        """Count what the kernel has relayed in our stead since an instant; it uses up the limits, too."""
        self.packets_to_peer += traffic.packets_to_peer
        self.bytes_to_peer += traffic.bytes_to_peer
        self.packets_to_client += traffic.packets_to_client
        self.bytes_to_client += traffic.bytes_to_client
        client, rates = self.client, self.client.rates
        client.to_peer_until = max(client.to_peer_until, since) + traffic.bytes_to_peer * rates.seconds_per_byte
        client.to_client_until = max(client.to_client_until, since) + traffic.bytes_to_client * rates.seconds_per_byte
        client.to_client_until_packets = (
            max(client.to_client_until_packets, since) + traffic.packets_to_client * rates.seconds_per_packet
        )

    def traffic(self) -> Traffic:
        """What has been relayed so far."""
        return Traffic(self.packets_to_peer, self.bytes_to_peer, self.packets_to_client, self.bytes_to_client)
