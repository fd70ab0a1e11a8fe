"""The kernel program by itself: what goes up to user space, unchanged and counted."""

import struct
import subprocess
import time

import pytest

from relay.datapath import Traffic
from relay.io.datapath.bpf.program import Kind, Onward, Passed, Way
from stun import attributes
from stun.message import encode_message
from stun.registry import MessageClass, Method
from tests.support.frames import Datagram, checksum, decode_frame, encode_frame, pseudo_header
from tests.support.program_bench import (
    FAMILIES,
    ID,
    MTU,
    NUMBER,
    OTHER_NUMBER,
    OTHER_SLOT,
    SLOT,
    Addresses,
    Bench,
    address,
    channel_data,
    data_of,
    later,
    pattern,
    send_indication,
)
from tests.support.program_run import Verdict, run


def test_a_forged_address_of_a_relayed_client_meets_nobody(bench: Bench, alike: Addresses) -> None:
    far_side = Onward(alike.other_listener, alike.other_client, OTHER_NUMBER, OTHER_SLOT, later())
    bench.program.set_flow(Way(Kind.MEET, alike.relayed, alike.other_relayed), far_side)
    bench.passes_up(encode_frame(Datagram(alike.relayed, alike.other_relayed, b"forged")), None)


def _spoiled_header(frame: bytes) -> bytes:
    return frame[:24] + bytes([frame[24] ^ 1]) + frame[25:]


def test_ipv4_packets_of_unusual_shape_go_up(bench: Bench) -> None:
    who = FAMILIES["4"]
    bench.call(who)
    came = Datagram(who.client, who.listener, channel_data(b"some data"))
    good = encode_frame(came)
    bench.passes_up(encode_frame(came, options=b"\x01\x01\x01\x00"), Passed.OPTIONS)
    bench.passes_up(encode_frame(came, fragment=0x2000), Passed.FRAGMENT)
    bench.passes_up(encode_frame(came, fragment=0x0001), Passed.FRAGMENT)
    bench.passes_up(_spoiled_header(good), Passed.CHECKSUM)
    bench.passes_up(encode_frame(came, protocol=6), None)
    assert bench.run(came).verdict is Verdict.ON


def test_ipv6_packets_of_unusual_shape_go_up(bench: Bench) -> None:
    who = FAMILIES["6"]
    bench.call(who)
    came = Datagram(who.client, who.listener, channel_data(b"some data"))
    bench.passes_up(encode_frame(came, protocol=44), Passed.FRAGMENT)
    bench.passes_up(encode_frame(came, protocol=0), None)  # hop-by-hop options
    bench.passes_up(encode_frame(came, udp_checksum=0), Passed.CHECKSUM)
    assert bench.run(came).verdict is Verdict.ON


@pytest.mark.parametrize("hops", [0, 1])
def test_the_last_hop_is_not_taken(bench: Bench, alike: Addresses, hops: int) -> None:
    bench.call(alike)
    bench.passes_up(encode_frame(Datagram(alike.peer, alike.relayed, b"data", hops=hops)), Passed.HOPS)


def test_towards_ipv6_a_datagram_without_a_checksum_goes_up(bench: Bench) -> None:
    who = FAMILIES["4to6"]
    bench.call(who)
    frame = encode_frame(Datagram(who.client, who.listener, channel_data(b"data")), udp_checksum=0)
    bench.passes_up(frame, Passed.CHECKSUM)


def test_a_checksum_that_the_card_was_to_finish_goes_up_or_is_left_out(bench: Bench, alike: Addresses) -> None:
    bench.call(alike)
    came = Datagram(alike.client, alike.listener, channel_data(b"data"))
    frame = encode_frame(came, udp_checksum=checksum(pseudo_header(came)) ^ 0xFFFF)
    if bench.is_tcx or len(alike.client.ip) == 16:
        bench.passes_up(frame, Passed.CHECKSUM)
    else:
        assert decode_frame(run(bench.program, frame).frame, allow_no_checksum=True).payload == b"data"


def test_lengths_that_do_not_fit_go_up(bench: Bench, alike: Addresses) -> None:
    bench.call(alike)
    frame = encode_frame(Datagram(alike.client, alike.listener, channel_data(b"some data")))
    udp_at = 14 + (20 if len(alike.client.ip) == 4 else 40)
    for udp_length in (0, 7, 20, 22, 0xFFFF):
        at = udp_at + 4
        bench.passes_up(frame[:at] + udp_length.to_bytes(2) + frame[at + 2 :], Passed.LENGTHS)
    bench.passes_up(frame[:-1], Passed.LENGTHS)


def test_every_end_of_a_frame_is_met_without_harm(bench: Bench, who: Addresses) -> None:
    bench.call(who)
    for payload in (channel_data(b"some data"), send_indication(b"some data", who.peer)):
        frame = encode_frame(Datagram(who.client, who.listener, payload))
        # Of socket buffers without a whole IP header the kernel makes none for a test.
        shortest = 14 if not bench.is_tcx else 34 if len(who.client.ip) == 4 else 54
        for end in range(shortest, len(frame)):
            outcome = run(bench.program, frame[:end])
            assert outcome == (Verdict.UP, frame[:end])


def test_messages_for_the_control_plane_go_up(bench: Bench, alike: Addresses) -> None:
    bench.call(alike)

    def frame(payload: bytes) -> bytes:
        return encode_frame(Datagram(alike.client, alike.listener, payload))

    bench.passes_up(frame(encode_message(Method.REFRESH, MessageClass.REQUEST, ID)), Passed.STUN)
    usual = send_indication(b"data", alike.peer)
    longer = usual[:2] + (len(usual) - 12).to_bytes(2) + usual[4:]
    bench.passes_up(frame(longer + b"\x80\x22\x00\x04test"), Passed.STUN)  # SOFTWARE, where FINGERPRINT may be
    bench.passes_up(frame(send_indication(b"data", alike.peer._replace(port=9))), Passed.STUN)
    packed = (attributes.DATA.pack(b"data"), attributes.XOR_PEER_ADDRESS.pack(alike.peer, ID))
    bench.passes_up(frame(encode_message(Method.SEND, MessageClass.INDICATION, ID, packed)), Passed.STUN)
    with_more = (*reversed(packed), attributes.DONT_FRAGMENT.pack(b""))
    bench.passes_up(frame(encode_message(Method.SEND, MessageClass.INDICATION, ID, with_more)), Passed.STUN)


def test_channel_data_of_unusual_shape_goes_up(bench: Bench, alike: Addresses) -> None:
    bench.call(alike)
    for payload in (
        channel_data(b"data", padding=bytes(4)),
        struct.pack("!HH", NUMBER, 5) + b"data",
        struct.pack("!HH", NUMBER, 0xFFFF) + b"data",
        struct.pack("!H", NUMBER),
        channel_data(b"data", number=NUMBER + 1),
        b"",
    ):
        bench.passes_up(encode_frame(Datagram(alike.client, alike.listener, payload)), Passed.UNKNOWN)


def test_who_is_unknown_goes_up(bench: Bench, alike: Addresses) -> None:
    bench.call(alike)
    data = channel_data(b"data")
    bench.passes_up(encode_frame(Datagram(alike.client._replace(port=1112), alike.listener, data)), Passed.UNKNOWN)
    bench.passes_up(encode_frame(Datagram(alike.peer._replace(port=2223), alike.relayed, b"data")), Passed.UNKNOWN)
    bench.passes_up(encode_frame(Datagram(alike.client, alike.listener._replace(port=53), data)), None)
    bench.passes_up(encode_frame(Datagram(alike.client, alike.peer, data)), None)


def test_frames_for_others_go_up(bench: Bench, alike: Addresses) -> None:
    bench.call(alike)
    frame = encode_frame(Datagram(alike.peer, alike.relayed, b"data"))
    bench.passes_up(b"\x01" + frame[1:], None)  # a group
    bench.passes_up(frame[:12] + b"\x81\x00\x00\x07" + frame[12:], None)  # a VLAN of which no interface was asked for


def test_what_the_kernel_has_joined_goes_up(bench: Bench, alike: Addresses) -> None:
    bench.call(alike)
    frame = encode_frame(Datagram(alike.peer, alike.relayed, bytes(1000)))
    if bench.is_tcx:
        bench.passes_up(frame, Passed.JOINED, gso_size=500)
    assert run(bench.program, frame).verdict is Verdict.ON


def test_an_expired_flow_relays_nothing(bench: Bench, alike: Addresses) -> None:
    bench.call(alike, until=time.monotonic_ns())
    for came in (
        Datagram(alike.client, alike.listener, channel_data(b"data")),
        Datagram(alike.client, alike.listener, send_indication(b"data", alike.peer)),
        Datagram(alike.peer, alike.relayed, b"data"),
    ):
        bench.passes_up(encode_frame(came), Passed.EXPIRED)
    assert bench.program.traffic(SLOT) == Traffic(0, 0, 0, 0)
    bench.call(alike)
    assert bench.run(Datagram(alike.peer, alike.relayed, b"data")).verdict is Verdict.ON


def test_what_is_too_big_for_the_path_goes_up_although_the_link_would_take_it(bench: Bench, alike: Addresses) -> None:
    far, router = ("198.51.100.9", "10.91.2.2") if len(alike.peer.ip) == 4 else ("2001:db8:9::9", "fd91:2::2")
    peer = address(far, 9)
    heads = 28 if len(peer.ip) == 4 else 48
    fits = Datagram(alike.client, alike.listener, channel_data(pattern(1280 - heads)))
    subprocess.run(["ip", "route", "replace", far, "via", router, "mtu", "1280"], check=True)
    try:
        way = Way(Kind.CHANNEL, alike.client, alike.listener, NUMBER)
        bench.program.set_flow(way, Onward(alike.relayed, peer, 0, SLOT, later()))
        assert len(bench.relays(fits).payload) == 1280 - heads
        too_big = fits._replace(payload=channel_data(pattern(1281 - heads)))
        bench.passes_up(encode_frame(too_big), Passed.TOO_BIG)
    finally:
        subprocess.run(["ip", "route", "delete", far], check=True)


def test_what_became_too_big_for_its_link_goes_up(bench: Bench, who: Addresses) -> None:
    bench.call(who)
    heads = 28 if len(who.client.ip) == 4 else 48
    fits = Datagram(who.peer, who.relayed, pattern(MTU - heads - 4))
    assert len(bench.relays(fits).payload) == MTU - heads
    bench.passes_up(encode_frame(fits._replace(payload=pattern(MTU - heads - 3))), Passed.TOO_BIG)
    bench.call(who, number=0)
    head = 36 if len(who.peer.ip) == 4 else 48
    fits = Datagram(who.peer, who.relayed, pattern((MTU - heads - head) & ~3))
    assert data_of(bench.relays(fits).payload)[0] == fits.payload
    too_big = pattern(((MTU - heads - head) & ~3) + 1)
    bench.passes_up(encode_frame(fits._replace(payload=too_big)), Passed.TOO_BIG)
