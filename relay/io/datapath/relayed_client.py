"""From a client to its peers: ChannelData and Send indications, collected into runs (RFC 8656 §11.2, §12.6)."""

import struct
from collections.abc import Iterator
from typing import Final

from relay.datapath import Drop
from relay.five_tuple import FiveTuple
from relay.io.clients import Buffer, ClientLink, ClientRelay
from relay.io.datapath.indications import SEND_TYPE, Send, find_send, peer_of
from relay.io.datapath.limits import BURST_SECONDS
from relay.io.datapath.pieces import alike, compact
from relay.io.datapath.relay_socket import RelaySocket
from relay.io.datapath.routes import Channel, Route
from relay.io.datapath.segments import MAX_RUN, MAX_SEGMENTS
from relay.io.datapath.switchboard import BUSY_PACKETS, Switchboard, socket_address
from stun.address import TransportAddress
from stun.demux import MIN_CHANNEL

_MAX_TARGETS: Final = 64  # peers of Send indications remembered per client
_CHANNEL_HEADER: Final = struct.Struct("!HH")
_SEND_HEAD: Final = 36  # bytes in front of the data of a Send indication with an IPv4 peer: header 20, attributes 12, 4

Payloads = tuple[int, int, int]  # of a run: where the first begins, where the last ends, the size of all but the last

# On the packet path: looking a member up in its class costs more than the rest of the line.
_BUSY: Final = BUSY_PACKETS - 1
_NO_CHANNEL: Final = Drop.NO_CHANNEL
_NO_PERMISSION: Final = Drop.NO_PERMISSION
_MALFORMED: Final = Drop.MALFORMED
_BANDWIDTH: Final = Drop.BANDWIDTH


def _channel_data(view: memoryview, size: int, segment: int, head: int) -> Payloads | None:
    """Find the payloads of a run, if it is ChannelData of one channel, and nothing but."""
    length = segment - 4
    rest = size % segment
    if length <= 0 or head & 0xFFFF != length or not alike(view, 0, size - rest, segment, 4):
        return None
    if rest and (rest <= 4 or _CHANNEL_HEADER.unpack_from(view, size - rest) != (head >> 16, rest - 4)):
        return None
    return 4, size, length


def _send_indications(view: memoryview, size: int, segment: int, first: Send) -> Payloads | None:
    """Find the payloads of a run, if it is Send indications to one IPv4 peer, and nothing but."""
    key, start, stop = first
    rest = size % segment
    full = size - rest
    # An IPv6 address is masked anew each time.
    if start != _SEND_HEAD or start == stop:
        return None
    if not (alike(view, 0, full, segment, 8) and alike(view, 20, full, segment, 16)):
        return None
    # Equal lengths leave equally much behind the data: padding, or a FINGERPRINT, which the first one has.
    padded = stop + (start - stop & 3)
    if padded != segment and not alike(view, padded, full, segment, 4):
        return None
    if not rest:
        return start, size, stop - start
    last = find_send(view, full, size)
    if last is None or last[0] != key or not 0 < last[2] - last[1] <= stop - start:
        return None
    return start, last[2], stop - start


class RelayedClient(ClientRelay):
    """All that is relayed for one five-tuple: a relay socket, or one of each family (a dual allocation)."""

    __slots__ = (
        "_board",
        "_bytes",
        "_latest",
        "_now",
        "_parts",
        "_room",
        "_size",
        "_targets",
        "_to",
        "channels",
        "circle",
        "link",
        "path",
        "rates",
        "relay_v4",
        "relay_v6",
        "to_client_until",
        "to_client_until_packets",
        "to_peer_until",
    )

    def __init__(self, board: Switchboard, path: FiveTuple, link: ClientLink, circle: str = "") -> None:
        self._board = board
        self.circle = circle  # which other relayed clients it may meet
        self.rates = board.trial_rates if circle else board.rates
        self.path = path
        self.link = link
        self.relay_v4: RelaySocket | None = None
        self.relay_v6: RelaySocket | None = None
        self.channels: dict[int, Channel] = {}
        self._latest: Channel | None = None  # the one of them that was used last: mostly the next one, too
        self._targets: dict[bytes | int, Route] = {}
        # The run that is being collected.
        self._to: Route | None = None
        self._parts: list[Buffer] = []
        self._size = 0  # bytes of each payload; the last may be shorter
        self._room = 0  # payloads that may be added
        self._bytes = 0
        self._now = 0.0
        self.refill()

    def refill(self) -> None:
        """Forget what has been used of the limits. Each bucket is full again at the instant it holds."""
        self.to_peer_until = 0.0
        self.to_client_until = 0.0
        self.to_client_until_packets = 0.0

    def relays(self) -> Iterator[RelaySocket]:
        """Its relay sockets."""
        return (relay for relay in (self.relay_v4, self.relay_v6) if relay is not None)

    def from_client(self, view: memoryview, start: int, end: int, now: float) -> bool:
        """Take the ChannelData message or Send indication at `view[start:end]` into a run.

        Returns False if it is neither, or an indication of unusual shape. Padding behind the data is left out
        (RFC 8656 §12.5). The view must reach four bytes beyond `start`, whatever lies there.
        """
        number, length = _CHANNEL_HEADER.unpack_from(view, start)
        to: Route | None
        channel = self.channels.get(number)
        if channel is not None:
            if channel.live_until <= now:
                self._board.drops[_NO_CHANNEL] += 1
                return True
            to = channel
            start += 4
            stop = start + length
            if stop > end:
                self._board.drops[_MALFORMED] += 1
                return True
        elif number == SEND_TYPE:
            found = find_send(view, start, end)
            if found is None:
                return False
            key, start, stop = found
            if (self.relay_v6 if isinstance(key, int) else self.relay_v4) is None:
                return False
            to = self._find_target(key)
            if to is None or to.permission.live_until <= now:
                self._board.drops[_NO_PERMISSION] += 1
                return True
            length = stop - start
        elif 0x4000 <= number <= 0x7FFF:
            self._board.drops[_NO_CHANNEL if end - start >= 4 else _MALFORMED] += 1
            return True
        else:
            return False

        if self._to is not None:
            if to is self._to and 0 < length <= self._size and self._room and self._bytes + length <= MAX_RUN:
                self._parts.append(view[start:stop])
                self._bytes += length
                self._room = self._room - 1 if length == self._size else 0
                return True
            self.flush()
        self._begin(to, view[start:stop], now)
        return True

    def relay_one(self, view: memoryview, size: int, head: int, now: float) -> bool:
        """Relay the message in `view[:size]`, which came alone: `from_client` and `flush` without a run between."""
        length = head & 0xFFFF
        channel = self._find_channel(head >> 16)
        if channel is None or channel.live_until <= now or channel.is_own or 4 + length > size:
            if not self.from_client(view, 0, size, now):
                return False
            self.flush()
            return True
        per_byte = self.rates.seconds_per_byte
        if per_byte:
            if self.to_peer_until > now + BURST_SECONDS:
                self._board.drops[_BANDWIDTH] += 1
                return True
            self.to_peer_until = max(self.to_peer_until, now) + length * per_byte
        relay = channel.relay
        try:
            relay.socket.send(view, 4, 4 + length, channel.target)
        except OSError as error:
            self._board.count_failure(error, 1)
        else:
            relay.packets_to_peer += 1
            relay.bytes_to_peer += length
            if relay.packets_to_peer & _BUSY == 0:
                self._board.on_busy_to_peer(channel)
        return True

    def relay_run(self, view: memoryview, size: int, segment: int, head: int, now: float) -> bool:
        """Relay a joined run of datagrams at once if they are alike but for their payloads, as they mostly are.

        The run fills `view[:size]`, `segment` bytes each, the last may be shorter. Returns False, and has done
        nothing, if each of them has to be looked at by `from_client`.
        """
        if size > segment * MAX_SEGMENTS or size > MAX_RUN:
            return False
        to: Route | None
        channel = self._find_channel(head >> 16)
        if channel is not None and channel.live_until > now:
            to, run = channel, _channel_data(view, size, segment, head)
        elif head >> 16 == SEND_TYPE and (found := find_send(view, 0, segment)) is not None:
            to, run = self._find_target(found[0]), _send_indications(view, size, segment, found)
        else:
            return False
        if run is None or to is None or to.permission.live_until <= now:
            return False
        start, stop, length = run
        count = -(-size // segment)
        if self.rates.seconds_per_byte and self.to_peer_until > now + BURST_SECONDS:
            self._board.drops[_BANDWIDTH] += count
        else:
            self._relay(to, view, start, compact(view, start, stop, segment, length), length, count, now)
        return True

    def flush(self) -> None:
        """Send the run that has been collected."""
        to = self._to
        if to is None:
            return
        self._to = None
        parts, count = self._parts, len(self._parts)
        data = parts[0] if count == 1 else b"".join(parts)
        parts.clear()  # before anything can fail: they are views of buffers that other clients' bytes will lie in
        self._relay(to, data, 0, self._bytes, self._size, count, self._now)

    def _relay(self, to: Route, data: Buffer, start: int, stop: int, size: int, count: int, now: float) -> None:
        """Send the `count` payloads in `data[start:stop]`, of `size` bytes, the last may be shorter, and count them."""
        relay = to.relay
        try:
            if to.is_own:
                relay.hand_over(data, start, stop, size, to, now)
            else:
                relay.send_run(data, start, stop, size, to)
        except OSError as error:
            self._board.count_failure(error, count)
            return
        relay.packets_to_peer += count
        relay.bytes_to_peer += stop - start
        per_byte = self.rates.seconds_per_byte
        if per_byte:
            self.to_peer_until = max(self.to_peer_until, now) + (stop - start) * per_byte
        if relay.packets_to_peer & _BUSY < count:
            self._board.on_busy_to_peer(to)

    def send_to_peer(
        self, relay: RelaySocket, data: bytes, peer: TransportAddress, now: float, *, dont_fragment: bool
    ) -> None:
        """Relay one payload that the control plane took from a Send indication of unusual shape."""
        address = socket_address(peer.ip, peer.port)
        permission = relay.permissions.get(address[0])
        if permission is None or permission.live_until <= now:
            self._board.drops[_NO_PERMISSION] += 1
            return
        self._begin(relay.route(address, peer.ip, permission), memoryview(data), now)
        if dont_fragment:
            with relay.unfragmented():
                self.flush()
        else:
            self.flush()

    def forget(self, relay: RelaySocket) -> None:
        """This relay socket closes."""
        if self.relay_v4 is relay:
            self.relay_v4 = None
        else:
            self.relay_v6 = None
        self._latest = None
        for number in [number for number, channel in self.channels.items() if channel.relay is relay]:
            del self.channels[number]
        self._targets.clear()

    def forget_channel(self, number: int) -> None:
        """A channel is not bound any more."""
        channel = self.channels.pop(number, None)
        if channel is not None:
            self._latest = None
            channel.relay.forget_channel(channel)

    def forget_targets(self) -> None:
        """A permission was removed, or own addresses are others: look all peers of Send indications up again."""
        self._targets.clear()

    def _find_channel(self, number: int) -> Channel | None:
        channel = self._latest
        if channel is None or channel.number != number:
            if number < MIN_CHANNEL:
                return None
            channel = self.channels.get(number)
            if channel is not None:
                self._latest = channel
        return channel

    def _begin(self, to: Route, payload: memoryview, now: float) -> None:
        if self.rates.seconds_per_byte and self.to_peer_until > now + BURST_SECONDS:
            self._board.drops[_BANDWIDTH] += 1
            return
        self._to = to
        self._parts.append(payload)
        self._size = self._bytes = len(payload)
        self._room = MAX_SEGMENTS - 1
        self._now = now

    def _find_target(self, key: bytes | int) -> Route | None:
        """The way to the peer of a Send indication, if there is a permission for it."""
        target = self._targets.get(key)
        relay = self.relay_v6 if isinstance(key, int) else self.relay_v4
        if target is not None or relay is None:
            return target
        ip, port = peer_of(key)
        address = socket_address(ip, port)
        permission = relay.permissions.get(address[0])
        if permission is None:
            return None
        if len(self._targets) >= _MAX_TARGETS:
            self._targets.clear()
        target = self._targets[key] = relay.route(address, ip, permission)
        return target
