import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Forbidden
from relay.peer_policy import PeerPolicy, Rule
from stun.address import TransportAddress

CLOSED = PeerPolicy()
DENIED = {
    "0.0.0.0": Rule.UNSPECIFIED,  # noqa: S104  # a peer, not a bind
    "0.1.2.3": Rule.UNSPECIFIED,
    "10.0.0.1": Rule.PRIVATE,
    "10.255.255.255": Rule.PRIVATE,
    "100.64.0.0": Rule.SHARED,
    "100.127.255.255": Rule.SHARED,
    "127.0.0.1": Rule.LOOPBACK,
    "127.255.255.254": Rule.LOOPBACK,
    "169.254.0.1": Rule.LINK_LOCAL,
    "169.254.169.254": Rule.LINK_LOCAL,
    "172.16.0.1": Rule.PRIVATE,
    "172.31.255.255": Rule.PRIVATE,
    "192.0.0.1": Rule.SPECIAL,
    "192.0.0.170": Rule.SPECIAL,
    "192.0.2.1": Rule.DOCUMENTATION,
    "192.31.196.1": Rule.SPECIAL,
    "192.52.193.1": Rule.SPECIAL,
    "192.88.99.1": Rule.SPECIAL,
    "192.168.0.1": Rule.PRIVATE,
    "192.168.255.255": Rule.PRIVATE,
    "192.175.48.1": Rule.SPECIAL,
    "198.18.0.1": Rule.BENCHMARKING,
    "198.19.255.255": Rule.BENCHMARKING,
    "198.51.100.1": Rule.DOCUMENTATION,
    "203.0.113.1": Rule.DOCUMENTATION,
    "224.0.0.1": Rule.MULTICAST,
    "239.255.255.255": Rule.MULTICAST,
    "240.0.0.1": Rule.SPECIAL,
    "255.255.255.254": Rule.SPECIAL,
    "255.255.255.255": Rule.BROADCAST,
    "::": Rule.UNSPECIFIED,
    "::1": Rule.LOOPBACK,
    "::2": Rule.UNSPECIFIED,  # IPv4-compatible 0.0.0.2
    "::7f00:1": Rule.LOOPBACK,
    "::8.8.8.8": Rule.TRANSITION,
    "::ffff:127.0.0.1": Rule.LOOPBACK,
    "::ffff:10.0.0.1": Rule.PRIVATE,
    "::ffff:8.8.8.8": Rule.TRANSITION,
    "::ffff:0:127.0.0.1": Rule.LOOPBACK,
    "::ffff:0:8.8.8.8": Rule.TRANSITION,
    "64:ff9b::7f00:1": Rule.LOOPBACK,
    "64:ff9b::a9fe:a9fe": Rule.LINK_LOCAL,
    "64:ff9b::808:808": Rule.TRANSITION,
    "64:ff9b:1::7f00:1": Rule.LOOPBACK,
    "64:ff9b:1::808:808": Rule.TRANSITION,
    "64:ff9b:1:ffff::1": Rule.UNSPECIFIED,
    "100::1": Rule.SPECIAL,
    "100:0:0:1::1": Rule.SPECIAL,
    "1::1": Rule.SPECIAL,
    "2001::1": Rule.UNSPECIFIED,  # Teredo with its server at 0.0.0.0
    "2001:0:7f00:1::ffff:ffff": Rule.LOOPBACK,  # Teredo with its server at 127.0.0.1
    "2001:0:808:808:0:0:80ff:fffe": Rule.LOOPBACK,  # Teredo with its client at 127.0.0.1
    "2001:0:808:808:0:0:f7f7:f7f7": Rule.TRANSITION,
    "2001:2::1": Rule.BENCHMARKING,
    "2001:1::1": Rule.SPECIAL,
    "2001:10::1": Rule.SPECIAL,
    "2001:20::1": Rule.SPECIAL,
    "2001:1ff:ffff::1": Rule.SPECIAL,
    "2001:db8::1": Rule.DOCUMENTATION,
    "2002:7f00:1::": Rule.LOOPBACK,
    "2002:a00:1::1": Rule.PRIVATE,
    "2002:808:808::1": Rule.TRANSITION,
    "2620:4f:8000::1": Rule.SPECIAL,
    "2a00:1450::5efe:10.0.0.1": Rule.PRIVATE,  # ISATAP
    "2a00:1450::200:5efe:127.0.0.1": Rule.LOOPBACK,
    "3fff::1": Rule.DOCUMENTATION,
    "4000::1": Rule.SPECIAL,
    "5f00::1": Rule.SPECIAL,
    "fc00::1": Rule.PRIVATE,
    "fd00::1": Rule.PRIVATE,
    "fdff:ffff::1": Rule.PRIVATE,
    "fe80::1": Rule.LINK_LOCAL,
    "fe80::5efe:8.8.8.8": Rule.LINK_LOCAL,
    "febf::1": Rule.LINK_LOCAL,
    "fec0::1": Rule.PRIVATE,
    "ff02::1": Rule.MULTICAST,
    "ff0e::1": Rule.MULTICAST,
}
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "169.253.255.255",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "192.0.3.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2001:200::1",
    "2001:4860:4860::8888",
    "2003:e0::1",
    "2606:4700::1111",
    "2a00:1450:4001::1",
    "2a00:1450::5efe:8.8.8.8",
    "2a00:1450::1:5efe:10.0.0.1",  # not the mark of ISATAP
]
EMBEDDINGS = {
    "compatible": lambda v4: v4,
    "mapped": lambda v4: 0xFFFF << 32 | v4,
    "translated": lambda v4: 0xFFFF0000 << 32 | v4,
    "NAT64": lambda v4: 0x0064FF9B << 96 | v4,
    "local NAT64": lambda v4: 0x0064FF9B0001 << 80 | v4,
    "6to4": lambda v4: 0x2002 << 112 | v4 << 80 | 1,
    "Teredo client": lambda v4: 0x20010000 << 96 | 0x08080808 << 64 | v4 ^ 0xFFFFFFFF,
    "Teredo server": lambda v4: 0x20010000 << 96 | v4 << 64 | 0xF7F7F7F7,
    "ISATAP": lambda v4: 0x2A001450 << 96 | 0x5EFE << 32 | v4,
    "ISATAP, unique": lambda v4: 0x2A001450 << 96 | 0x02005EFE << 32 | v4,
}
ipv4s = st.one_of(
    st.integers(0, 0xFFFFFFFF),
    st.sampled_from([text for text in DENIED if ":" not in text]).map(lambda text: int(ipaddress.IPv4Address(text))),
)


def packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def verdict(policy: PeerPolicy, text: str) -> Rule | None:
    return policy.verdict(packed(text))


@pytest.mark.parametrize(("text", "rule"), DENIED.items())
def test_a_special_address_is_denied_by_its_rule(text: str, rule: Rule) -> None:
    assert verdict(CLOSED, text) is rule


@pytest.mark.parametrize("text", PUBLIC)
def test_a_public_address_is_allowed(text: str) -> None:
    assert verdict(CLOSED, text) is None
    CLOSED.check(TransportAddress.parse(text, 1))


@pytest.mark.parametrize("form", EMBEDDINGS)
@given(ip=ipv4s)
def test_a_denied_ipv4_address_is_denied_in_every_embedded_form(form: str, ip: int) -> None:
    if CLOSED.verdict(ip.to_bytes(4)) is not None:
        assert CLOSED.verdict(EMBEDDINGS[form](ip).to_bytes(16)) is not None


@pytest.mark.parametrize("form", EMBEDDINGS)
@given(ip=ipv4s)
def test_even_with_all_of_ipv6_allowed_a_denied_ipv4_address_stays_denied_in_every_form(form: str, ip: int) -> None:
    policy = PeerPolicy(allow=["::/0"])
    if policy.verdict(ip.to_bytes(4)) is not None and not (form == "compatible" and ip <= 1):
        assert policy.verdict(EMBEDDINGS[form](ip).to_bytes(16)) is not None


@given(ipv4s)
def test_nothing_that_python_calls_special_is_allowed(ip: int) -> None:
    address = ipaddress.IPv4Address(ip)
    if not address.is_global or address.is_multicast:
        assert CLOSED.verdict(address.packed) is not None


@given(st.binary(min_size=16, max_size=16))
def test_nothing_of_ipv6_that_python_calls_special_is_allowed(ip: bytes) -> None:
    address = ipaddress.IPv6Address(ip)
    if not address.is_global or address.is_multicast:
        assert CLOSED.verdict(ip) is not None


def test_the_refusal_names_the_rule() -> None:
    with pytest.raises(Forbidden) as caught:
        CLOSED.check(TransportAddress.parse("10.0.0.1", 80))
    assert caught.value.cause == "peer_private"


def test_an_allowed_network_is_open_and_its_neighbours_are_not() -> None:
    policy = PeerPolicy(allow=["10.1.0.0/16", "fd00:1::/32"])
    assert verdict(policy, "10.1.2.3") is None
    assert verdict(policy, "10.2.0.1") is Rule.PRIVATE
    assert verdict(policy, "fd00:1::9") is None
    assert verdict(policy, "fd00:2::9") is Rule.PRIVATE


def test_allowing_a_network_does_not_allow_its_disguises() -> None:
    policy = PeerPolicy(allow=["10.0.0.0/8"])
    assert verdict(policy, "::ffff:10.0.0.1") is Rule.TRANSITION
    assert verdict(policy, "2002:a00:1::") is Rule.TRANSITION
    both = PeerPolicy(allow=["10.0.0.0/8", "64:ff9b::/96"])
    assert verdict(both, "64:ff9b::a00:1") is None
    assert verdict(both, "64:ff9b::7f00:1") is Rule.LOOPBACK
    assert verdict(PeerPolicy(allow=["64:ff9b::/96"]), "64:ff9b::a00:1") is Rule.PRIVATE


def test_deny_beats_allow() -> None:
    policy = PeerPolicy(allow=["10.0.0.0/8", "8.8.8.8/32"], deny=["10.1.0.0/16", "8.8.8.0/24"])
    assert verdict(policy, "10.1.0.1") is Rule.CONFIGURED
    assert verdict(policy, "10.2.0.1") is None
    assert verdict(policy, "8.8.8.8") is Rule.CONFIGURED


def test_a_denied_network_is_denied_in_its_disguises_too() -> None:
    policy = PeerPolicy(allow=["::/0"], deny=["8.8.8.0/24"])
    assert verdict(policy, "2a00:1450::5efe:8.8.8.8") is Rule.CONFIGURED
    assert verdict(policy, "64:ff9b::808:808") is Rule.CONFIGURED
    assert verdict(policy, "64:ff9b::909:909") is None


def test_own_addresses_are_denied_even_inside_an_allowed_network() -> None:
    policy = PeerPolicy(
        allow=["10.0.0.0/8", "8.0.0.0/8"], own=[packed("10.0.0.5"), packed("8.8.8.8"), packed("2a00::5")]
    )
    assert verdict(policy, "10.0.0.5") is Rule.OWN
    assert verdict(policy, "8.8.8.8") is Rule.OWN
    assert verdict(policy, "2a00::5") is Rule.OWN
    assert verdict(policy, "10.0.0.6") is None


@pytest.mark.parametrize("named", ["10.0.0.5/32", "2a00::5/128"])
def test_an_own_address_is_opened_by_naming_exactly_it(named: str) -> None:
    text = named.partition("/")[0]
    policy = PeerPolicy(allow=[named], own=[packed(text)])
    assert verdict(policy, text) is None
    relays = PeerPolicy(allow=[named], own_relays=[packed(text)])
    assert verdict(relays, text) is None
    assert not relays.is_for_relays_only(packed(text))


def test_own_addresses_are_denied_in_their_disguises_too() -> None:
    policy = PeerPolicy(allow=["::/0"], own=[packed("8.8.8.8")])
    assert verdict(policy, "64:ff9b::808:808") is Rule.OWN
    assert verdict(policy, "2a00:1450::5efe:8.8.8.8") is Rule.OWN


def test_own_relayed_addresses_are_allowed_unless_denied() -> None:
    relays = [packed("10.0.0.5"), packed("fd00::5")]
    policy = PeerPolicy(own=[*relays, packed("10.0.0.6")], own_relays=relays)
    assert verdict(policy, "10.0.0.5") is None
    assert verdict(policy, "fd00::5") is None
    assert verdict(policy, "10.0.0.6") is Rule.OWN
    assert verdict(policy, "::ffff:10.0.0.5") is Rule.OWN
    assert policy.is_for_relays_only(relays[0])
    assert not policy.is_for_relays_only(packed("10.0.0.6"))
    assert verdict(PeerPolicy(own_relays=relays, deny=["10.0.0.5"]), "10.0.0.5") is Rule.CONFIGURED


SERVICE = TransportAddress(packed("10.0.0.5"), 7882)


def test_an_own_service_is_reached_at_its_port_and_at_no_other_of_its_address() -> None:
    policy = PeerPolicy(own=[SERVICE.ip], own_services=[SERVICE])
    policy.check(SERVICE)
    for peer in (SERVICE._replace(port=22), TransportAddress(packed("10.0.0.6"), SERVICE.port)):
        with pytest.raises(Forbidden):
            policy.check(peer)
    assert policy.closed == {SERVICE.ip}  # or a permission, which is for an address, would open every port


def test_an_own_service_stays_denied_where_the_operator_denies_it() -> None:
    policy = PeerPolicy(deny=["10.0.0.0/8"], own_services=[SERVICE])
    with pytest.raises(Forbidden):
        policy.check(SERVICE)


def test_an_own_service_closes_no_address_that_is_open_anyway() -> None:
    service = TransportAddress(packed("8.8.8.8"), 7882)
    assert PeerPolicy(own_services=[service]).closed == frozenset()
    assert PeerPolicy(allow=["10.0.0.5/32"], own_services=[SERVICE]).closed == frozenset()
    assert PeerPolicy(own_relays=[SERVICE.ip], own_services=[SERVICE]).closed == {SERVICE.ip}


@given(st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)))
def test_every_address_gets_a_verdict(ip: bytes) -> None:
    policy = PeerPolicy(allow=["10.0.0.0/8"], deny=["9.0.0.0/8"], own=[bytes(4)], own_relays=[bytes(16)])
    assert policy.verdict(ip) in {None, *Rule}
