"""The TURN control plane without I/O (RFC 8656): bytes and instants in; responses, events and commands out."""

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from relay import channel_binding, permission, reservation, trial
from relay.allocation import Allocation
from relay.allocator import Allocator, HolderLimits
from relay.authenticator import Authenticator, Identity
from relay.behaviour_discovery import BehaviourDiscovery
from relay.channel_binding import ChannelBinding
from relay.datapath import DataPath
from relay.errors import (
    AllocationMismatch,
    BadRequest,
    Forbidden,
    InsufficientCapacity,
    PeerAddressFamilyMismatch,
    RequestRejected,
    StaleNonce,
    TryAlternate,
    Unauthenticated,
    WrongCredentials,
)
from relay.events import (
    AllocationCreated,
    AllocationDeleted,
    AllocationMoved,
    Ending,
    Event,
    HalfDeleted,
    MessageDropped,
    NoAnswer,
    RequestAnswered,
    RequestRefused,
)
from relay.five_tuple import STREAMS, FiveTuple, Transport
from relay.mobility import MobilityForbidden, MobilityTickets, Owner, check_request
from relay.past_allocates import ENDED, PastAllocates, PastAnswer, Transaction
from relay.permission import Permission
from relay.reflection import is_within_budget
from relay.settings import RelaySettings, parse_server
from relay.source_guard import SourceGuard
from relay.tcp_relaying import Asked, TcpRelaying
from relay.timers import Timers
from relay.wish import TCP_PROTOCOL, UDP_PROTOCOL, read_wish
from stun.address import TransportAddress, family_of
from stun.attributes import (
    ADDRESS_ERROR_CODE,
    ALTERNATE_SERVER,
    CHANNEL_NUMBER,
    DATA,
    DONT_FRAGMENT,
    LIFETIME,
    MOBILITY_TICKET,
    REQUESTED_ADDRESS_FAMILY,
    RESERVATION_TOKEN,
    UNDERSTOOD_IN_TURN,
    UNDERSTOOD_WITH_DONT_FRAGMENT,
    UNDERSTOOD_WITH_TCP_ALLOCATIONS,
    XOR_MAPPED_ADDRESS,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
    AddressError,
)
from stun.binding import answer_binding, answer_plain_binding
from stun.demux import MAX_CHANNEL, MIN_CHANNEL
from stun.errors import MessageParseError
from stun.message import Message, decode_message, encode_error, encode_success, encode_unknown_attributes
from stun.registry import ErrorCode, MessageClass, Method

_MAX_CHANNEL_STRICT: Final = 0x4FFF  # RFC 8656 §12; RFC 5766 went on to 0x7FFF

_UNDERSTOOD: Final = UNDERSTOOD_IN_TURN | UNDERSTOOD_WITH_DONT_FRAGMENT
_REQUEST: Final = MessageClass.REQUEST
_INDICATION: Final = MessageClass.INDICATION
_ALLOCATE: Final = Method.ALLOCATE
_BINDING: Final = Method.BINDING
_SEND: Final = Method.SEND
_UDP: Final = Transport.UDP
_ANSWERED: Final = {
    (method, transport): RequestAnswered(method, transport) for method in Method for transport in Transport
}
_BINDING_ANSWERED: Final = {transport: _ANSWERED[Method.BINDING, transport] for transport in Transport}
_NO_CREDENTIALS: Final = Unauthenticated("no_credentials")
_CHALLENGED: Final = (Unauthenticated, StaleNonce)
_METHODS: Final = {int(method): method for method in Method}
# What keeps a relayed talk alive, and begins nothing new.
_KEEPS_ALIVE: Final = frozenset({int(Method.REFRESH), int(Method.CREATE_PERMISSION), int(Method.CHANNEL_BIND)})

# Gets what lives on the five-tuple, expired or not; returns the attributes of the response, None if that follows later.
_Handler = Callable[[Message, FiveTuple, Identity, Allocation | None, float], tuple[bytes, ...] | None]


Transmit = tuple[bytes, FiveTuple]  # one message to send to a client


class TurnServer:
    """Answers STUN and TURN requests and tells the forwarding plane what it may relay.

    After each call the shell drains `poll_transmit` and `poll_event` and sleeps until `poll_timeout`.
    """

    def __init__(
        self,
        settings: RelaySettings,
        *,
        authenticator: Authenticator,
        guard: SourceGuard,
        planes: Mapping[int, DataPath],
        allocator: Allocator,
        discovery: BehaviourDiscovery | None = None,
        tcp: TcpRelaying | None = None,
        mobility: MobilityTickets | None = None,
    ) -> None:
        """Build a server without allocations.

        Args:
            settings: bounds and lifetimes.
            authenticator: verifies requests; knows the realms and their peer policies.
            guard: how often strangers are answered.
            planes: the forwarding planes that this server commands, by transport protocol as in REQUESTED-TRANSPORT.
            allocator: opens and closes relays in these planes.
            discovery: answers Binding requests if RFC 5780 is switched on.
            tcp: the connections of TCP allocations if RFC 6062 is switched on.
            mobility: tickets if RFC 8016 is switched on.
        """
        self._discovery = discovery
        self._planes = planes
        self._tcp = tcp
        self._mobility = mobility
        self._mobiles: dict[int, Allocation] = {}
        self._serials = 0
        self._understood = _UNDERSTOOD if tcp is None else _UNDERSTOOD | UNDERSTOOD_WITH_TCP_ALLOCATIONS
        self._allocator = allocator
        self._allocations: dict[FiveTuple, Allocation] = {}
        self._past = PastAllocates()
        self._timers: Timers[Allocation] = Timers()
        self.wake_by = math.inf  # no deadline lies before this instant; cheaper to look at than `poll_timeout`
        self._outbox: deque[Transmit] = deque()
        self._events: deque[Event] = deque()
        self._is_draining = False
        self._alternates_used = 0
        self._handlers: dict[int, _Handler] = {
            Method.ALLOCATE: self._allocate,
            Method.REFRESH: self._refresh,
            Method.CREATE_PERMISSION: self._create_permission,
            Method.CHANNEL_BIND: self._channel_bind,
        }
        if tcp is not None:
            self._handlers |= {Method.CONNECT: self._connect, Method.CONNECTION_BIND: self._connection_bind}
        self.configure(settings, authenticator, guard)

    @property
    def allocations(self) -> int:
        """Live allocations."""
        return len(self._allocations)

    def configure(self, settings: RelaySettings, authenticator: Authenticator, guard: SourceGuard) -> None:
        """Take other settings, realms, users and secrets into use; what is allocated stays as it is."""
        self._settings = settings
        self._authenticator = authenticator
        self._guard = guard
        self._max_trials = trial.max_allocations(settings.port_max - settings.port_min + 1)
        self._max_channel = _MAX_CHANNEL_STRICT if settings.strict_channels else MAX_CHANNEL
        alternates = [TransportAddress.parse(*parse_server(text)) for text in settings.alternate_servers]
        self._alternates: dict[int, Sequence[TransportAddress]] = {
            family: [address for address in alternates if address.family == family]
            for family in {address.family for address in alternates}
        }

    def drain(self) -> None:
        """Refuse new allocations from now on; those that exist live on for as long as they are refreshed."""
        self._is_draining = True

    def receive(self, data: bytes, path: FiveTuple, now: float, unix_time: float) -> None:
        """Take one STUN message from a client; anything else is dropped and counted.

        Args:
            data: a whole message, as a datagram or a stream frame carries it.
            path: where it came from, and where to.
            now: monotonic time, in seconds.
            unix_time: seconds since 1970, for credentials and nonces that other machines made.
        """
        answer = answer_plain_binding(data, path.client) if self._discovery is None else None
        if answer is not None:
            self._outbox.append((answer, path))
            self._events.append(_BINDING_ANSWERED[path.transport])
            return
        try:
            message = decode_message(data)
        except MessageParseError as error:
            self._events.append(MessageDropped(error.fault))
            return
        if message.message_class is _REQUEST:
            self._answer(message, path, now, unix_time)
        elif message.message_class is _INDICATION and message.method == _SEND:
            self._send_indication(message, path, now)
        else:
            # A Binding indication keeps a NAT open; responses answer nothing that we asked. Neither gets a
            # reply, or two servers could be made to talk to each other for ever.
            self._events.append(MessageDropped(NoAnswer.NOT_A_REQUEST))

    def disconnect(self, path: FiveTuple, now: float) -> None:
        """The client's connection is gone, and its allocation with it (RFC 8656 §3.1).

        A mobile one waits for its ticket. Whoever has this five-tuple next may be somebody else behind the same NAT.
        """
        allocation = self._allocations.get(path)
        if allocation is not None:
            if allocation.serial is None:
                self._delete(allocation, Ending.DISCONNECTED, now)
            else:
                allocation.is_stranded = True
                self._past.remember(Transaction(path, allocation.transaction_id, allocation.holder), ENDED, now)
        if self._tcp is not None:
            self._tcp.client_lost(path)

    def close(self, now: float) -> None:
        """Delete every allocation, as the service stops."""
        for allocation in list(self._allocations.values()):
            self._delete(allocation, Ending.SHUTDOWN, now)
        self._allocator.expire_reservations(math.inf)

    def handle_timeout(self, now: float) -> None:
        """Clean up what has expired; the forwarding plane stopped relaying at the very instant by itself."""
        self._allocator.expire_reservations(now)
        if self._tcp is not None:
            self._tcp.handle_timeout(now)
        for allocation in self._timers.due(now):
            if allocation.expires_at <= now:
                self._delete(allocation, Ending.EXPIRED, now)
                continue
            self._forget_expired(allocation, now)
            self._timers.schedule(allocation, allocation.next_deadline())
        first = self.poll_timeout()
        self.wake_by = math.inf if first is None else first

    def poll_transmit(self) -> Transmit | None:
        """The next message for a client."""
        if self._outbox:
            return self._outbox.popleft()
        return None if self._tcp is None else self._tcp.poll_transmit()

    def poll_event(self) -> Event | None:
        """The next event for metrics and logs."""
        return self._events.popleft() if self._events else None

    def poll_timeout(self) -> float | None:
        """When `handle_timeout` wants to be called, in monotonic seconds."""
        allocations, reservations = self._timers.next_at(), self._allocator.ledger.reservations.next_at()
        if self._tcp is not None and (connections := self._tcp.poll_timeout()) is not None:
            allocations = connections if allocations is None else min(allocations, connections)
        if allocations is None or reservations is None:
            return allocations if reservations is None else reservations
        return min(allocations, reservations)

    # Requests

    def _answer(self, request: Message, path: FiveTuple, now: float, unix_time: float) -> None:
        method = request.method
        if method == _BINDING:
            self._answer_binding(request, path, now)
            return
        handler = self._handlers.get(method)
        if handler is None:
            self._events.append(MessageDropped(NoAnswer.UNKNOWN_METHOD))
            return
        if request.integrity is None:  # as every client begins; to raise it and catch it would cost more than to answer
            self._refuse(request, path, _NO_CREDENTIALS, None, now, unix_time)
            return
        identity: Identity | None = None
        allocation = self._allocations.get(path)
        try:
            keeps_alive = allocation is not None and method in _KEEPS_ALIVE and allocation.is_here(now)
            identity = self._authenticator.authenticate(
                request,
                path,
                unix_time,
                None if allocation is None else allocation.identity,
                holder=allocation.holder if allocation is not None and keeps_alive else None,
                grace_seconds=self._settings.expired_user_grace_seconds,
            )
            if identity.trial is not None:
                identity.trial.check_client(path.client.ip, identity.realm.policy)
            unknown = request.unknown_attributes(self._understood)
            if unknown:
                self._respond(encode_unknown_attributes(request, unknown, key=identity.key), path)
                self._observe(RequestRefused(_METHODS[method], ErrorCode.UNKNOWN_ATTRIBUTE, "unknown_attribute"))
                return
            is_new = (
                allocation is None
                or allocation.is_stranded  # its client has left: nobody waits for that answer
                or allocation.transaction_id != request.transaction_id
            )
            if method == _ALLOCATE and is_new:
                transaction = Transaction(path, request.transaction_id, identity.holder)
                if self._answer_again(transaction, now):
                    return
            attributes = handler(request, path, identity, allocation, now)
        except MessageParseError:
            self._refuse(request, path, BadRequest("malformed_attribute"), identity, now, unix_time)
        except RequestRejected as rejection:
            self._refuse(request, path, rejection, identity, now, unix_time)
        else:
            if attributes is not None:
                self._outbox.append((encode_success(request, attributes, key=identity.key), path))
            self._events.append(_ANSWERED[_METHODS[method], path.transport])

    def _answer_again(self, transaction: Transaction, now: float) -> bool:
        """Answer what comes again of an Allocate that was refused as it was then (RFC 8489 §6.3.1).

        Raises:
            AllocationMismatch: it was granted, and the allocation has ended.
        """
        past = self._past.recall(transaction, now)
        if past is None:
            return False
        if past.refused is None:
            raise AllocationMismatch("ended")
        self._respond(past.response, transaction.path)
        self._observe(past.refused)
        return True

    def _answer_binding(self, request: Message, path: FiveTuple, now: float) -> None:
        if self._discovery is None:
            self._outbox.append((answer_binding(request, path.client), path))
        else:
            answer = self._discovery.answer(request, path, now)
            if answer is None:
                self._events.append(MessageDropped(NoAnswer.RATE_LIMITED))
                return
            self._outbox.append((answer.data, FiveTuple(path.transport, answer.source, answer.destination)))
        self._events.append(_BINDING_ANSWERED[path.transport])

    def _refuse(
        self,
        request: Message,
        path: FiveTuple,
        rejection: RequestRejected,
        identity: Identity | None,
        now: float,
        unix_time: float,
    ) -> None:
        is_stranger = identity is None and path.transport is _UDP  # whose address may be forged
        if is_stranger and not self._guard.admit(path.client.ip, now):
            self._observe(MessageDropped(NoAnswer.RATE_LIMITED))
            return
        attributes: tuple[bytes, ...] = ()
        if isinstance(rejection, _CHALLENGED):
            attributes = self._authenticator.challenge(path, unix_time)
        elif isinstance(rejection, TryAlternate):
            attributes = (ALTERNATE_SERVER.pack(rejection.server),)
        response = encode_error(
            request,
            rejection.code,
            attributes,
            # A reason phrase is for people; over UDP a stranger could aim it at somebody else.
            with_reason=path.transport is not _UDP,
            key=identity.key if identity is not None else None,
        )
        code, cause = rejection.code, rejection.cause
        if is_stranger and not is_within_budget(response, request.raw):
            # No client asks for a challenge with so little: even the barest Allocate has REQUESTED-TRANSPORT.
            code, cause = ErrorCode.BAD_REQUEST, "too_small_for_a_challenge"
            response = encode_error(request, code)
        refused = RequestRefused(_METHODS[request.method], code, cause)
        if identity is not None and request.method == _ALLOCATE:
            transaction = Transaction(path, request.transaction_id, identity.holder)
            self._past.remember(transaction, PastAnswer(response, refused), now)
        self._respond(response, path)
        self._observe(refused)

    def _allocate(
        self, request: Message, path: FiveTuple, identity: Identity, existing: Allocation | None, now: float
    ) -> tuple[bytes, ...]:
        """RFC 8656 §7.2."""
        holder = identity.holder
        if existing is not None and existing.is_here(now):
            if existing.transaction_id == request.transaction_id and existing.holder == holder:
                return self._allocate_response(existing, request, now)
            raise AllocationMismatch("already_allocated")
        wish = read_wish(request, path.transport, tcp_allocations=self._tcp is not None)
        is_mobile = check_request(request.get(MOBILITY_TICKET), is_allowed=self._mobility is not None)
        if identity.trial is not None and (wish.protocol != UDP_PROTOCOL or wish.even_port or is_mobile):
            raise Forbidden("trial_wish")
        if self._is_draining:
            raise self._alternate_for(path) or InsufficientCapacity("draining")
        if existing is not None:
            self._make_way(existing, now)
        plane = self._planes[wish.protocol]
        allocation = Allocation(path, holder, wish.protocol, plane, request.transaction_id, now)
        limits = HolderLimits(identity.realm.allocations_per_user, identity.realm.max_allocations)
        if identity.trial is not None:
            allocation.circle = trial.circle_of(holder, path.client.ip)
            per_address = min(limits.per_user, trial.ALLOCATIONS_PER_ADDRESS)
            limits = HolderLimits(per_address, limits.per_realm, self._max_trials)
        try:
            self._allocator.open(allocation, wish, limits, now + self._lifetime(wish.lifetime, allocation, now), now)
        except InsufficientCapacity as full:
            raise (self._alternate_for(path) if wish.reservation_token is None else None) or full from full
        allocation.identity = identity
        self._allocations[path] = allocation
        self._reschedule(allocation, allocation.expires_at)
        if allocation.reservation_token is not None:
            self.wake_by = min(self.wake_by, now + reservation.LIFETIME)
        if self._tcp is not None and wish.protocol == TCP_PROTOCOL:
            self._tcp.begin(allocation)
        if is_mobile and self._mobility is not None:
            self._serials += 1
            allocation.serial = self._serials
            self._mobiles[self._serials] = allocation
            self._mobility.issue(self._serials, Owner(identity.username, identity.realm.name))
        self._observe(
            AllocationCreated(
                path.transport, tuple(allocation.relays), identity.secret, is_trial=bool(allocation.circle)
            )
        )
        return self._allocate_response(allocation, request, now)

    def _allocate_response(self, allocation: Allocation, request: Message, now: float) -> tuple[bytes, ...]:
        transaction_id = request.transaction_id
        attributes = [XOR_RELAYED_ADDRESS.pack(relay.address, transaction_id) for relay in allocation.relays.values()]
        attributes.append(LIFETIME.pack(round(allocation.expires_at - now)))
        attributes.append(XOR_MAPPED_ADDRESS.pack(allocation.path.client, transaction_id))
        if allocation.unavailable is not None:
            family, code = allocation.unavailable
            attributes.append(ADDRESS_ERROR_CODE.pack(AddressError(family, code, "")))
        if allocation.reservation_token is not None:
            attributes.append(RESERVATION_TOKEN.pack(allocation.reservation_token))
        if allocation.serial is not None and self._mobility is not None:
            ticket = self._mobility.current(allocation.serial)
            if ticket is not None:
                attributes.append(MOBILITY_TICKET.pack(ticket))
        return tuple(attributes)

    def _alternate_for(self, path: FiveTuple) -> TryAlternate | None:
        """Another server, in turn; of the family that the client came with (RFC 8489 §10)."""
        servers = self._alternates.get(path.client.family)
        if not servers:
            return None
        self._alternates_used += 1
        return TryAlternate(servers[self._alternates_used % len(servers)])

    def _refresh(
        self, request: Message, path: FiveTuple, identity: Identity, existing: Allocation | None, now: float
    ) -> tuple[bytes, ...]:
        """RFC 8656 §8.2; REQUESTED-ADDRESS-FAMILY picks one half of a dual allocation, MOBILITY-TICKET any one."""
        ticket, wish = request.get(MOBILITY_TICKET), request.get(LIFETIME)
        family = request.get(REQUESTED_ADDRESS_FAMILY)
        if ticket is None:
            allocation = _own(existing, identity, now)
        else:
            allocation = self._mobile_allocation(ticket, path, identity, existing, now)
        if family is not None and allocation.live_relay(family, now) is None:
            if wish == 0 and request.transaction_id == allocation.released_by:
                return (LIFETIME.pack(0),)  # a retransmission is answered alike
            raise PeerAddressFamilyMismatch("family")
        if ticket is not None:  # nothing is refused any more
            self._move(allocation, path, identity, now)
        if wish == 0:
            if family is None or len(allocation.relays) == 1:
                self._delete(allocation, Ending.REFRESH_ZERO, now)
            else:
                self._release_family(allocation, family, Ending.REFRESH_ZERO)
                allocation.released_by = request.transaction_id
            return (LIFETIME.pack(0),)
        lifetime = self._lifetime(wish, allocation, now)
        for each, relay in allocation.relays.items():
            if relay.expires_at > now and (family is None or family == each):  # what has expired is not revived
                relay.expires_at = now + lifetime
                allocation.plane.set_expiry(relay.handle, relay.expires_at)
        allocation.expires_at = allocation.last_expiry()
        self._reschedule(allocation, now + lifetime)
        if ticket is None or allocation.serial is None or self._mobility is None:
            return (LIFETIME.pack(lifetime),)
        fresh = self._mobility.rotate(allocation.serial, request.transaction_id)
        return (LIFETIME.pack(lifetime), MOBILITY_TICKET.pack(fresh))

    def _mobile_allocation(
        self, ticket: bytes, path: FiveTuple, identity: Identity, here: Allocation | None, now: float
    ) -> Allocation:
        """The allocation of a ticket, if it may belong to the five-tuple that the ticket came from (RFC 8016 §3.2)."""
        if self._mobility is None:
            raise MobilityForbidden("mobility_off")
        serial = self._mobility.redeem(ticket, Owner(identity.username, identity.realm.name))
        allocation = self._mobiles[serial]
        if allocation.expires_at <= now:
            raise AllocationMismatch("no_allocation")
        if allocation.protocol == TCP_PROTOCOL and path.transport not in STREAMS:
            raise BadRequest("tcp_allocation_without_stream")
        if here is not None and here is not allocation and here.is_here(now):
            raise BadRequest("ticket_of_another_allocation")
        return allocation

    def _move(self, allocation: Allocation, path: FiveTuple, identity: Identity, now: float) -> None:
        """Let an allocation belong to this five-tuple, unless it does."""
        old = allocation.path
        allocation.identity = identity
        if path == old and not allocation.is_stranded:
            return
        here = self._allocations.get(path)
        if here is not None and here is not allocation:
            self._make_way(here, now)
        families = tuple(allocation.relays)
        allocation.plane.move_client(next(iter(allocation.relays.values())).handle, path)
        del self._allocations[old]
        self._past.remember(Transaction(old, allocation.transaction_id, allocation.holder), ENDED, now)
        self._allocations[path] = allocation
        allocation.path, allocation.is_stranded = path, False
        self._observe(AllocationMoved(old.transport, path.transport, families))

    def _connect(
        self, request: Message, path: FiveTuple, identity: Identity, existing: Allocation | None, now: float
    ) -> None:
        """RFC 6062 §5.2; the answer follows when the peer has accepted or not."""
        allocation = _own(existing, identity, now)
        peer = request.get(XOR_PEER_ADDRESS)
        if peer is None:
            raise BadRequest("no_peer")
        if self._tcp is None or allocation.protocol != TCP_PROTOCOL:
            raise AllocationMismatch("not_a_tcp_allocation")
        self._check_peer(allocation, peer, identity, now)
        if identity.realm.policy.is_for_relays_only(peer.ip) and not self._tcp.is_relayed(peer):
            raise Forbidden("peer_own_address")  # or the relay would be a way to every TCP service of this machine
        self._tcp.connect(allocation, peer, Asked(request, path, identity.key), now)

    def _connection_bind(
        self, request: Message, path: FiveTuple, identity: Identity, existing: Allocation | None, _now: float
    ) -> tuple[bytes, ...] | None:
        """RFC 6062 §5.4."""
        if self._tcp is None:
            raise BadRequest("tcp_off")
        return self._tcp.bind(request, path, identity.holder, has_allocation=existing is not None)

    def _create_permission(
        self, request: Message, _path: FiveTuple, identity: Identity, existing: Allocation | None, now: float
    ) -> tuple[bytes, ...]:
        """RFC 8656 §10.2: all of the addresses, or none of them."""
        allocation = _own(existing, identity, now)
        peers = request.get_all(XOR_PEER_ADDRESS)
        if not peers:
            raise BadRequest("no_peer")
        ips = {peer.ip for peer in peers} if len(peers) > 1 else {peers[0].ip}
        if len(ips) > self._settings.quota.permissions_per_allocation and not ips <= allocation.permissions.keys():
            raise InsufficientCapacity("permissions")  # before any of them is judged
        for peer in peers:
            self._check_peer(allocation, peer, identity, now)
        self._make_room(allocation, ips, now)
        for ip in ips:
            self._permit(allocation, ip, now)
        self._reschedule(allocation, now + permission.LIFETIME)
        return ()

    def _channel_bind(
        self, request: Message, _path: FiveTuple, identity: Identity, existing: Allocation | None, now: float
    ) -> tuple[bytes, ...]:
        """RFC 8656 §12.2."""
        allocation = _own(existing, identity, now)
        number, peer = request.get(CHANNEL_NUMBER), request.get(XOR_PEER_ADDRESS)
        if number is None or peer is None:
            raise BadRequest("no_channel_or_peer")
        if not MIN_CHANNEL <= number <= self._max_channel:
            raise BadRequest("channel_number")
        if allocation.protocol != UDP_PROTOCOL:
            raise BadRequest("channel_of_tcp_allocation")  # RFC 6062 §4
        self._check_peer(allocation, peer, identity, now)
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
        handle = allocation.relays[peer.family].handle
        allocation.plane.bind_channel(handle, number, peer, binding.expires_at)
        self._reschedule(allocation, now + permission.LIFETIME)
        return ()

    def _send_indication(self, message: Message, path: FiveTuple, now: float) -> None:
        """RFC 8656 §11.2, for indications whose shape the forwarding plane does not take by itself."""
        allocation = self._allocations.get(path)
        try:
            peer, data = message.get(XOR_PEER_ADDRESS), message.get(DATA)
            dont_fragment = message.get(DONT_FRAGMENT) is not None
        except MessageParseError as error:
            self._observe(MessageDropped(error.fault))
            return
        if (
            allocation is None
            or allocation.is_stranded
            or peer is None
            or data is None
            or message.unknown_attributes(self._understood)
        ):
            self._observe(MessageDropped(NoAnswer.BAD_INDICATION))  # an indication never gets an answer
            return
        relay = allocation.live_relay(peer.family, now)
        if relay is None or not allocation.has_permission(peer.ip, now):
            self._observe(MessageDropped(NoAnswer.BAD_INDICATION))
            return
        allocation.plane.send_to_peer(relay.handle, data, peer, dont_fragment=dont_fragment)

    # What requests have in common

    def _make_way(self, allocation: Allocation, now: float) -> None:
        """Delete an allocation that its five-tuple does not speak for, because another one needs it."""
        self._delete(allocation, Ending.EXPIRED if allocation.expires_at <= now else Ending.DISCONNECTED, now)

    def _check_peer(self, allocation: Allocation, peer: TransportAddress, identity: Identity, now: float) -> None:
        if allocation.live_relay(peer.family, now) is None:
            raise PeerAddressFamilyMismatch("family")
        identity.realm.policy.check(peer)
        if identity.trial is not None:
            identity.trial.check_peer(peer, allocation.path.client.ip, identity.realm.policy)

    def _lifetime(self, wish: int | None, allocation: Allocation, now: float) -> int:
        """The LIFETIME to grant, in seconds: the wish between default and maximum (RFC 8656 §7.2).

        What belongs to a connection test ends at its time, whatever is wished for.
        """
        default = self._settings.default_lifetime_seconds
        lifetime = default if wish is None else max(default, min(wish, self._settings.max_lifetime_seconds))
        if allocation.circle:
            lifetime = min(lifetime, int(allocation.created_at + trial.ALLOCATION_SECONDS - now))
        return lifetime

    def _make_room(self, allocation: Allocation, ips: set[bytes], now: float) -> None:
        limit = self._settings.quota.permissions_per_allocation
        if len(allocation.permissions) + len(ips) <= limit or ips <= allocation.permissions.keys():
            return  # those it has may be refreshed, even if a reload has lowered the limit
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
        allocation.plane.allow_peer(allocation.relays[family_of(ip)].handle, ip, expires_at)

    def _reschedule(self, allocation: Allocation, at: float) -> None:
        """Wake up no later than a deadline that was just set; one that moved away is noticed when its second comes."""
        if allocation.bucket is None or at < allocation.bucket:
            self._timers.schedule(allocation, at)
            self.wake_by = min(self.wake_by, self._timers.wake_by)

    def _forget_expired(self, allocation: Allocation, now: float) -> None:
        for family in [family for family, relay in allocation.relays.items() if relay.expires_at <= now]:
            self._release_family(allocation, family, Ending.EXPIRED)
        for ip in [ip for ip, granted in allocation.permissions.items() if granted.expires_at <= now]:
            del allocation.permissions[ip]
            allocation.plane.forget_peer(allocation.relays[family_of(ip)].handle, ip)
        for binding in [binding for binding in allocation.channels.values() if binding.expires_at <= now]:
            self._forget_channel(allocation, binding)

    def _forget_channel(self, allocation: Allocation, binding: ChannelBinding | None) -> None:
        if binding is not None:
            del allocation.channels[binding.number]
            del allocation.peers[binding.peer]
            allocation.plane.unbind_channel(allocation.relays[binding.peer.family].handle, binding.number)

    def _release_family(self, allocation: Allocation, family: int, ending: Ending) -> None:
        """End one half of a dual allocation, with its permissions and channels."""
        for binding in [binding for peer, binding in allocation.peers.items() if peer.family == family]:
            self._forget_channel(allocation, binding)
        for ip in [ip for ip in allocation.permissions if family_of(ip) == family]:
            del allocation.permissions[ip]
        if self._tcp is not None and allocation.protocol == TCP_PROTOCOL:  # each plane counts handles for itself
            self._tcp.end(allocation.relays[family].handle)
        allocation.traffic = allocation.traffic.plus(self._allocator.release_family(allocation, family))
        allocation.expires_at = allocation.last_expiry()
        self._observe(HalfDeleted(allocation.path.transport, family, ending))

    def _delete(self, allocation: Allocation, ending: Ending, now: float) -> None:
        del self._allocations[allocation.path]
        self._past.remember(Transaction(allocation.path, allocation.transaction_id, allocation.holder), ENDED, now)
        self._timers.cancel(allocation)
        if self._tcp is not None and allocation.protocol == TCP_PROTOCOL:
            for relay in allocation.relays.values():
                self._tcp.end(relay.handle)
        if allocation.serial is not None and self._mobility is not None:
            del self._mobiles[allocation.serial]
            self._mobility.forget(allocation.serial)
        families = tuple(allocation.relays)
        traffic = allocation.traffic.plus(self._allocator.release(allocation))
        secret = "" if allocation.identity is None else allocation.identity.secret
        seconds = now - allocation.created_at
        self._observe(
            AllocationDeleted(
                allocation.path.transport, families, ending, seconds, traffic, secret, is_trial=bool(allocation.circle)
            )
        )

    def _respond(self, data: bytes, path: FiveTuple) -> None:
        self._outbox.append((data, path))

    def _observe(self, event: Event) -> None:
        self._events.append(event)


def _own(allocation: Allocation | None, identity: Identity, now: float) -> Allocation:
    """What lives on the five-tuple, if it belongs to whoever asks."""
    if allocation is None or not allocation.is_here(now):
        raise AllocationMismatch("no_allocation")
    if allocation.identity is not identity:
        if allocation.holder != identity.holder:
            raise WrongCredentials("other_user")
        allocation.identity = identity
    return allocation
