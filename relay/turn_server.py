"""The TURN control plane without I/O (RFC 8656): bytes and instants in; responses, events and commands out."""

import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from relay import channel_binding, permission
from relay.allocation import Allocation
from relay.allocator import Allocator, Wish
from relay.authenticator import Authenticator, Identity
from relay.channel_binding import ChannelBinding
from relay.datapath import DataPath
from relay.errors import (
    AllocationMismatch,
    BadRequest,
    InsufficientCapacity,
    PeerAddressFamilyMismatch,
    RequestRejected,
    StaleNonce,
    Unauthenticated,
    UnsupportedTransportProtocol,
    WrongCredentials,
)
from relay.events import (
    AllocationCreated,
    AllocationDeleted,
    Ending,
    Event,
    MessageDropped,
    RequestAnswered,
    RequestRefused,
)
from relay.five_tuple import FiveTuple, Transport
from relay.peer_policy import PeerPolicy
from relay.permission import Permission
from relay.port_pool import PortPool
from relay.settings import RelaySettings
from relay.timers import Timers
from stun.address import TransportAddress
from stun.attributes import (
    CHANNEL_NUMBER,
    DATA,
    EVEN_PORT,
    LIFETIME,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    RESERVATION_TOKEN,
    UNDERSTOOD_IN_TURN,
    XOR_MAPPED_ADDRESS,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
)
from stun.binding import answer_binding
from stun.demux import MAX_CHANNEL, MIN_CHANNEL
from stun.errors import MessageParseError
from stun.message import Message, decode_message, encode_error, encode_success, encode_unknown_attributes
from stun.registry import ErrorCode, MessageClass, Method

_UDP_PROTOCOL: Final = 17  # REQUESTED-TRANSPORT (RFC 8656 §18.8)
_MAX_AMPLIFICATION: Final = 3  # bytes to a stranger's address, which may be forged, per byte that came from it

_BINDING: Final = Method.BINDING
_BINDING_ANSWERED: Final = {transport: RequestAnswered(Method.BINDING, transport) for transport in Transport}

_Handler = Callable[[Message, FiveTuple, Identity, float], tuple[bytes, ...]]


class Transmit(NamedTuple):
    """One message to send to a client."""

    data: bytes
    path: FiveTuple


class TurnServer:
    """Answers STUN and TURN requests and tells the forwarding plane what it may relay.

    After each call the shell drains `poll_transmit` and `poll_event` and sleeps until `poll_timeout`.
    """

    def __init__(
        self,
        settings: RelaySettings,
        *,
        authenticator: Authenticator,
        policy: PeerPolicy,
        datapath: DataPath,
        allocator: Allocator,
    ) -> None:
        """Build a server without allocations.

        Args:
            settings: bounds and lifetimes.
            authenticator: verifies requests.
            policy: judges peers.
            datapath: the forwarding plane that this server commands.
            allocator: opens and closes relays in the same forwarding plane.
        """
        self._settings = settings
        self._authenticator = authenticator
        self._policy = policy
        self._datapath = datapath
        self._allocator = allocator
        self._allocations: dict[FiveTuple, Allocation] = {}
        self._timers: Timers[Allocation] = Timers()
        self._outbox: deque[Transmit] = deque()
        self._events: deque[Event] = deque()
        self._handlers: dict[int, _Handler] = {
            Method.ALLOCATE: self._allocate,
            Method.REFRESH: self._refresh,
            Method.CREATE_PERMISSION: self._create_permission,
            Method.CHANNEL_BIND: self._channel_bind,
        }

    @property
    def allocations(self) -> int:
        """Live allocations."""
        return len(self._allocations)

    @property
    def pools(self) -> Mapping[int, PortPool]:
        """The relayed ports by address family, for metrics."""
        return self._allocator.pools

    def receive(self, data: bytes, path: FiveTuple, now: float, unix_time: float) -> None:
        """Take one STUN message from a client; anything else is dropped and counted.

        Args:
            data: a whole message, as a datagram or a stream frame carries it.
            path: where it came from, and where to.
            now: monotonic time, in seconds.
            unix_time: seconds since 1970, for credentials and nonces that other machines made.
        """
        try:
            message = decode_message(data)
        except MessageParseError as error:
            self._observe(MessageDropped(error.fault))
            return
        if message.message_class is MessageClass.REQUEST:
            self._answer(message, path, now, unix_time)
        elif message.message_class is MessageClass.INDICATION and message.method == Method.SEND:
            self._send_indication(message, path, now)
        else:
            # A Binding indication keeps a NAT open; responses answer nothing that we asked. Neither gets a
            # reply, or two servers could be made to talk to each other for ever.
            self._observe(MessageDropped(None))

    def disconnect(self, path: FiveTuple, now: float) -> None:
        """The client's TCP or TLS connection is gone, and its allocation with it (RFC 8656 §3.1)."""
        allocation = self._allocations.get(path)
        if allocation is not None:
            self._delete(allocation, Ending.DISCONNECTED, now)

    def close(self, now: float) -> None:
        """Delete every allocation, as the service stops."""
        for allocation in list(self._allocations.values()):
            self._delete(allocation, Ending.SHUTDOWN, now)
        self._allocator.expire_reservations(math.inf)

    def handle_timeout(self, now: float) -> None:
        """Clean up what has expired; the forwarding plane stopped relaying at the very instant by itself."""
        self._allocator.expire_reservations(now)
        for allocation in self._timers.due(now):
            if allocation.expires_at <= now:
                self._delete(allocation, Ending.EXPIRED, now)
                continue
            self._forget_expired(allocation, now)
            self._timers.schedule(allocation, allocation.next_deadline())

    def poll_transmit(self) -> Transmit | None:
        """The next message for a client."""
        return self._outbox.popleft() if self._outbox else None

    def poll_event(self) -> Event | None:
        """The next event for metrics and logs."""
        return self._events.popleft() if self._events else None

    def poll_timeout(self) -> float | None:
        """When `handle_timeout` wants to be called, in monotonic seconds."""
        allocations, reservations = self._timers.next_at(), self._allocator.reservations.next_at()
        if allocations is None or reservations is None:
            return allocations if reservations is None else reservations
        return min(allocations, reservations)

    # Requests

    def _answer(self, request: Message, path: FiveTuple, now: float, unix_time: float) -> None:
        if request.method == _BINDING:
            self._outbox.append(Transmit(answer_binding(request, path.client), path))
            self._events.append(_BINDING_ANSWERED[path.transport])
            return
        handler = self._handlers.get(request.method)
        if handler is None:
            self._observe(MessageDropped(None))
            return
        method = Method(request.method)
        identity: Identity | None = None
        try:
            identity = self._authenticator.authenticate(request, path, unix_time)
            unknown = request.unknown_attributes(UNDERSTOOD_IN_TURN)
            if unknown:
                self._respond(encode_unknown_attributes(request, unknown, key=identity.key), path)
                self._observe(RequestRefused(method, ErrorCode.UNKNOWN_ATTRIBUTE, "unknown_attribute"))
                return
            attributes = handler(request, path, identity, now)
        except MessageParseError:
            self._refuse(request, path, BadRequest("malformed_attribute"), identity, unix_time)
        except RequestRejected as rejection:
            self._refuse(request, path, rejection, identity, unix_time)
        else:
            self._respond(encode_success(request, attributes, key=identity.key), path)
            self._observe(RequestAnswered(method, path.transport))

    def _refuse(
        self,
        request: Message,
        path: FiveTuple,
        rejection: RequestRejected,
        identity: Identity | None,
        unix_time: float,
    ) -> None:
        attributes: tuple[bytes, ...] = ()
        if isinstance(rejection, Unauthenticated | StaleNonce):
            attributes = self._authenticator.challenge(path, unix_time)
        response = encode_error(
            request,
            rejection.code,
            attributes,
            # A reason phrase is for people; over UDP a stranger could aim it at somebody else.
            with_reason=path.transport is not Transport.UDP,
            key=identity.key if identity is not None else None,
        )
        code, cause = rejection.code, rejection.cause
        if (
            identity is None
            and path.transport is Transport.UDP
            and len(response) > _MAX_AMPLIFICATION * len(request.raw)
        ):
            # No client asks for a challenge with so little: even the barest Allocate has REQUESTED-TRANSPORT.
            code, cause = ErrorCode.BAD_REQUEST, "too_small_for_a_challenge"
            response = encode_error(request, code)
        self._respond(response, path)
        self._observe(RequestRefused(Method(request.method), code, cause))

    def _allocate(self, request: Message, path: FiveTuple, identity: Identity, now: float) -> tuple[bytes, ...]:
        """RFC 8656 §7.2."""
        existing = self._allocations.get(path)
        if existing is not None and existing.expires_at <= now:
            self._delete(existing, Ending.EXPIRED, now)
            existing = None
        if existing is not None:
            if existing.transaction_id == request.transaction_id and existing.username == identity.username:
                return self._allocate_response(existing, request, now)
            raise AllocationMismatch("already_allocated")
        transport = request.get(REQUESTED_TRANSPORT)
        if transport is None:
            raise BadRequest("no_requested_transport")
        if transport != _UDP_PROTOCOL:
            raise UnsupportedTransportProtocol("requested_transport")
        wish = Wish(
            request.get(REQUESTED_ADDRESS_FAMILY),
            request.get(EVEN_PORT),
            request.get(RESERVATION_TOKEN),
            self._lifetime(request.get(LIFETIME)),
        )
        if wish.reservation_token is not None and (wish.family is not None or wish.even_port is not None):
            raise BadRequest("reservation_with_other_wishes")
        allocation = self._allocator.open(path, identity.username, request.transaction_id, wish, now)
        self._allocations[path] = allocation
        self._timers.schedule(allocation, allocation.expires_at)
        self._observe(AllocationCreated(path.transport, allocation.family))
        return self._allocate_response(allocation, request, now)

    def _allocate_response(self, allocation: Allocation, request: Message, now: float) -> tuple[bytes, ...]:
        transaction_id = request.transaction_id
        attributes = [
            XOR_RELAYED_ADDRESS.pack(allocation.relayed, transaction_id),
            LIFETIME.pack(round(allocation.expires_at - now)),
            XOR_MAPPED_ADDRESS.pack(allocation.path.client, transaction_id),
        ]
        if allocation.reservation_token is not None:
            attributes.append(RESERVATION_TOKEN.pack(allocation.reservation_token))
        return tuple(attributes)

    def _refresh(self, request: Message, path: FiveTuple, identity: Identity, now: float) -> tuple[bytes, ...]:
        """RFC 8656 §8.2."""
        allocation = self._own_allocation(path, identity, now)
        family = request.get(REQUESTED_ADDRESS_FAMILY)
        if family is not None and family != allocation.family:
            raise PeerAddressFamilyMismatch("family")
        wish = request.get(LIFETIME)
        if wish == 0:
            self._delete(allocation, Ending.REFRESH_ZERO, now)
            return (LIFETIME.pack(0),)
        lifetime = self._lifetime(wish)
        allocation.expires_at = now + lifetime
        self._datapath.set_expiry(allocation.handle, allocation.expires_at)
        self._reschedule(allocation)
        return (LIFETIME.pack(lifetime),)

    def _create_permission(
        self, request: Message, path: FiveTuple, identity: Identity, now: float
    ) -> tuple[bytes, ...]:
        """RFC 8656 §10.2: all of the addresses, or none of them."""
        allocation = self._own_allocation(path, identity, now)
        peers = request.get_all(XOR_PEER_ADDRESS)
        if not peers:
            raise BadRequest("no_peer")
        if len({peer.ip for peer in peers}) > self._settings.quota.permissions_per_allocation:
            raise InsufficientCapacity("permissions")  # before any of them is judged
        for peer in peers:
            self._check_peer(allocation, peer)
        self._make_room(allocation, {peer.ip for peer in peers}, now)
        for peer in peers:
            self._permit(allocation, peer.ip, now)
        self._reschedule(allocation)
        return ()

    def _channel_bind(self, request: Message, path: FiveTuple, identity: Identity, now: float) -> tuple[bytes, ...]:
        """RFC 8656 §12.2."""
        allocation = self._own_allocation(path, identity, now)
        number, peer = request.get(CHANNEL_NUMBER), request.get(XOR_PEER_ADDRESS)
        if number is None or peer is None:
            raise BadRequest("no_channel_or_peer")
        if not MIN_CHANNEL <= number <= MAX_CHANNEL:
            raise BadRequest("channel_number")
        self._check_peer(allocation, peer)
        by_number, by_peer = allocation.live_channel(number, now), allocation.live_peer(peer, now)
        if by_number is not by_peer:
            raise BadRequest("channel_in_use")
        self._make_room(allocation, {peer.ip}, now)
        if by_number is None:
            self._forget_channel(allocation, allocation.channels.get(number))
            self._forget_channel(allocation, allocation.peers.get(peer))
            if len(allocation.channels) >= self._settings.quota.channels_per_allocation:
                self._forget_expired(allocation, now)
            if len(allocation.channels) >= self._settings.quota.channels_per_allocation:
                raise InsufficientCapacity("channels")
        binding = by_number or ChannelBinding(number, peer, now)
        binding.expires_at = now + channel_binding.LIFETIME
        allocation.channels[number] = allocation.peers[peer] = binding
        self._permit(allocation, peer.ip, now)
        self._datapath.bind_channel(allocation.handle, number, peer, binding.expires_at)
        self._reschedule(allocation)
        return ()

    def _send_indication(self, message: Message, path: FiveTuple, now: float) -> None:
        """RFC 8656 §11.2, for indications whose shape the forwarding plane does not take by itself."""
        allocation = self._allocations.get(path)
        try:
            peer, data = message.get(XOR_PEER_ADDRESS), message.get(DATA)
        except MessageParseError as error:
            self._observe(MessageDropped(error.fault))
            return
        if (
            allocation is None
            or peer is None
            or data is None
            or message.unknown_attributes(UNDERSTOOD_IN_TURN)
            or peer.family != allocation.family
            or allocation.expires_at <= now
            or not allocation.has_permission(peer.ip, now)
        ):
            self._observe(MessageDropped(None))  # an indication never gets an answer
            return
        self._datapath.send_to_peer(allocation.handle, data, peer)

    # What requests have in common

    def _own_allocation(self, path: FiveTuple, identity: Identity, now: float) -> Allocation:
        allocation = self._allocations.get(path)
        if allocation is None or allocation.expires_at <= now:
            raise AllocationMismatch("no_allocation")
        if allocation.username != identity.username:
            raise WrongCredentials("other_user")
        return allocation

    def _check_peer(self, allocation: Allocation, peer: TransportAddress) -> None:
        if peer.family != allocation.family:
            raise PeerAddressFamilyMismatch("family")
        self._policy.check(peer)

    def _lifetime(self, wish: int | None) -> int:
        """The LIFETIME to grant, in seconds: the wish between default and maximum (RFC 8656 §7.2)."""
        default = self._settings.default_lifetime_seconds
        return default if wish is None else max(default, min(wish, self._settings.max_lifetime_seconds))

    def _make_room(self, allocation: Allocation, ips: set[bytes], now: float) -> None:
        limit = self._settings.quota.permissions_per_allocation
        if len(allocation.permissions.keys() | ips) > limit:
            self._forget_expired(allocation, now)
        if len(allocation.permissions.keys() | ips) > limit:
            raise InsufficientCapacity("permissions")

    def _permit(self, allocation: Allocation, ip: bytes, now: float) -> None:
        expires_at = now + permission.LIFETIME
        granted = allocation.permissions.get(ip)
        if granted is None:
            allocation.permissions[ip] = Permission(expires_at)
        else:
            granted.expires_at = expires_at
        self._datapath.allow_peer(allocation.handle, ip, expires_at)

    def _reschedule(self, allocation: Allocation) -> None:
        """Wake up no later than the next deadline; one that moved away is noticed when its second comes."""
        at = allocation.next_deadline()
        if allocation.bucket is None or at < allocation.bucket:
            self._timers.schedule(allocation, at)

    def _forget_expired(self, allocation: Allocation, now: float) -> None:
        for ip in [ip for ip, granted in allocation.permissions.items() if granted.expires_at <= now]:
            del allocation.permissions[ip]
            self._datapath.forget_peer(allocation.handle, ip)
        for binding in [binding for binding in allocation.channels.values() if binding.expires_at <= now]:
            self._forget_channel(allocation, binding)

    def _forget_channel(self, allocation: Allocation, binding: ChannelBinding | None) -> None:
        if binding is not None:
            del allocation.channels[binding.number]
            del allocation.peers[binding.peer]
            self._datapath.unbind_channel(allocation.handle, binding.number)

    def _delete(self, allocation: Allocation, ending: Ending, now: float) -> None:
        del self._allocations[allocation.path]
        self._timers.cancel(allocation)
        traffic = self._allocator.release(allocation)
        self._observe(
            AllocationDeleted(
                allocation.path.transport, allocation.family, ending, now - allocation.created_at, traffic
            )
        )

    def _respond(self, data: bytes, path: FiveTuple) -> None:
        self._outbox.append(Transmit(data, path))

    def _observe(self, event: Event) -> None:
        self._events.append(event)
