"""Random clients against the whole control plane: nothing leaks, and nothing forbidden is installed."""

import math
from collections import Counter
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from relay.allocation import holder_of
from relay.five_tuple import STREAMS, Transport
from relay.past_allocates import REMEMBERED_SECONDS
from relay.peer_policy import PeerPolicy
from relay.realm import Realm
from relay.tcp_allocation import Close, Dial, Pair
from relay.wish import TCP_PROTOCOL, UDP_PROTOCOL
from stun.address import IPV4, IPV6, TransportAddress
from stun.attributes import (
    ADDITIONAL_ADDRESS_FAMILY,
    CHANNEL_NUMBER,
    CONNECTION_ID,
    DATA,
    ERROR_CODE,
    EVEN_PORT,
    LIFETIME,
    MOBILITY_TICKET,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    RESERVATION_TOKEN,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
)
from stun.credentials import CredentialBook
from stun.message import decode_message
from stun.registry import Method
from tests.support.relay_harness import RELAY_V4, RELAY_V6, SERVER, RelayedClient, RelayHarness, peer
from tests.support.turn_client import Field, Response, indication

OPEN = [peer("8.8.8.8"), peer("8.8.8.8", 4001), peer("9.9.9.9"), peer("1.1.1.1"), peer("208.67.222.222")]
OPEN_V6 = [peer("2606:4700::1111"), peer("2606:4700::1111", 1), peer("2a00:1450::2"), peer("2620:fe::9")]
DENIED = [peer("10.0.0.1"), peer("127.0.0.1"), peer("169.254.169.254"), peer("192.168.1.1")]
DENIED_V6 = [peer("::1"), peer("fd00::1"), peer("::ffff:127.0.0.1"), peer("64:ff9b::a00:1"), peer("2002:a00:1::")]
RELAYED = [TransportAddress(ip, port) for ip in (RELAY_V4, RELAY_V6) for port in (50_001, 50_004, 443)]

# User, password, transport, and the port of the server, where the realm of the clinic is offered at the other one.
CLIENTS = [
    ("alice", "wonderland", Transport.UDP, 3478),
    ("bob", "builder", Transport.TCP, 3478),
    ("alice", "wonderland", Transport.TLS, 3478),
    ("alice", "wonderland", Transport.DTLS, 3478),
    ("bob", "builder", Transport.UDP, 3478),
    ("alice", "wonderland", Transport.TCP, 3478),
    ("alice", "another one", Transport.UDP, 3479),
    ("alice", "another one", Transport.TCP, 3479),
]
LIMITS = {"redconnect": (3, 1 << 31), "clinic": (2, 3)}  # relayed addresses of one user, and of all

clients = st.integers(0, len(CLIENTS) - 1)
peers = st.sampled_from(OPEN * 3 + OPEN_V6 * 2 + DENIED + DENIED_V6)
numbers = st.sampled_from([0x3FFF, 0x4000, 0x4001, 0x4002, 0x7FFE, 0x7FFF])
lifetimes = st.sampled_from([None, 0, 1, 600, 900, 3600, 1 << 31])
durations = st.sampled_from([0.0, 0.25, 1.0, 29.75, 30.0, 299.5, 300.0, 300.5, 599.0, 600.0, 3600.0])
families = st.sampled_from([None, None, IPV4, IPV6])


class Held:
    """What a client was told that it has."""

    def __init__(self, holder: str, protocol: int, expiries: dict[int, float]) -> None:
        self.holder = holder
        self.protocol = protocol
        self.expiries = expiries  # by family
        self.ticket: bytes | None = None
        self.is_stranded = False
        self.has_ended = False

    def is_live(self, now: float) -> bool:
        return not self.has_ended and max(self.expiries.values()) > now


class Asked(NamedTuple):
    """The latest Allocate of a client, and what came of it."""

    data: bytes
    at: float
    code: int
    made: Held | None


class TurnServerMachine(RuleBasedStateMachine):
    """Eight clients of three users in two realms; a small pool, so that they get in each other's way."""

    def __init__(self) -> None:
        super().__init__()
        self.harness = RelayHarness(
            port_min=50_001,
            port_max=50_012,
            nonce_lifetime_seconds=86_400,
            tcp_allocations=True,
            mobility=True,
            quota={"allocations_per_user": 3, "permissions_per_allocation": 3, "channels_per_allocation": 2},
        )
        self.has_clinic = True
        self.is_draining = False
        self.reload(has_clinic=True, permissions=3, channels=2, denies_one=False)
        self.clients = [
            self.harness.client(user, password, transport, TransportAddress(SERVER.ip, port))
            for user, password, transport, port in CLIENTS
        ]
        self.holders = [holder_of("redconnect" if port == 3478 else "clinic", user) for user, _, _, port in CLIENTS]
        self.tokens: list[bytes] = [bytes(8)]
        self.held: dict[RelayedClient, Held] = {}
        self.asked: dict[int, Asked] = {}
        self.tickets: dict[bytes, Held] = {}
        self.connections: set[int] = set()  # whose peers' sockets are open
        self.pipes: list[RelayedClient] = []

    def ask(self, number: int, method: Method, *fields: Field) -> Response:
        client = self.clients[number]
        response = client.ask(method, *fields)
        for _ in range(2):  # nonces expire, and the realm may have been away
            if response.code in {401, 438}:
                response = client.ask(method, *fields)
        assert (response.code == 401) is not self.is_known(number)
        assert response.code not in {438, 500}
        self.obey()
        return response

    def obey(self) -> None:
        """Open and close the sockets of TCP allocations."""
        for command in self.harness.commands:
            if isinstance(command, Dial):
                assert command.peer not in DENIED + DENIED_V6
                if command.peer.ip in {RELAY_V4, RELAY_V6}:
                    assert command.peer.port in {relay.port for relay in self.harness.tcp_plane.relays.values()}
                assert command.allocation in self.harness.tcp_plane.relays
                self.connections.add(command.connection_id)
            elif isinstance(command, Close):
                self.connections.remove(command.connection_id)
            else:
                assert command.connection_id in self.connections
        self.harness.commands.clear()
        self.harness.late.clear()

    def is_known(self, number: int) -> bool:
        """Whether the realm of this client is configured."""
        return self.has_clinic or not self.holders[number].startswith("clinic")

    def live(self, number: int) -> Held | None:
        held = self.held.get(self.clients[number])
        return held if held is not None and held.is_live(self.harness.now) and not held.is_stranded else None

    @initialize(wishes=st.lists(st.sampled_from(["none", "one", "both"]), min_size=8, max_size=8), mobile=st.booleans())
    def begin(self, wishes: list[str], mobile: bool) -> None:  # noqa: FBT001
        """Some have an allocation from the start, of TCP where that can be, so that there is something to be lost."""
        for number, wish in enumerate(wishes):
            if wish != "none":
                protocol = TCP_PROTOCOL if CLIENTS[number][2] is Transport.TCP else UDP_PROTOCOL
                self.allocate(number, protocol, "both" if wish == "both" else None, None, None, mobile)

    @rule(
        number=clients,
        protocol=st.sampled_from([UDP_PROTOCOL, UDP_PROTOCOL, TCP_PROTOCOL]),
        family=st.sampled_from([None, IPV4, IPV6, 3, "both"]),
        even_port=st.sampled_from([None, None, False, True]),
        lifetime=lifetimes,
        mobile=st.booleans(),
    )
    def allocate(
        self,
        number: int,
        protocol: int,
        family: int | str | None,
        even_port: bool | None,  # noqa: FBT001
        lifetime: int | None,
        mobile: bool,  # noqa: FBT001
    ) -> None:
        fields: list[Field] = [(REQUESTED_TRANSPORT, protocol)]
        if family == "both":
            fields.append((ADDITIONAL_ADDRESS_FAMILY, IPV6))
        elif family is not None:
            fields.append((REQUESTED_ADDRESS_FAMILY, family))
        if even_port is not None:
            fields.append((EVEN_PORT, even_port))
        if lifetime is not None:
            fields.append((LIFETIME, lifetime))
        if mobile:
            fields.append((MOBILITY_TICKET, b""))
        self._allocate(number, protocol, *fields)

    @rule(number=clients, data=st.data())
    def redeem(self, number: int, data: st.DataObject) -> None:
        token = data.draw(st.sampled_from(self.tokens))
        self._allocate(number, UDP_PROTOCOL, (REQUESTED_TRANSPORT, UDP_PROTOCOL), (RESERVATION_TOKEN, token))

    def _allocate(self, number: int, protocol: int, *fields: Field) -> None:
        live = self.live(number)
        response = self.ask(number, Method.ALLOCATE, *fields)
        if response.code == 401:
            return
        assert (response.code == 437) is (live is not None)
        assert response.code in {0, 400, 437, 440, 486, 508}
        self.asked[number] = Asked(self.clients[number].sent, self.harness.now, response.code, None)
        if response.code in {486, 508} and not self.is_draining:
            # Nothing was free for this client, but what its five-tuple held for another one had to make way first.
            self._take_place(number, None)
        if response.code != 0:
            return
        assert not self.is_draining
        assert protocol == UDP_PROTOCOL or self.clients[number].path.transport in STREAMS
        had = [address.family for address in response.message.get_all(XOR_RELAYED_ADDRESS)]
        expiries = dict.fromkeys(had, self.harness.now + response.get(LIFETIME))
        held = Held(self.holders[number], protocol, expiries)
        self.asked[number] = self.asked[number]._replace(made=held)
        self._take_place(number, held)
        self._learn_ticket(held, response)
        if response.has(RESERVATION_TOKEN):
            self.tokens.append(response.get(RESERVATION_TOKEN))

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def allocate_comes_again(self, data: st.DataObject) -> None:
        """A datagram was slow, or doubled on its way: nobody waits for the answer any more."""
        number = data.draw(st.sampled_from(sorted(self.asked)))
        asked, client = self.asked[number], self.clients[number]
        if client.path.transport in STREAMS or self.harness.now >= asked.at + REMEMBERED_SECONDS:
            return
        (answer,) = client.send(asked.data)
        error = decode_message(answer).get(ERROR_CODE)
        code = 0 if error is None else error.code
        if not self.is_known(number):
            assert code == 401
        elif asked.made is None:
            assert code == asked.code
        else:
            assert (code == 0) is (self.live(number) is asked.made)
            assert code in {0, 437}
        self.obey()

    def _take_place(self, number: int, held: Held | None) -> None:
        """What was at this client's five-tuple before has ended, or is this."""
        before = self.held.pop(self.clients[number], None)
        if before is not None and before is not held:
            before.has_ended = True
        if held is not None:
            self.held[self.clients[number]] = held

    def _learn_ticket(self, held: Held, response: Response) -> None:
        if response.has(MOBILITY_TICKET):
            held.ticket = response.get(MOBILITY_TICKET)
            self.tickets[held.ticket] = held

    @rule(number=clients, lifetime=lifetimes, family=families)
    def refresh(self, number: int, lifetime: int | None, family: int | None) -> None:
        held = self.live(number)
        has_family = held is not None and (family is None or held.expiries.get(family, 0.0) > self.harness.now)
        response = self._refresh(number, lifetime, family)
        if response.code == 401:
            return
        assert response.code == (437 if held is None else 0 if has_family else 443)
        if held is not None and response.code == 0:
            self._refreshed(number, held, family, response)

    @precondition(lambda self: self.tickets)
    @rule(number=clients, lifetime=lifetimes, family=families, data=st.data())
    def move(self, number: int, lifetime: int | None, family: int | None, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(list(self.tickets)))
        held, here, now = self.tickets[ticket], self.live(number), self.harness.now
        may = held.is_live(now) and held.holder == self.holders[number] and (here is None or here is held)
        if held.protocol == TCP_PROTOCOL:
            may = may and self.clients[number].path.transport in STREAMS
        may = may and (family is None or held.expiries.get(family, 0.0) > now)
        response = self._refresh(number, lifetime, family, (MOBILITY_TICKET, ticket))
        assert response.code in {0, 400, 401, 437, 441, 443}
        if response.code != 0:
            assert not (may and ticket == held.ticket and self.is_known(number))
            return
        assert may
        for client, each in list(self.held.items()):
            if each is held:
                del self.held[client]
        self._take_place(number, held)
        held.is_stranded = False
        self._learn_ticket(held, response)
        self._refreshed(number, held, family, response)

    def _refresh(self, number: int, lifetime: int | None, family: int | None, *fields: Field) -> Response:
        if lifetime is not None:
            fields += ((LIFETIME, lifetime),)
        if family is not None:
            fields += ((REQUESTED_ADDRESS_FAMILY, family),)
        return self.ask(number, Method.REFRESH, *fields)

    def _refreshed(self, number: int, held: Held, family: int | None, response: Response) -> None:
        now, lifetime = self.harness.now, response.get(LIFETIME)
        for each in held.expiries:
            if held.expiries[each] > now and family in {None, each}:
                held.expiries[each] = now + lifetime
        if not held.is_live(now):
            held.has_ended = True
            del self.held[self.clients[number]]

    @rule(number=clients, wanted=st.lists(peers, max_size=4))
    def permit(self, number: int, wanted: list[TransportAddress]) -> None:
        live = self.live(number)
        before = self.clients[number].permitted if live else {}
        code = self.ask(number, Method.CREATE_PERMISSION, *((XOR_PEER_ADDRESS, each) for each in wanted)).code
        assert code == 401 or (code == 437) is (live is None)
        if live and code in {400, 401, 403, 443}:
            assert self.clients[number].permitted == before
        if code == 0:
            held = self.clients[number].permitted
            assert all(held[each.ip] == self.harness.now + 300 for each in wanted)
            assert all(self.harness.policy.verdict(each.ip) is None for each in wanted)

    @rule(number=clients, channel=numbers, to=peers)
    def bind(self, number: int, channel: int, to: TransportAddress) -> None:
        live = self.live(number)
        code = self.ask(number, Method.CHANNEL_BIND, (CHANNEL_NUMBER, channel), (XOR_PEER_ADDRESS, to)).code
        assert code == 401 or (code == 437) is (live is None)
        if code == 0:
            assert live is not None
            assert live.protocol == UDP_PROTOCOL
            assert self.harness.policy.verdict(to.ip) is None
            assert self.clients[number].bound[channel] == (to, self.harness.now + 600)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def send_where_one_may(self, data: st.DataObject) -> None:
        """Send indications to a permitted peer, also over a five-tuple whose client has gone."""
        number = data.draw(st.sampled_from([each for each, client in enumerate(self.clients) if client in self.held]))
        for ip in self.clients[number].permitted:
            self.send(number, TransportAddress(ip, 4000))

    @rule(number=clients, to=peers)
    def send(self, number: int, to: TransportAddress) -> None:
        client, plane, held = self.clients[number], self.harness.plane, self.live(number)
        plane.sent.clear()
        expiry = 0.0 if held is None or held.protocol != UDP_PROTOCOL else held.expiries.get(to.family, 0.0)
        may = min(expiry, client.permitted.get(to.ip, 0.0)) > self.harness.now
        assert client.send(indication(Method.SEND, (XOR_PEER_ADDRESS, to), (DATA, b"x"))) == []
        assert len(plane.sent) == may

    # TCP allocations

    @rule(number=clients, to=peers | st.sampled_from(RELAYED))
    def connect(self, number: int, to: TransportAddress) -> None:
        client, live = self.clients[number], self.live(number)
        if not self.is_known(number):
            return
        if to in RELAYED and self.harness.tcp_plane.relays:
            relay = next(iter(self.harness.tcp_plane.relays.values()))
            to = TransportAddress(to.ip, to.port if to.port == 443 else relay.port)
        self.ask(number, Method.REFRESH, (LIFETIME, 1), (REQUESTED_ADDRESS_FAMILY, 0))  # a nonce; changes nothing
        answers = client.send(client.turn.build(Method.CONNECT, (XOR_PEER_ADDRESS, to)))
        codes = [client.turn.read(answer).code for answer in answers]
        if live is None or live.protocol != TCP_PROTOCOL:
            assert codes == [437]
        else:
            assert codes in ([], [403], [443], [446], [508])
            assert (codes == []) is any(isinstance(command, Dial) for command in self.harness.commands)
            assert codes != [] or self.harness.policy.verdict(to.ip) is None
        self.obey()

    @rule(data=st.data(), ending=st.sampled_from(["dialled", "dialled", "failed", "closed"]))
    def report(self, data: st.DataObject, ending: str) -> None:
        """The sockets tell what has become of a connection, or of one that was closed in the meantime."""
        connection = data.draw(st.sampled_from([1, *sorted(self.connections)]))
        tcp = self.harness.tcp
        assert tcp is not None
        if ending == "dialled":
            tcp.dialled(connection, self.harness.now)
        elif ending == "failed":
            tcp.dial_failed(connection)
        else:
            tcp.closed(connection)
        self.harness.drain_tcp()
        self.obey()

    @precondition(lambda self: self.harness.tcp_plane.relays)
    @rule(data=st.data(), origin=peers)
    def accept(self, data: st.DataObject, origin: TransportAddress) -> None:
        handle = data.draw(st.sampled_from(sorted(self.harness.tcp_plane.relays)))
        relay = self.harness.tcp_plane.relays[handle]
        assert self.harness.tcp is not None
        connection = self.harness.tcp.accept(handle, origin, self.harness.now)
        assert connection is None or relay.peers[origin.ip] > self.harness.now
        self.harness.drain_tcp()
        if connection is not None:
            self.connections.add(connection)
        self.obey()

    @rule(data=st.data(), user=st.sampled_from(CLIENTS))
    def bind_connection(self, data: st.DataObject, user: tuple[str, str, Transport, int]) -> None:
        connection = data.draw(st.sampled_from([1, *sorted(self.connections)]))
        name, password, transport, port = user
        if port == 3479 and not self.has_clinic:
            return
        client = self.harness.client(name, password, transport, TransportAddress(SERVER.ip, port))
        code = client.ask(Method.CONNECTION_BIND, (CONNECTION_ID, connection)).code
        assert code in {0, 400, 441}
        if code == 0:
            assert transport in STREAMS
            assert self.harness.commands[-1] == Pair(connection, client.path)
            (owner,) = [
                held.holder
                for each, held in self.held.items()
                for relay in each.relays
                if relay in self._relays_of(connection)
            ]
            assert owner == holder_of("redconnect" if port == 3478 else "clinic", name)
            self.pipes.append(client)
        self.obey()

    def _relays_of(self, connection: int) -> list[object]:
        assert self.harness.tcp is not None
        return [self.harness.tcp_plane.relays[self.harness.tcp._table._connections[connection].allocation]]

    @precondition(lambda self: self.pipes)
    @rule(data=st.data())
    def end_a_pipe(self, data: st.DataObject) -> None:
        self.harness.disconnect(self.pipes.pop(data.draw(st.integers(0, len(self.pipes) - 1))).path)
        self.obey()

    # What happens to all of them

    @rule(number=clients)
    def disconnect(self, number: int) -> None:
        self.harness.disconnect(self.clients[number].path)
        held = self.held.get(self.clients[number])
        if held is not None and held.ticket is not None:
            held.is_stranded = True
        elif held is not None:
            self.held.pop(self.clients[number]).has_ended = True
        self.obey()

    @rule(
        has_clinic=st.booleans(),
        permissions=st.integers(2, 3),
        channels=st.integers(1, 2),
        denies_one=st.booleans(),
    )
    def reload(self, *, has_clinic: bool, permissions: int, channels: int, denies_one: bool) -> None:
        quota = {
            "allocations_per_user": 3,
            "permissions_per_allocation": permissions,
            "channels_per_allocation": channels,
        }
        peers = {"deny": ["9.9.9.9/32"] if denies_one else []}
        book = CredentialBook("clinic", {"alice": "another one"}, {})
        policy = PeerPolicy(deny=peers["deny"], own_relays=(RELAY_V4, RELAY_V6))
        clinic = Realm("clinic", book, policy, *LIMITS["clinic"], ports=frozenset({3479}))
        self.harness.configure(*[clinic] * has_clinic, quota=quota, peers=peers)
        self.has_clinic = has_clinic

    @rule(chance=st.integers(0, 15))
    def drain(self, chance: int) -> None:
        if chance == 0:
            self.is_draining = True
            self.harness.server.drain()

    @rule(seconds=durations)
    def advance(self, seconds: float) -> None:
        self.harness.advance(seconds)
        self.obey()
        for plane in (self.harness.plane, self.harness.tcp_plane):
            for relay in plane.relays.values():
                instants = [relay.expires_at, *relay.peers.values(), *(expiry for _, expiry in relay.channels.values())]
                assert min(instants) > self.harness.now - 1, "something expired is not cleaned up within a second"

    @rule(seconds=durations)
    def jump(self, seconds: float) -> None:
        """Time passes, but the shell is late."""
        self.harness.jump(seconds)

    @rule(ports=st.sets(st.integers(50_001, 50_012)))
    def other_programs_take_ports(self, ports: set[int]) -> None:
        self.harness.plane.taken_ports = self.harness.tcp_plane.taken_ports = ports

    @precondition(lambda self: self.harness.plane.failure is None)
    @rule()
    def run_out_of_descriptors(self) -> None:
        self.harness.plane.failure = self.harness.tcp_plane.failure = OSError(24, "Too many open files")

    @precondition(lambda self: self.harness.plane.failure is not None)
    @rule()
    def have_descriptors_again(self) -> None:
        self.harness.plane.failure = self.harness.tcp_plane.failure = None

    @invariant()
    def ports_taken_are_allocations_and_reservations(self) -> None:
        reserved = Counter(each.family for each in self.harness.reservations._by_token.values())
        allocated = Counter(family for each in self.harness.server._allocations.values() for family in each.relays)
        for family, pool in self.harness.ports.items():
            assert pool.taken == reserved[family] + allocated[family]
            assert pool.taken + pool.free == pool.size
            assert pool.taken <= pool.limit

    @invariant()
    def the_quota_counts_allocations_and_reservations(self) -> None:
        held = Counter(each.holder for each in self.harness.server._allocations.values() for _ in each.relays)
        held.update(each.holder for each in self.harness.reservations._by_token.values())
        totals: Counter[str] = Counter()
        for holder, count in held.items():
            realm = holder.partition("\0")[0]
            assert count <= LIMITS[realm][0]
            totals[realm] += count
        assert all(count <= LIMITS[realm][1] for realm, count in totals.items())
        held.update(totals)
        assert {holder: self.harness.quota.held(holder) for holder in held} == held
        assert len(self.harness.quota) == len(held)

    @invariant()
    def the_forwarding_planes_know_what_the_control_plane_knows(self) -> None:
        planes, allocations = (self.harness.plane, self.harness.tcp_plane), self.harness.server._allocations
        assert {relay.path for plane in planes for relay in plane.relays.values()} == set(allocations)
        for path, allocation in allocations.items():
            relays = planes[allocation.protocol == TCP_PROTOCOL].relays
            peers: dict[bytes, float] = {}
            channels: dict[int, tuple[TransportAddress, float]] = {}
            for each in allocation.relays.values():
                relay = relays[each.handle]
                assert (relay.path, relay.port, relay.expires_at) == (path, each.port, each.expires_at)
                peers |= relay.peers
                channels |= relay.channels
            assert allocation.path == path
            assert allocation.expires_at == allocation.last_expiry()
            assert peers == {ip: each.expires_at for ip, each in allocation.permissions.items()}
            assert channels == {number: (each.peer, each.expires_at) for number, each in allocation.channels.items()}
            assert set(allocation.peers.values()) == set(allocation.channels.values())
            assert len(peers) <= 3
            assert len(channels) <= 2

    @invariant()
    def clients_have_what_they_were_told(self) -> None:
        now = self.harness.now
        told = {client.path: (held.holder, held.is_stranded) for client, held in self.held.items() if held.is_live(now)}
        live = [each for each in self.harness.server._allocations.values() if each.expires_at > now]
        assert {each.path: (each.holder, each.is_stranded) for each in live} == told

    @invariant()
    def connections_to_peers_are_open_while_their_allocation_is(self) -> None:
        assert self.harness.tcp is not None
        table = self.harness.tcp._table
        assert table._allocations.keys() == self.harness.tcp._owners.keys() == self.harness.tcp_plane.relays.keys()
        assert table._connections.keys() == self.connections
        peers = [each for allocation in table._allocations.values() for each in allocation.peers.values()]
        assert set(peers) == set(table._connections.values())
        assert {each.client for each in peers if each.client} == table._by_client.keys()
        assert {each.connection_id for each in peers if not each.client} == table._expiring.keys()

    @invariant()
    def tickets_belong_to_mobile_allocations(self) -> None:
        server = self.harness.server
        mobile = {each.serial: each for each in server._allocations.values() if each.serial is not None}
        assert mobile == server._mobiles
        assert self.harness.mobility is not None
        assert len(mobile) <= len(self.harness.mobility) <= 2 * len(mobile)

    @invariant()
    def nothing_denied_is_installed(self) -> None:
        denied = {each.ip for each in DENIED + DENIED_V6}
        for plane in (self.harness.plane, self.harness.tcp_plane):
            assert all(not relay.peers.keys() & denied for relay in plane.relays.values())

    @invariant()
    def the_server_wants_to_be_woken_in_time(self) -> None:
        deadline = self.harness.server.poll_timeout()
        for allocation in self.harness.server._allocations.values():
            assert deadline is not None
            assert deadline <= math.ceil(allocation.next_deadline())

    def teardown(self) -> None:
        self.harness.advance(4000)
        self.obey()
        assert self.harness.plane.relays == self.harness.tcp_plane.relays == {}
        assert self.harness.server.allocations == 0
        assert {pool.taken for pool in self.harness.ports.values()} == {0}
        assert len(self.harness.quota) == len(self.harness.reservations) == len(self.harness.mobility or ()) == 0
        assert self.connections == set()
        assert self.harness.server.poll_timeout() is None
        assert self.harness.server._timers._buckets == {}


TestTurnServer = TurnServerMachine.TestCase
TestTurnServer.settings = settings(max_examples=60, stateful_step_count=40)
