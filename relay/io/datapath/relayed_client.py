"""From a client to its peers: ChannelData and Send indications, collected into runs (RFC 8656 §11.2, §12.6)."""

import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from relay.datapath import Drop
from relay.five_tuple import FiveTuple
from relay.io.clients import Buffer, ClientLink, ClientRelay
from relay.io.datapath.indications import SEND_TYPE, find_send, peer_of
from relay.io.datapath.limits import BURST_SECONDS
from relay.io.datapath.relay_socket import RelaySocket
from relay.io.datapath.routes import Channel, Route
from relay.io.datapath.segments import MAX_RUN, MAX_SEGMENTS
from relay.io.datapath.switchboard import Switchboard, socket_address
from stun.address import TransportAddress

_MAX_TARGETS: Final = 64  # peers of Send indications remembered per client
_CHANNEL_HEADER: Final = struct.Struct("!HH")

# On the packet path: looking a member up in its class costs more than the rest of the line.
_NO_CHANNEL: Final = Drop.NO_CHANNEL
_NO_PERMISSION: Final = Drop.NO_PERMISSION
_MALFORMED: Final = Drop.MALFORMED
_BANDWIDTH: Final = Drop.BANDWIDTH


@lru_cache(maxsize=256)
def _channel_data(size: int) -> struct.Struct:
    """ChannelData messages of `size` bytes: header and payload."""
    return struct.Struct(f"!4s{size - 4}s")


@lru_cache(maxsize=256)
def _send_indication(size: int, length: int) -> struct.Struct:
    """Send indications of `size` bytes with an IPv4 peer and `length` bytes of data: what is alike, and the data."""
    return struct.Struct(f"!8s12x16s{length}s{size - 36 - length}x")


class RelayedClient(ClientRelay):
    """All that is relayed for one five-tuple: a relay socket, or one of each family (a dual allocation)."""

    __slots__ = (
        "_board",
        "_bytes",
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
            to = self._targets.get(key)
            if to is None:
                relay = self.relay_v6 if isinstance(key, int) else self.relay_v4
                if relay is None:
                    return False
                to = self._make_target(relay, key)
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
        channel = self.channels.get(head >> 16)
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
        return True

    def take_run(self, view: memoryview, size: int, segment: int, now: float) -> bool:
        """Take a joined run of datagrams at once if they are alike but for their payloads, as they mostly are.

        The run fills `view[:size]`, `segment` bytes each, the last may be shorter. Returns False, and has done
        nothing, if each of them has to be looked at by `from_client`.
        """
        number, length = _CHANNEL_HEADER.unpack_from(view)
        full = size - size % segment
        to: Route | None
        last: tuple[int, int] | None = None  # where the payload of the shorter one begins and ends
        channel = self.channels.get(number)
        if channel is not None:
            to = channel
            if channel.live_until <= now or length == 0 or 4 + length != segment:
                return False
            heads, payloads = zip(*_channel_data(segment).iter_unpack(view[:full]), strict=True)
            alike = heads.count(heads[0]) == len(heads)
            if full < size:
                last_number, length = _CHANNEL_HEADER.unpack_from(view, full)
                last = full + 4, full + 4 + length
                alike = alike and last_number == number and last[1] == size
        elif number == SEND_TYPE and (found := find_send(view, 0, segment)) is not None:
            key, start, stop = found
            to = self._targets.get(key)
            # An IPv6 address is masked anew each time, and a FINGERPRINT has to be verified.
            if to is None or to.permission.live_until <= now or start != 36 or start == stop or segment - stop > 3:
                return False
            heads, tails, payloads = zip(*_send_indication(segment, stop - start).iter_unpack(view[:full]), strict=True)
            alike = heads.count(heads[0]) == tails.count(tails[0]) == len(heads)
            if full < size:
                found = find_send(view, full, size)
                alike = alike and found is not None and found[0] == key
                last = found[1:] if found is not None else None
        else:
            return False
        count = len(payloads) + (last is not None)
        if not alike or count > MAX_SEGMENTS or (last is not None and last[0] == last[1]):
            return False
        self.flush()
        if self.rates.seconds_per_byte and self.to_peer_until > now + BURST_SECONDS:
            self._board.drops[_BANDWIDTH] += count
            return True
        self._to = to
        self._parts.extend(payloads)
        self._size = len(payloads[0])
        self._bytes = self._size * len(payloads)
        if last is not None:
            self._parts.append(view[last[0] : last[1]])
            self._bytes += last[1] - last[0]
        self._room = 0
        self._now = now
        return True

    def flush(self) -> None:
        """Send the run that has been collected."""
        to = self._to
        if to is None:
            return
        self._to = None
        parts = self._parts
        count = len(parts)
        relay = to.relay
        try:
            if to.is_own:
                relay.hand_over(parts, self._size, to, self._now)
            elif count == 1:
                relay.socket.send(parts[0], 0, len(parts[0]), to.target)
            else:
                relay.send_run(parts, self._size, to)
        except OSError as error:
            self._board.count_failure(error, count)
        else:
            relay.packets_to_peer += count
            relay.bytes_to_peer += self._bytes
            per_byte = self.rates.seconds_per_byte
            if per_byte:
                self.to_peer_until = max(self.to_peer_until, self._now) + self._bytes * per_byte
        parts.clear()

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
        for number in [number for number, channel in self.channels.items() if channel.relay is relay]:
            del self.channels[number]
        self._targets.clear()

    def forget_targets(self) -> None:
        """A permission was removed, or own addresses are others: look all peers of Send indications up again."""
        self._targets.clear()

    def _begin(self, to: Route, payload: memoryview, now: float) -> None:
        if self.rates.seconds_per_byte and self.to_peer_until > now + BURST_SECONDS:
            self._board.drops[_BANDWIDTH] += 1
            return
        self._to = to
        self._parts.append(payload)
        self._size = self._bytes = len(payload)
        self._room = MAX_SEGMENTS - 1
        self._now = now

    def _make_target(self, relay: RelaySocket, key: bytes | int) -> Route | None:
        ip, port = peer_of(key)
        address = socket_address(ip, port)
        permission = relay.permissions.get(address[0])
        if permission is None:
            return None
        if len(self._targets) >= _MAX_TARGETS:
            self._targets.clear()
        target = self._targets[key] = relay.route(address, ip, permission)
        return target
