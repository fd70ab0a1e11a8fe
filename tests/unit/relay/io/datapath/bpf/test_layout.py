"""Keys and values as bytes: what is written is read again, and different flows have different keys."""

from hypothesis import given
from hypothesis import strategies as st

from relay.datapath import Limits
from relay.io.datapath.bpf import layout
from relay.io.datapath.bpf.egress import NextHop
from relay.io.datapath.bpf.flow import Kind, Onward, Way
from stun.address import TransportAddress

KEY = bytes(layout.WAY_BYTES)
HOP = NextHop(3, bytes(16))
_PORTS = st.integers(0, 0xFFFF)
_V4 = st.builds(TransportAddress, st.binary(min_size=4, max_size=4), _PORTS)
_V6 = st.builds(TransportAddress, st.binary(min_size=16, max_size=16), _PORTS)


def _ways(addresses: st.SearchStrategy[TransportAddress]) -> st.SearchStrategy[Way]:
    return st.one_of(
        st.builds(Way, st.just(Kind.CHANNEL), addresses, addresses, st.integers(0x4000, 0x7FFF), st.none()),
        st.builds(Way, st.just(Kind.SEND), addresses, addresses, st.just(0), st.one_of(_V4, _V6)),
        st.builds(Way, st.sampled_from([Kind.PEER, Kind.MEET]), addresses, addresses, st.just(0), st.none()),
    )


WAYS = st.one_of(_ways(_V4), _ways(_V6))


@given(WAYS)
def test_a_way_is_read_as_it_was_written(way: Way) -> None:
    key = layout.encode_way(way)
    assert len(key) == layout.WAY_BYTES
    assert layout.decode_way(key) == way


@given(WAYS, WAYS)
def test_different_ways_have_different_keys(one: Way, other: Way) -> None:
    assert (layout.encode_way(one) == layout.encode_way(other)) == (one == other)


def test_an_ipv6_address_that_ends_like_an_ipv4_address_is_another() -> None:
    short, long = TransportAddress(b"\x0a\0\0\1", 9), TransportAddress(bytes(12) + b"\x0a\0\0\1", 9)
    assert layout.encode_way(Way(Kind.PEER, short, short)) != layout.encode_way(Way(Kind.PEER, long, long))
    client = Way(Kind.SEND, short, short, peer=short)
    assert layout.encode_way(client) != layout.encode_way(client._replace(peer=long))


@given(ends=st.one_of(st.tuples(_V4, _V4), st.tuples(_V6, _V6)), meets=st.booleans())
def test_a_value_has_its_size_and_its_expiry_in_place(
    ends: tuple[TransportAddress, TransportAddress], *, meets: bool
) -> None:
    onward = Onward(*ends, number=0x4001, slot=7, expires_at=1 << 40, meets=meets)
    value = layout.encode_onward(KEY, onward, HOP, secret=b"secret")
    assert len(value) == layout.ONWARD_BYTES
    assert value[56:64] == (1 << 40).to_bytes(8, "little")
    assert value == layout.encode_onward(KEY, onward, HOP, secret=b"secret")


def test_a_value_names_the_interface_that_its_packets_come_in_by() -> None:
    end = TransportAddress(bytes(16), 1)
    onward = Onward(end, end, 0, 0, 0)
    anywhere, here = (layout.encode_onward(KEY, onward, HOP, b"secret", arrives=at) for at in (0, 0x10203))
    assert (anywhere[52:54], here[52:54]) == (bytes(2), b"\x03\x02")  # the low half of its index
    assert anywhere[80:] != here[80:]


def test_ipv6_flow_labels_depend_on_the_secret() -> None:
    end = TransportAddress(bytes(16), 1)
    onward = Onward(end, end, 0, 0, 0)
    values = {layout.encode_onward(KEY, onward, HOP, bytes([secret])) for secret in range(1, 30)}
    assert len(values) == 29


def test_a_limit_costs_what_fills_the_bucket_in_a_second() -> None:
    assert layout.costs(Limits()) == (0, 0)
    per_byte, per_packet = layout.costs(Limits(bytes_per_second=125_000, packets_per_second=500))
    assert per_byte * 125_000 >> 16 == 10**9
    assert per_packet * 500 >> 16 == 10**9


def test_the_cost_of_the_largest_packet_fits_a_word() -> None:
    per_byte, per_packet = layout.costs(Limits(bytes_per_second=1, packets_per_second=1))
    assert per_byte * 65535 < 1 << 64
    assert per_packet < 1 << 64


def test_a_limit_beyond_any_network_is_still_one() -> None:
    assert layout.costs(Limits(bytes_per_second=1 << 62)) == (1, 0)
