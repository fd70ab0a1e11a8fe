import ipaddress

import pytest

from relay.datapath import RelayAddress
from relay.io import addresses
from relay.io.addresses import listen_addresses, own_addresses, packed_addresses, relay_addresses
from relay.settings import RelaySettings


def test_own_addresses_are_plain_text_without_zones_and_link_local_ones() -> None:
    found = own_addresses()
    assert "127.0.0.1" in found
    assert not any(ipaddress.ip_address(text).is_link_local for text in found if ":" in text)


def test_configured_addresses_are_listened_on() -> None:
    assert listen_addresses(RelaySettings(listen_addresses=("192.0.2.1",))) == ["192.0.2.1"]
    assert listen_addresses(RelaySettings()) == own_addresses()


def test_relay_addresses_are_advertised_as_configured() -> None:
    settings = RelaySettings(
        relay_addresses=("10.0.0.1", "2001:db8::1"), external_addresses={"10.0.0.1": "203.0.113.1"}
    )
    inside, outside = ipaddress.ip_address("10.0.0.1").packed, ipaddress.ip_address("203.0.113.1").packed
    v6 = ipaddress.ip_address("2001:db8::1").packed
    assert relay_addresses(settings) == [RelayAddress(inside, outside), RelayAddress(v6, v6)]


@pytest.mark.parametrize(
    ("own", "relayed"),
    [
        (["127.0.0.1", "::1"], ["127.0.0.1"]),
        (["127.0.0.1", "10.0.0.1", "10.0.0.2"], ["10.0.0.1"]),
        (["::1", "fd00::1", "10.0.0.1"], ["10.0.0.1", "fd00::1"]),
    ],
)
def test_without_any_route_own_addresses_serve_and_at_last_loopback(
    monkeypatch: pytest.MonkeyPatch, own: list[str], relayed: list[str]
) -> None:
    monkeypatch.setattr(addresses, "_by_route", lambda _family: None)
    monkeypatch.setattr(addresses, "own_addresses", lambda: own)
    packed = [ipaddress.ip_address(text).packed for text in relayed]
    assert relay_addresses(RelaySettings()) == [RelayAddress(each, each) for each in packed]


def test_by_route_there_is_at_most_one_address_per_family() -> None:
    families = [len(address.bound) for address in relay_addresses(RelaySettings())]
    assert len(families) == len(set(families))


def test_packed_addresses_have_no_text() -> None:
    assert packed_addresses(["127.0.0.1", "::1"]) == {bytes((127, 0, 0, 1)), bytes(15) + b"\1"}
