"""The portable forwarding plane: one socket per relayed transport address, one loop, the standard library.

The packet path is plain on purpose: no object, event or log line per packet, buffers are shared by all sockets
(everything runs on one thread and nothing is kept across packets), and one clock reading serves a whole burst.
"""

import errno
import logging
import os
import socket
import time
from collections.abc import Iterable, Mapping
from typing import Final

from relay.datapath import NO_TRAFFIC, Drop, Limits, RelayAddress, Traffic
from relay.errors import PortTaken
from relay.five_tuple import FiveTuple, Transport
from relay.io.clients import Links
from relay.io.datapath.relay_socket import RelaySocket, open_relay_socket
from relay.io.datapath.relayed_client import RelayedClient
from relay.io.datapath.switchboard import IsRelayedElsewhere, Switchboard, socket_address
from relay.io.poller import Poller
from stun.address import TransportAddress

_log = logging.getLogger(__name__)

_COMPLAINT_SECONDS: Final = 10.0  # between two warnings of the same kind


class PlainDataPath:
    """The forwarding plane in pure Python: works everywhere, and is the reference for its faster twins."""

    def __init__(
        self,
        poller: Poller,
        own_relays: frozenset[bytes],
        links: Links,
        *,
        limits: Limits = Limits(),  # noqa: B008  # a tuple of zeros
        is_relayed_elsewhere: IsRelayedElsewhere | None = None,
        own_services: Iterable[TransportAddress] = (),
    ) -> None:
        """Build a plane without relays.

        Args:
            poller: where relay sockets are watched.
            own_relays: packed IP addresses on which nothing but relayed transport addresses and own services may be
                sent to.
            links: where clients are reached.
            limits: what each allocation may carry.
            is_relayed_elsewhere: whether another process of ours relays this family and port on an own address, for a
                client of this circle.
            own_services: transport addresses of other parts of this installation that may be sent to.
        """
        self._poller = poller
        self._links = links
        self._board = Switchboard(own_relays, is_relayed_elsewhere, limits, own_services)
        self._relays: dict[int, RelaySocket] = {}
        self._clients: dict[FiveTuple, RelayedClient] = {}
        self._finished = dict.fromkeys(Transport, NO_TRAFFIC)
        self._quiet_until = 0.0

    @property
    def joins_runs(self) -> bool:
        """Whether listeners may ask the kernel for joined runs (UDP_GRO), as relay sockets do."""
        return self._board.joins_runs

    @property
    def drops(self) -> dict[Drop, int]:
        """Packets that were not relayed, by the reason; listeners and connections count theirs here, too."""
        return self._board.drops

    def set_limits(self, limits: Limits) -> None:
        """Change what each allocation may carry, from now on."""
        self._board.set_limits(limits)
        for client in self._clients.values():
            client.refill()

    def set_own_relays(self, own_relays: frozenset[bytes]) -> None:
        """Send to nothing but relayed transport addresses on these packed IP addresses from now on."""
        self._board.own_relays = own_relays
        for client in self._clients.values():
            client.forget_targets()
            for channel in client.channels.values():
                channel.is_own = socket.inet_pton(channel.relay.sock.family, channel.address[0]) in own_relays

    def open_relay(self, path: FiveTuple, address: RelayAddress, port: int, expires_at: float, circle: str = "") -> int:
        """Bind a relayed transport address. See `relay.datapath.DataPath`, also for all other commands."""
        try:
            sock = open_relay_socket(address.bound, port)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                raise PortTaken(error.errno, "the relayed port is taken") from error
            self._complain(error)
            raise
        client = self._clients.get(path)
        try:
            if client is None:
                client = RelayedClient(self._board, path, self._links.link(path), circle)
            relay = RelaySocket(self._board, client, sock, socket_address(address.advertised, port))
            relay.set_expiry(expires_at)
            self._poller.watch(relay.handle, relay.on_ready)
            if path not in self._clients:
                self._links.attach(path, client)
        except BaseException as error:  # the client has gone in the meantime, or the system has nothing left
            if isinstance(error, OSError):
                self._complain(error)
            sock.close()
            raise
        if relay.is_v6:
            client.relay_v6 = relay
        else:
            client.relay_v4 = relay
        self._clients[path] = client
        self._relays[relay.handle] = self._board.relays[relay.relayed] = relay
        return relay.handle

    def close_relay(self, handle: int) -> Traffic:
        """Stop relaying and close the socket."""
        relay = self._relays.pop(handle)
        del self._board.relays[relay.relayed]
        self._poller.forget_closing(handle)
        relay.socket.close()
        client = relay.client
        client.forget(relay)
        if client.relay_v4 is None and client.relay_v6 is None:
            del self._clients[client.path]
            self._links.detach(client.path)
        traffic = relay.traffic()
        self._account(relay, traffic)
        return traffic

    def move_client(self, handle: int, path: FiveTuple) -> None:
        """Attach the client to its new five-tuple; what it has sent so far stays with the old transport."""
        client = self._relays[handle].client
        old = client.path
        link = self._links.link(path)
        self._links.attach(path, client)
        if path == old:  # over another connection, it may be
            client.link = link
            return
        self._links.detach(old)
        for relay in client.relays():
            traffic = relay.traffic()
            self._account(relay, traffic)
            relay.moved = traffic
        client.path, client.link = path, link
        del self._clients[old]
        self._clients[path] = client

    def set_expiry(self, handle: int, expires_at: float) -> None:
        """Relay nothing for this relayed transport address from `expires_at` on."""
        self._relays[handle].set_expiry(expires_at)

    def allow_peer(self, handle: int, ip: bytes, expires_at: float) -> None:
        """Install or refresh a permission."""
        self._relays[handle].allow_peer(ip, expires_at)

    def forget_peer(self, handle: int, ip: bytes) -> None:
        """Remove a permission."""
        self._relays[handle].forget_peer(ip)

    def bind_channel(self, handle: int, number: int, peer: TransportAddress, expires_at: float) -> None:
        """Bind a channel or refresh its binding."""
        self._relays[handle].bind_channel(number, peer, expires_at)

    def unbind_channel(self, handle: int, number: int) -> None:
        """Remove a channel binding."""
        self._relays[handle].unbind_channel(number)

    def send_to_peer(self, handle: int, data: bytes, peer: TransportAddress, *, dont_fragment: bool = False) -> None:
        """Relay one payload to a permitted peer."""
        relay = self._relays[handle]
        relay.client.send_to_peer(relay, data, peer, time.monotonic(), dont_fragment=dont_fragment)

    def traffic(self, handle: int) -> Traffic:
        """What has been relayed so far."""
        return self._relays[handle].traffic()

    def totals(self) -> Mapping[Transport, Traffic]:
        """All traffic since the start by the client's transport, live relays included; for a scrape."""
        totals = dict(self._finished)
        for relay in self._relays.values():
            transport = relay.client.path.transport
            totals[transport] = totals[transport].plus(relay.traffic().minus(relay.moved))
        return totals

    def _account(self, relay: RelaySocket, traffic: Traffic) -> None:
        transport = relay.client.path.transport
        if traffic != relay.moved:
            self._finished[transport] = self._finished[transport].plus(traffic.minus(relay.moved))

    def _complain(self, error: OSError) -> None:
        """Tell the operator what the clients only see as 508, without a line for every one of them."""
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + _COMPLAINT_SECONDS
            _log.warning("cannot open a relayed address: %s", os.strerror(error.errno or 0))
