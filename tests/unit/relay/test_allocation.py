import pytest

from relay import channel_binding, permission
from relay.allocation import Allocation, RelayedTransportAddress, holder_of, realm_of
from relay.channel_binding import ChannelBinding
from relay.five_tuple import FiveTuple, Transport
from relay.permission import Permission
from relay.wish import UDP_PROTOCOL
from stun.address import IPV4, IPV6, TransportAddress
from tests.support.fake_datapath import FakeDataPath

CLIENT = TransportAddress.parse("192.0.2.1", 5000)
SERVER = TransportAddress.parse("192.0.2.9", 3478)
PEER = TransportAddress.parse("198.51.100.1", 4000)
INSIDE, OUTSIDE = bytes((10, 0, 0, 1)), bytes((203, 0, 113, 1))


@pytest.fixture
def allocation() -> Allocation:
    path = FiveTuple(Transport.UDP, SERVER, CLIENT)
    allocation = Allocation(path, holder_of("realm", "alice"), UDP_PROTOCOL, FakeDataPath(), bytes(12), 100.0)
    allocation.relays[IPV4] = RelayedTransportAddress(TransportAddress(OUTSIDE, 50_000), 50_000, 7, 700.0)
    allocation.expires_at = 700.0
    return allocation


def test_lifetimes_are_those_of_the_rfc() -> None:
    assert permission.LIFETIME == 300.0
    assert channel_binding.LIFETIME == 600.0


@pytest.mark.parametrize(("now", "live"), [(699.9, True), (700.0, False)])
def test_a_relayed_address_ends_at_its_instant(allocation: Allocation, now: float, *, live: bool) -> None:
    assert (allocation.live_relay(IPV4, now) is not None) is live
    assert allocation.live_relay(IPV6, now) is None


def test_a_holder_is_a_user_of_a_realm() -> None:
    assert holder_of("one", "alice") != holder_of("other", "alice")
    assert realm_of(holder_of("one", "ali\0ce")) == "one"


def test_time_limited_names_of_one_identity_are_one_holder_whenever_they_expire() -> None:
    assert holder_of("realm", "1700000000:abc") == holder_of("realm", "1700000900:abc")
    assert holder_of("realm", "1700000000:abc") != holder_of("realm", "1700000000:abd")


@pytest.mark.parametrize("name", ["abc", "1700000000", "1700000900", "x:abc", "1700000000:", "1234567890123:abc"])
def test_every_other_name_is_a_holder_of_its_own(name: str) -> None:
    others = {"1700000000:abc", "abc", "1700000000", "1700000900", "x:abc", "1700000000:", "1234567890123:abc"} - {name}
    assert holder_of("realm", name) not in {holder_of("realm", other) for other in others}


@pytest.mark.parametrize(("now", "live"), [(399.9, True), (400.0, False), (400.1, False)])
def test_permissions_and_channels_end_at_their_instant(allocation: Allocation, now: float, *, live: bool) -> None:
    allocation.permissions[PEER.ip] = Permission(400.0)
    binding = allocation.channels[0x4000] = allocation.peers[PEER] = ChannelBinding(0x4000, PEER, 400.0)
    assert allocation.has_permission(PEER.ip, now) is live
    assert allocation.live_channel(0x4000, now) is (binding if live else None)
    assert allocation.live_peer(PEER, now) is (binding if live else None)


def test_nothing_is_live_that_was_never_there(allocation: Allocation) -> None:
    assert not allocation.has_permission(PEER.ip, 0.0)
    assert allocation.live_channel(0x4000, 0.0) is None
    assert allocation.live_peer(PEER, 0.0) is None


def test_the_next_deadline_is_the_first_expiry_of_all(allocation: Allocation) -> None:
    assert allocation.next_deadline() == 700.0
    allocation.channels[0x4000] = ChannelBinding(0x4000, PEER, 650.0)
    assert allocation.next_deadline() == 650.0
    allocation.permissions[PEER.ip] = Permission(350.0)
    allocation.permissions[INSIDE] = Permission(500.0)
    assert allocation.next_deadline() == 350.0
