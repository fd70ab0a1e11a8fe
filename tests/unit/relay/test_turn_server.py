"""Random clients against the whole control plane: nothing leaks, and nothing forbidden is installed."""

import math
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from relay.five_tuple import Transport
from stun.address import IPV4, IPV6, TransportAddress
from stun.attributes import (
    ADDITIONAL_ADDRESS_FAMILY,
    DATA,
    EVEN_PORT,
    LIFETIME,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    RESERVATION_TOKEN,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
)
from stun.registry import Method
from tests.support.relay_harness import RelayedClient, RelayHarness, peer
from tests.support.turn_client import Field, Response, indication

OPEN = [peer("8.8.8.8"), peer("8.8.8.8", 4001), peer("9.9.9.9"), peer("1.1.1.1"), peer("208.67.222.222")]
OPEN_V6 = [peer("2606:4700::1111"), peer("2606:4700::1111", 1), peer("2a00:1450::2"), peer("2620:fe::9")]
DENIED = [peer("10.0.0.1"), peer("127.0.0.1"), peer("169.254.169.254"), peer("192.168.1.1")]
DENIED_V6 = [peer("::1"), peer("fd00::1"), peer("::ffff:127.0.0.1"), peer("64:ff9b::a00:1"), peer("2002:a00:1::")]

clients = st.integers(0, 5)
peers = st.sampled_from(OPEN * 3 + OPEN_V6 * 2 + DENIED + DENIED_V6)
numbers = st.sampled_from([0x3FFF, 0x4000, 0x4001, 0x4002, 0x7FFE, 0x7FFF])
lifetimes = st.sampled_from([None, 0, 1, 600, 900, 3600, 1 << 31])
durations = st.sampled_from([0.0, 0.25, 1.0, 29.75, 30.0, 299.5, 300.0, 300.5, 599.0, 600.0, 3600.0])


class TurnServerMachine(RuleBasedStateMachine):
    """Six clients of two users; a small pool, so that they get in each other's way."""

    def __init__(self) -> None:
        super().__init__()
        self.harness = RelayHarness(
            port_min=50_001,
            port_max=50_012,
            nonce_lifetime_seconds=86_400,
            quota={"allocations_per_user": 3, "permissions_per_allocation": 3, "channels_per_allocation": 2},
        )
        transports = [*Transport, Transport.UDP, Transport.TCP]
        users = ["alice", "bob", "alice", "alice", "bob", "alice"]
        self.clients = [self.harness.client(*each) for each in zip(users, [None] * 6, transports, strict=True)]
        self.tokens: list[bytes] = [bytes(8)]
        self.expiries: dict[RelayedClient, dict[int, float]] = {}  # by family

    def ask(self, number: int, method: Method, *fields: Field) -> Response:
        client = self.clients[number]
        response = client.ask(method, *fields)
        if response.code == 438:
            response = client.ask(method, *fields)
        assert response.code not in {438, 500}
        return response

    def is_live(self, number: int) -> bool:
        return max(self.expiries.get(self.clients[number], {0: 0.0}).values()) > self.harness.now

    @rule(
        number=clients,
        family=st.sampled_from([None, IPV4, IPV6, 3, "both"]),
        even_port=st.sampled_from([None, False, True]),
        lifetime=lifetimes,
    )
    def allocate(self, number: int, family: int | str | None, even_port: bool | None, lifetime: int | None) -> None:  # noqa: FBT001
        fields: list[Field] = [(REQUESTED_TRANSPORT, 17)]
        if family == "both":
            fields.append((ADDITIONAL_ADDRESS_FAMILY, IPV6))
        elif family is not None:
            fields.append((REQUESTED_ADDRESS_FAMILY, family))
        if even_port is not None:
            fields.append((EVEN_PORT, even_port))
        if lifetime is not None:
            fields.append((LIFETIME, lifetime))
        self._allocated(number, self.ask(number, Method.ALLOCATE, *fields))

    @rule(number=clients, data=st.data())
    def redeem(self, number: int, data: st.DataObject) -> None:
        token = data.draw(st.sampled_from(self.tokens))
        self._allocated(
            number, self.ask(number, Method.ALLOCATE, (REQUESTED_TRANSPORT, 17), (RESERVATION_TOKEN, token))
        )

    def _allocated(self, number: int, response: Response) -> None:
        assert (response.code == 437) is self.is_live(number)
        assert response.code in {0, 400, 437, 440, 486, 508}
        if response.code == 0:
            families = [address.family for address in response.message.get_all(XOR_RELAYED_ADDRESS)]
            self.expiries[self.clients[number]] = dict.fromkeys(families, self.harness.now + response.get(LIFETIME))
            if response.has(RESERVATION_TOKEN):
                self.tokens.append(response.get(RESERVATION_TOKEN))

    @rule(number=clients, lifetime=lifetimes, family=st.sampled_from([None, None, IPV4, IPV6]))
    def refresh(self, number: int, lifetime: int | None, family: int | None) -> None:
        live = self.is_live(number)
        fields: list[Field] = [] if lifetime is None else [(LIFETIME, lifetime)]
        if family is not None:
            fields.append((REQUESTED_ADDRESS_FAMILY, family))
        held = self.expiries.get(self.clients[number], {})
        has_family = family is None or held.get(family, 0.0) > self.harness.now
        response = self.ask(number, Method.REFRESH, *fields)
        assert response.code == (437 if not live else 0 if has_family else 443)
        if response.code == 0:
            for each in [family] if family else list(held):
                if held[each] > self.harness.now or family:
                    held[each] = self.harness.now + response.get(LIFETIME)

    @rule(number=clients, wanted=st.lists(peers, max_size=4))
    def permit(self, number: int, wanted: list[TransportAddress]) -> None:
        live = self.is_live(number)
        before = self.clients[number].permitted if live else {}
        code = self.clients[number].permit(*wanted).code
        assert (code == 437) is not live
        if code in {400, 403, 443}:
            assert self.clients[number].permitted == before
        if code == 0:
            held = self.clients[number].permitted
            assert all(held[each.ip] == self.harness.now + 300 for each in wanted)

    @rule(number=clients, channel=numbers, to=peers)
    def bind(self, number: int, channel: int, to: TransportAddress) -> None:
        live = self.is_live(number)
        code = self.clients[number].bind(channel, to).code
        assert (code == 437) is not live
        if code == 0:
            assert self.clients[number].bound[channel] == (to, self.harness.now + 600)

    @rule(number=clients, to=peers)
    def send(self, number: int, to: TransportAddress) -> None:
        client, plane = self.clients[number], self.harness.plane
        plane.sent.clear()
        expiry = self.expiries.get(client, {}).get(to.family, 0.0)
        may = min(expiry, client.permitted.get(to.ip, 0.0)) > self.harness.now
        assert client.send(indication(Method.SEND, (XOR_PEER_ADDRESS, to), (DATA, b"x"))) == []
        assert len(plane.sent) == may

    @rule(number=clients)
    def disconnect(self, number: int) -> None:
        self.harness.disconnect(self.clients[number].path)
        self.expiries.pop(self.clients[number], None)

    @rule(seconds=durations)
    def advance(self, seconds: float) -> None:
        self.harness.advance(seconds)
        for relay in self.harness.plane.relays.values():
            instants = [relay.expires_at, *relay.peers.values(), *(expiry for _, expiry in relay.channels.values())]
            assert min(instants) > self.harness.now - 1, "something expired is not cleaned up within a second"

    @rule(seconds=durations)
    def jump(self, seconds: float) -> None:
        """Time passes, but the shell is late."""
        self.harness.jump(seconds)

    @rule(ports=st.sets(st.integers(50_001, 50_012)))
    def other_programs_take_ports(self, ports: set[int]) -> None:
        self.harness.plane.taken_ports = ports

    @precondition(lambda self: self.harness.plane.failure is None)
    @rule()
    def run_out_of_descriptors(self) -> None:
        self.harness.plane.failure = OSError(24, "Too many open files")

    @precondition(lambda self: self.harness.plane.failure is not None)
    @rule()
    def have_descriptors_again(self) -> None:
        self.harness.plane.failure = None

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
        assert all(count <= 3 for count in held.values())
        if held:
            held["redconnect"] = held.total()  # all users of the realm together
        assert {holder: self.harness.quota.held(holder) for holder in held} == held
        assert len(self.harness.quota) == len(held)

    @invariant()
    def the_forwarding_plane_knows_what_the_control_plane_knows(self) -> None:
        relays, allocations = self.harness.plane.relays, self.harness.server._allocations
        assert {relay.path for relay in relays.values()} == set(allocations)
        for path, allocation in allocations.items():
            peers: dict[bytes, float] = {}
            channels: dict[int, tuple[TransportAddress, float]] = {}
            for each in allocation.relays.values():
                relay = relays[each.handle]
                assert (relay.path, relay.port, relay.expires_at) == (path, each.port, each.expires_at)
                peers |= relay.peers
                channels |= relay.channels
            assert peers == {ip: each.expires_at for ip, each in allocation.permissions.items()}
            assert channels == {number: (each.peer, each.expires_at) for number, each in allocation.channels.items()}
            assert set(allocation.peers.values()) == set(allocation.channels.values())
            assert len(peers) <= 3
            assert len(channels) <= 2

    @invariant()
    def nothing_denied_is_installed(self) -> None:
        for relay in self.harness.plane.relays.values():
            assert all(self.harness.policy.verdict(ip) is None for ip in relay.peers)

    @invariant()
    def the_server_wants_to_be_woken_in_time(self) -> None:
        deadline = self.harness.server.poll_timeout()
        for allocation in self.harness.server._allocations.values():
            assert deadline is not None
            assert deadline <= math.ceil(allocation.next_deadline())

    def teardown(self) -> None:
        self.harness.advance(4000)
        assert self.harness.plane.relays == {}
        assert self.harness.server.allocations == 0
        assert {pool.taken for pool in self.harness.ports.values()} == {0}
        assert len(self.harness.quota) == len(self.harness.reservations) == 0
        assert self.harness.server.poll_timeout() is None
        assert self.harness.server._timers._buckets == {}


TestTurnServer = TurnServerMachine.TestCase
TestTurnServer.settings = settings(max_examples=60, stateful_step_count=40)
