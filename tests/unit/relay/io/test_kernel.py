"""What the kernel is told, with a program that only remembers it; tests/processes/test_kernel_plane.py has a real one.

Packets are not sent: a flow is busy because the test says so, as the plain plane does for one packet in 32.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace

import pytest

from relay.datapath import NO_TRAFFIC, Drop, Limits, RelayAddress, Traffic
from relay.five_tuple import FiveTuple, Transport
from relay.io.datapath.bpf.errors import OffloadFailed
from relay.io.datapath.bpf.program import Hook, Kind, Onward, Way
from relay.io.datapath.choice import Offer
from relay.io.datapath.kernel import Kernel, KernelDataPath
from relay.io.datapath.offload import MAX_FLOWS_PER_RELAY, RECONCILE_FLOWS
from relay.io.datapath.plain import PlainDataPath
from relay.io.datapath.relay_socket import RelaySocket
from relay.io.datapath.switchboard import socket_address
from relay.io.poller import Poller
from relay.trial import limits_of
from stun.address import TransportAddress
from tests.support.fake_program import FakeProgram
from tests.support.plane import LONG, NUMBER, Client, Clients, Clock, path_of

PEER = TransportAddress.parse("203.0.113.5", 7000)
SERVER = TransportAddress.parse("192.0.2.9", 3478)
LOCAL = frozenset({SERVER.ip, bytes([10, 0, 0, 9])})
CARRIED = Traffic(10, 1000, 20, 4000)
HOST = "127.0.0.1"  # where relayed addresses are bound: nothing is sent, so nothing has to leave
HOUR = 3600.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in ("plain", "relay_socket", "kernel"):
        monkeypatch.setattr(f"relay.io.datapath.{module}.time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


class Site:
    """A kernel plane with a fake program."""

    def __init__(self, clock: Clock, program: FakeProgram, slots: int = 100, limits: Limits = Limits()) -> None:  # noqa: B008
        self.clock, self.program = clock, program
        self.clients = Clients()
        self.poller = Poller(asyncio.get_running_loop())
        self.plane = KernelDataPath(
            self.poller,
            frozenset(),
            self.clients,
            kernel=Kernel(program, Offer(("eth0",), slots), LOCAL),
            limits=limits,
        )

    def client(self, port: int = 5000, *, host: str = HOST, path: FiveTuple | None = None, circle: str = "") -> Client:
        client = Client(self.plane, self.clients, self.clock, host, port, path, circle)
        if ":" not in host:
            self.plane.allow_peer(client.handle, PEER.ip, self.clock.now + LONG)
        return client

    def relay_of(self, client: Client) -> RelaySocket:
        return self.plane._relays[client.handle]

    def bound(self, client: Client) -> TransportAddress:
        return TransportAddress.parse(*client.address)

    def channel(self, client: Client, peer: TransportAddress = PEER, number: int = NUMBER) -> Way:
        """A busy flow in a channel, which is bound if it is not yet."""
        if number not in self.relay_of(client).client.channels:
            self.plane.bind_channel(client.handle, number, peer, self.clock.now + LONG)
        self.plane._board.on_busy_to_peer(self.relay_of(client).client.channels[number])
        return Way(Kind.CHANNEL, client.path.client, client.path.server, number)

    def send(self, client: Client, peer: TransportAddress = PEER) -> Way:
        """A busy flow of Send indications."""
        relay = self.relay_of(client)
        address = socket_address(peer.ip, peer.port)
        self.plane._board.on_busy_to_peer(relay.route(address, peer.ip, relay.permissions[address[0]]))
        return Way(Kind.SEND, client.path.client, client.path.server, 0, peer)

    def hear(self, client: Client, peer: TransportAddress = PEER) -> Way:
        """A busy peer."""
        self.plane._board.on_busy_to_client(self.relay_of(client), socket_address(peer.ip, peer.port))
        return Way(Kind.PEER, peer, self.bound(client))

    def instant(self, seconds: float) -> int:
        return int((self.clock.now + seconds) * 1_000_000_000)

    def close(self) -> None:
        for handle in list(self.plane._relays):
            self.plane.close_relay(handle)
        if not self.program.is_closed:
            assert self.program.table == {}
        assert len(self.plane.offload) == self.plane.offload.relays == 0
        self.plane.close()
        assert self.program.is_closed
        self.poller.close()


@pytest.fixture
async def site(clock: Clock) -> AsyncIterator[Site]:
    site = Site(clock, FakeProgram())
    yield site
    site.close()


async def test_a_busy_flow_of_each_kind_is_left_to_the_kernel_for_as_long_as_it_is_allowed(site: Site) -> None:
    client = site.client()
    send, peer = site.send(client), site.hear(client)
    assert site.program.table == {
        send: Onward(site.bound(client), PEER, 0, 0, site.instant(LONG)),
        peer: Onward(SERVER, client.path.client, 0, 0, site.instant(LONG)),
    }
    site.plane.bind_channel(client.handle, NUMBER, PEER, site.clock.now + 60)
    channel = site.channel(client)
    assert site.program.table[channel] == Onward(site.bound(client), PEER, 0, 0, site.instant(60))
    assert site.program.table[peer] == Onward(SERVER, client.path.client, NUMBER, 0, site.instant(60))


async def test_behind_a_nat_the_kernel_is_told_the_addresses_that_packets_have_on_the_wire(site: Site) -> None:
    path = path_of(5000)
    inside, outside = TransportAddress.parse(HOST, 0).ip, TransportAddress.parse("198.51.100.1", 0).ip
    handle = site.plane.open_relay(path, RelayAddress(inside, outside), 0, site.clock.now + LONG)
    site.plane.allow_peer(handle, PEER.ip, site.clock.now + LONG)
    relay = site.plane._relays[handle]
    site.plane._board.on_busy_to_client(relay, socket_address(*PEER))
    (way,) = site.program.table
    assert way == Way(Kind.PEER, PEER, TransportAddress(inside, relay.sock.getsockname()[1]))


@pytest.mark.parametrize(
    "path",
    [
        path_of(5000, Transport.TCP),
        path_of(5000, Transport.TLS),
        path_of(5000, Transport.DTLS),
        FiveTuple(Transport.UDP, TransportAddress(bytes(4), 3478), TransportAddress.parse("192.0.2.1", 5000)),
        FiveTuple(Transport.UDP, SERVER, TransportAddress.parse("127.0.0.1", 5000)),
        FiveTuple(Transport.UDP, SERVER, TransportAddress.parse("192.0.2.9", 5000)),
        FiveTuple(Transport.UDP, TransportAddress.parse("2001:db8::9", 1), TransportAddress.parse("2001:db8::1", 5)),
    ],
    ids=["TCP", "TLS", "DTLS", "wildcard", "loopback", "own address", "other family"],
)
async def test_no_flow_of_such_a_client_is_left_to_the_kernel(site: Site, path: FiveTuple) -> None:
    client = site.client(path=path)
    site.channel(client)
    site.send(client)
    site.hear(client)
    assert (site.program.table, site.program.slots) == ({}, {})


async def test_a_program_that_crosses_families_is_used_for_it(clock: Clock) -> None:
    site = Site(clock, FakeProgram(crosses_families=True))
    v6 = FiveTuple(Transport.UDP, TransportAddress.parse("2001:db8::9", 1), TransportAddress.parse("2001:db8::1", 5))
    client = site.client(path=v6)
    assert site.program.table.keys() == {site.channel(client), site.hear(client)}
    site.close()


@pytest.mark.parametrize("text", ["127.0.0.1", "10.0.0.9", "224.0.0.1", "169.254.1.1"])
async def test_a_peer_that_is_not_behind_an_interface_is_left_to_user_space(site: Site, text: str) -> None:
    client, peer = site.client(), TransportAddress.parse(text, 7000)
    site.plane.allow_peer(client.handle, peer.ip, site.clock.now + LONG)
    site.channel(client, peer)
    site.send(client, peer)
    site.hear(client, peer)
    assert site.program.table == {}


async def test_a_peer_without_a_permission_never_gets_an_entry(site: Site) -> None:
    client, denied = site.client(), TransportAddress.parse("198.51.100.66", 7000)
    site.hear(client, denied)
    assert site.program.table == {}


async def test_a_client_with_two_families_is_left_to_user_space_until_one_is_gone(site: Site) -> None:
    first = site.client()
    site.channel(first)
    second = site.client(host="::1", path=first.path)
    assert site.program.table == {}
    site.channel(first)
    assert site.program.table == {}
    site.plane.close_relay(second.handle)
    way = site.channel(first)
    assert site.program.table.keys() == {way}


async def test_whatever_is_prolonged_is_prolonged_in_the_kernel(site: Site) -> None:
    client = site.client()
    channel, send, peer = site.channel(client), site.send(client), site.hear(client)
    site.plane.set_expiry(client.handle, site.clock.now + HOUR)
    assert {onward.expires_at for onward in site.program.table.values()} == {site.instant(HOUR)}
    site.plane.allow_peer(client.handle, PEER.ip, site.clock.now + 300)
    assert {onward.expires_at for onward in site.program.table.values()} == {site.instant(300)}
    site.plane.allow_peer(client.handle, PEER.ip, site.clock.now + 400)
    site.plane.bind_channel(client.handle, NUMBER, PEER, site.clock.now + 350)
    table = site.program.table
    assert [table[way].expires_at for way in (channel, peer)] == [site.instant(350)] * 2
    assert table[send].expires_at == site.instant(400)


async def test_a_refresh_that_changes_nothing_for_the_kernel_costs_no_write(site: Site) -> None:
    client = site.client()
    site.channel(client)
    before = site.program.writes
    site.plane.bind_channel(client.handle, NUMBER, PEER, site.clock.now + LONG)
    site.plane.allow_peer(client.handle, TransportAddress.parse("203.0.113.6", 0).ip, site.clock.now + 1)
    site.channel(client)
    assert site.program.writes == before


async def test_a_channel_that_is_unbound_leaves_the_kernel_and_its_peer_is_heard_by_indication(site: Site) -> None:
    client = site.client()
    channel, peer = site.channel(client), site.hear(client)
    assert site.program.table[peer].number == NUMBER
    site.plane.unbind_channel(client.handle, NUMBER)
    assert channel not in site.program.table
    assert site.program.table[peer].number == 0


async def test_a_forgotten_permission_takes_all_its_flows_and_no_other(site: Site) -> None:
    client, other = site.client(), TransportAddress.parse("203.0.113.6", 7000)
    site.plane.allow_peer(client.handle, other.ip, site.clock.now + LONG)
    site.channel(client), site.send(client), site.hear(client)
    stays = site.hear(client, other)
    site.plane.forget_peer(client.handle, PEER.ip)
    assert site.program.table.keys() == {stays}


async def test_a_closed_relay_leaves_nothing_and_its_traffic_counts_to_the_last_packet(site: Site) -> None:
    client = site.client()
    site.channel(client), site.hear(client)
    site.program.carry(0, CARRIED)
    assert site.plane.traffic(client.handle) == CARRIED
    site.program.carry(0, CARRIED)
    assert site.plane.totals()[Transport.UDP] == CARRIED.plus(CARRIED)
    site.program.carry(0, CARRIED)
    total = CARRIED.plus(CARRIED).plus(CARRIED)
    assert site.plane.close_relay(client.handle) == total
    assert site.program.table == {}
    assert site.plane.totals()[Transport.UDP] == site.plane.offload.traffic == total


async def test_a_place_in_the_kernel_is_given_to_the_next_relay_with_its_counters_at_zero(clock: Clock) -> None:
    site = Site(clock, FakeProgram(), slots=1)
    first = site.client(5000)
    site.channel(first)
    site.program.carry(0, CARRIED)
    second = site.client(5001)
    site.channel(second)
    assert (site.plane.offload.refused, len(site.program.table)) == (1, 1)
    site.plane.close_relay(first.handle)
    way = site.channel(second)
    assert site.program.table[way].slot == 0
    assert site.plane.traffic(second.handle) == NO_TRAFFIC
    site.close()


async def test_a_client_that_moves_takes_its_flows_along_once_they_are_busy_there(site: Site) -> None:
    client = site.client()
    old, peer = site.channel(client), site.hear(client)
    site.program.carry(0, CARRIED)
    new = path_of(5999)
    site.plane.move_client(client.handle, new)
    assert site.program.table == {}
    client.path = new
    way = site.channel(client)
    assert way != old
    assert site.program.table.keys() == {way}
    site.hear(client)
    assert site.program.table[peer].destination == new.client
    site.plane.move_client(client.handle, path_of(5999, Transport.TLS))
    assert site.program.table == {}
    assert site.plane.totals()[Transport.UDP] == CARRIED
    assert site.plane.totals()[Transport.TLS] == NO_TRAFFIC


async def test_a_client_has_to_be_heard_by_the_kernel_before_it_hears_from_it(site: Site) -> None:
    client = site.client()
    site.program.heard[0] = 0.0
    way = site.channel(client)
    site.hear(client)
    assert site.program.table.keys() == {way}
    site.program.heard[0] = site.clock.now + 1
    peer = site.hear(client)
    assert site.program.table.keys() == {way, peer}


async def test_a_client_that_has_moved_has_to_be_heard_at_its_new_address(site: Site) -> None:
    client = site.client()
    site.channel(client)
    site.program.heard[0] = site.clock.now  # at the old one
    client.path = path_of(5999)
    site.plane.move_client(client.handle, client.path)
    site.hear(client)
    assert site.program.table == {}
    site.program.heard[0] = site.clock.now + 1
    peer = site.hear(client)
    assert site.program.table.keys() == {peer}


async def test_other_own_addresses_take_every_flow_back(site: Site) -> None:
    client = site.client()
    way = site.channel(client)
    site.plane.set_own_relays(frozenset({PEER.ip}))
    assert site.program.table == {}
    site.channel(client)
    assert site.program.table == {}  # nothing is relayed there now
    site.plane.set_own_relays(frozenset())
    site.channel(client)
    assert site.program.table.keys() == {way}


class Pair:
    """Two relayed clients that are each other's peers on an own address."""

    def __init__(self, site: Site, circles: tuple[str, str] = ("", "")) -> None:
        self.site = site
        site.plane.set_own_relays(frozenset({TransportAddress.parse(HOST, 0).ip}))
        self.one, self.two = (site.client(5000 + at, circle=circle) for at, circle in enumerate(circles))
        self.relayed = [TransportAddress.parse(*client.address) for client in (self.one, self.two)]
        for client in (self.one, self.two):
            site.plane.allow_peer(client.handle, self.relayed[0].ip, site.clock.now + LONG)


async def test_two_relayed_clients_meet_in_the_kernel(site: Site) -> None:
    pair = Pair(site)
    there = site.channel(pair.one, pair.relayed[1])
    site.hear(pair.two, pair.relayed[0])
    meeting = Way(Kind.MEET, pair.relayed[0], pair.relayed[1])
    assert site.program.table == {
        there: Onward(pair.relayed[0], pair.relayed[1], 0, 0, site.instant(LONG), meets=True),
        meeting: Onward(SERVER, pair.two.path.client, 0, 1, site.instant(LONG)),
    }
    site.plane.forget_peer(pair.two.handle, pair.relayed[0].ip)
    assert site.program.table.keys() == {there}  # which finds nobody, so that user space drops its packets


@pytest.mark.parametrize("circles", [("", "test"), ("one", "two")])
async def test_two_circles_do_not_meet_in_the_kernel_either(site: Site, circles: tuple[str, str]) -> None:
    pair = Pair(site, circles)
    site.channel(pair.one, pair.relayed[1])
    site.send(pair.one, pair.relayed[1])
    assert site.program.table == {}


async def test_an_own_address_that_is_no_relay_is_left_to_user_space(site: Site) -> None:
    pair = Pair(site)
    site.channel(pair.one, TransportAddress(pair.relayed[0].ip, 9))
    assert site.program.table == {}


async def test_limits_hold_in_the_kernel_and_change_with_those_of_user_space(clock: Clock) -> None:
    limits, others = Limits(1_000_000, 500), Limits(2_000_000, 0)
    site = Site(clock, FakeProgram(), limits=limits)
    site.channel(site.client(5000))
    site.channel(site.client(5001, circle="test"))
    assert site.program.limits == {0: limits, 1: limits_of(limits)}
    site.plane.set_limits(others)
    assert site.program.limits == {0: others, 1: limits_of(others)}
    site.close()


async def test_what_the_kernel_relays_uses_up_the_limits_of_user_space(clock: Clock) -> None:
    site = Site(clock, FakeProgram(), limits=Limits(1000, 0))
    client = site.client()
    site.channel(client)
    clock.now += 10.0
    site.program.carry(0, Traffic(1, 12_500, 1, 1))
    site.channel(client)
    relayed = site.relay_of(client).client
    assert relayed.to_peer_until == pytest.approx(clock.now + 2.5)
    assert relayed.to_client_until < clock.now
    site.close()


async def test_what_the_kernel_drops_is_counted_once(site: Site) -> None:
    site.program.dropped[Drop.BANDWIDTH] = 5
    assert site.plane.drops[Drop.BANDWIDTH] == 5
    assert site.plane.drops[Drop.BANDWIDTH] == 5
    site.plane.drops[Drop.BANDWIDTH] += 1
    site.program.dropped[Drop.BANDWIDTH] = 7
    assert site.plane.drops[Drop.BANDWIDTH] == 8


async def test_a_full_table_leaves_one_flow_to_user_space_and_keeps_the_others(clock: Clock) -> None:
    site = Site(clock, FakeProgram(flows=1))
    client = site.client()
    way = site.channel(client)
    site.hear(client)
    assert site.program.table.keys() == {way}
    assert (site.plane.offload.refused, site.plane.offload.is_on) == (1, True)
    site.plane.unbind_channel(client.handle, NUMBER)
    assert site.program.table.keys() == {site.hear(client)}
    site.close()


async def test_one_relay_has_a_bounded_number_of_flows_and_the_oldest_makes_way(site: Site) -> None:
    client = site.client()
    ways = [site.hear(client, TransportAddress(PEER.ip, port)) for port in range(1, MAX_FLOWS_PER_RELAY + 3)]
    assert list(site.program.table) == ways[2:]


BREAKERS: dict[str, Callable[[Site, Client], object]] = {
    "offer": lambda site, client: site.send(client),
    "refresh": lambda site, client: site.plane.set_expiry(client.handle, site.clock.now + 1),
    "remove": lambda site, client: site.plane.unbind_channel(client.handle, NUMBER),
    "close": lambda site, client: site.plane.close_relay(client.handle),
    "limits": lambda site, _: site.plane.set_limits(Limits(1, 1)),
    "traffic": lambda site, client: site.plane.traffic(client.handle),
    "drops": lambda site, _: site.plane.drops,
    "passed": lambda site, _: site.plane.offload.passed(),
    "heard": lambda site, client: site.hear(client),
    "reconcile": lambda site, _: site.plane.offload.reconcile(),
    "open": lambda site, _: site.channel(site.client(5001)),
}


@pytest.mark.parametrize("breaker", BREAKERS.values(), ids=BREAKERS)
async def test_any_other_error_ends_it_all_with_one_line_and_user_space_goes_on(
    site: Site, breaker: Callable[[Site, Client], object], caplog: pytest.LogCaptureFixture
) -> None:
    client = site.client()
    site.channel(client), site.hear(client)
    site.program.is_broken = True
    with caplog.at_level(logging.INFO):
        breaker(site, client)
        breaker_again = site.client(5002)
        site.channel(breaker_again), site.send(breaker_again)
    assert site.program.is_closed
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    offload = site.plane.offload
    assert (offload.is_on, offload.failures, len(offload), offload.relays) == (False, 1, 0, 0)
    assert PlainDataPath.traffic(site.plane, breaker_again.handle) == NO_TRAFFIC


async def test_another_program_begins_empty_and_the_first_one_is_closed(site: Site) -> None:
    client = site.client()
    way = site.channel(client)
    site.program.carry(0, CARRIED)
    first, site.program = site.program, FakeProgram()
    site.plane.take_over(Kernel(site.program, Offer(("eth1",), 100), LOCAL))
    assert first.is_closed
    assert (site.program.table, site.plane.traffic(client.handle)) == ({}, CARRIED)
    site.channel(client)
    assert site.program.table.keys() == {way}


async def test_an_entry_that_nobody_knows_of_is_removed_and_one_that_is_missing_comes_back(site: Site) -> None:
    client = site.client()
    ways = [site.hear(client, TransportAddress(PEER.ip, port)) for port in (1, 2)]
    stray = Way(Kind.PEER, PEER, SERVER)
    site.program.table[stray] = site.program.table[ways[0]]
    del site.program.table[ways[1]]
    site.plane.offload.reconcile()
    assert site.program.table.keys() == {ways[0]}
    assert site.plane.offload.reconciled == 2
    site.hear(client, TransportAddress(PEER.ip, 2))
    assert site.program.table.keys() == set(ways)
    site.plane.offload.reconcile()
    assert site.plane.offload.reconciled == 2


async def test_where_routes_have_changed_flows_stay_and_are_set_anew_some_at_a_time(site: Site) -> None:
    clients = [site.client(port) for port in range(5000, 5000 + RECONCILE_FLOWS // MAX_FLOWS_PER_RELAY + 1)]
    for client in clients:
        for port in range(1, MAX_FLOWS_PER_RELAY + 1):
            site.hear(client, TransportAddress(PEER.ip, port))
    before, writes = dict(site.program.table), site.program.writes
    assert not site.plane.offload.reconcile()
    assert site.program.writes == writes
    site.program.has_other_routes = True
    assert site.plane.offload.reconcile()
    assert site.program.writes == writes + RECONCILE_FLOWS
    site.plane.close_relay(clients[0].handle)
    for _ in range(3):
        assert not site.plane.offload.reconcile()
    left = (len(clients) - 1) * MAX_FLOWS_PER_RELAY
    assert len(site.program.table) == left
    assert site.program.table.items() <= before.items()


async def test_where_routes_never_rest_every_flow_has_its_turn_and_strangers_are_found(site: Site) -> None:
    clients = [site.client(port) for port in range(5000, 5000 + 3 * RECONCILE_FLOWS // MAX_FLOWS_PER_RELAY)]
    for client in clients:
        for port in range(1, MAX_FLOWS_PER_RELAY + 1):
            site.hear(client, TransportAddress(PEER.ip, port))
    before = dict(site.program.table)
    for way, onward in before.items():
        site.program.table[way] = onward._replace(slot=0)  # as if it still named another way out
    stray = Way(Kind.PEER, PEER, SERVER)
    site.program.table[stray] = next(iter(before.values()))
    for _ in range(4):
        site.program.has_other_routes = True
        assert site.plane.offload.reconcile()
    assert site.program.table == before


async def test_a_table_that_fails_while_flows_are_set_anew_ends_it_like_any_other(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = site.client()
    for port in range(1, 4):
        site.hear(client, TransportAddress(PEER.ip, port))

    def fail(_way: Way, _onward: Onward) -> None:
        raise OffloadFailed("no such table")

    monkeypatch.setattr(site.program, "set_flow", fail)
    site.program.has_other_routes = True
    site.plane.offload.reconcile()
    assert (site.plane.offload.is_on, site.program.is_closed) == (False, True)


async def test_flows_that_come_and_go_during_a_long_reconciliation_are_no_mistakes(site: Site) -> None:
    clients = [site.client(port) for port in range(5000, 5000 + RECONCILE_FLOWS // MAX_FLOWS_PER_RELAY + 2)]
    for client in clients:
        for port in range(1, MAX_FLOWS_PER_RELAY + 1):
            site.hear(client, TransportAddress(PEER.ip, port))
    assert len(site.program.table) > RECONCILE_FLOWS
    site.plane.offload.reconcile()
    site.plane.close_relay(clients[-1].handle)
    site.plane.forget_peer(clients[0].handle, PEER.ip)
    site.plane.allow_peer(clients[0].handle, PEER.ip, site.clock.now + LONG)
    site.hear(clients[0])
    site.plane.offload.reconcile()
    site.plane.offload.reconcile()
    site.plane.offload.reconcile()
    assert site.plane.offload.reconciled == 0
    assert len(site.plane.offload) == len(site.program.table)


async def test_runs_are_joined_again_once_the_program_is_given_up_and_not_once_another_one_is_there(site: Site) -> None:
    told: list[bool] = []
    site.plane.on_joining = lambda: told.append(site.plane.joins_runs)
    site.program.is_broken = True
    site.channel(site.client())
    assert (told, site.plane.joins_runs) == ([True], True)
    site.program = FakeProgram()
    site.plane.take_over(Kernel(site.program, Offer(("eth0",), 100), LOCAL))
    assert (told, site.plane.joins_runs) == ([True], False)


@pytest.mark.parametrize(("hook", "joins"), [(Hook.TCX, False), (Hook.XDP, True)])
async def test_runs_are_joined_only_where_the_program_sees_packets_before_that(
    clock: Clock, hook: Hook, *, joins: bool
) -> None:
    site = Site(clock, FakeProgram(hook=hook))
    assert site.plane.joins_runs is joins
    site.close()
