"""The kernel program by itself: what it relays. Each frame goes through BPF_PROG_TEST_RUN."""

import itertools
import struct

import pytest

from relay.datapath import Traffic
from relay.io.datapath.bpf.program import Kind, Onward, Way
from tests.support.frames import BadFrame, Datagram, checksum, decode_frame, encode_frame, pseudo_header
from tests.support.program_bench import (
    FAMILIES,
    NUMBER,
    OTHER_NUMBER,
    OTHER_SLOT,
    SIZES,
    SLOT,
    Addresses,
    Bench,
    channel_data,
    data_of,
    later,
    pattern,
    send_indication,
)
from tests.support.program_run import Verdict, run


def test_channel_data_leaves_for_the_peer_as_a_plain_datagram(bench: Bench, who: Addresses) -> None:
    bench.call(who)
    for data in map(pattern, SIZES):
        relayed = bench.relays(Datagram(who.client, who.listener, channel_data(data)))
        assert relayed == Datagram(who.relayed, who.peer, data, hops=63)


def test_padding_behind_channel_data_stays_behind(bench: Bench, alike: Addresses) -> None:
    bench.call(alike)
    for data, padding in itertools.product(map(pattern, SIZES), (b"\x01", b"\xff\xfe", b"\x01\x02\x03")):
        relayed = bench.relays(Datagram(alike.client, alike.listener, channel_data(data, padding=padding)))
        assert relayed.payload == data


def test_data_of_a_send_indication_leaves_for_its_peer(bench: Bench, who: Addresses) -> None:
    bench.call(who)
    for data, padding in itertools.product(map(pattern, SIZES), (0, 0xA5)):
        relayed = bench.relays(Datagram(who.client, who.listener, send_indication(data, who.peer, padding=padding)))
        assert relayed == Datagram(who.relayed, who.peer, data, hops=63)


def test_a_fingerprint_as_firefox_adds_it_stays_behind(bench: Bench, who: Addresses) -> None:
    bench.call(who)
    for data in map(pattern, SIZES):
        message = send_indication(data, who.peer, fingerprint=True)
        relayed = bench.relays(Datagram(who.client, who.listener, message))
        assert relayed == Datagram(who.relayed, who.peer, data, hops=63)
        unverified = bench.relays(Datagram(who.client, who.listener, message[:-4] + b"\xab\xcd\xef\x01"))
        assert unverified == relayed


def test_a_datagram_of_the_peer_reaches_the_client_as_channel_data(bench: Bench, who: Addresses) -> None:
    bench.call(who)
    for data in map(pattern, SIZES):
        relayed = bench.relays(Datagram(who.peer, who.relayed, data))
        assert relayed == Datagram(who.listener, who.client, channel_data(data), hops=63)


def test_without_a_channel_it_reaches_the_client_as_a_data_indication(bench: Bench, who: Addresses) -> None:
    bench.call(who, number=0)
    for data in map(pattern, SIZES):
        relayed = bench.relays(Datagram(who.peer, who.relayed, data))
        assert relayed[:2] == (who.listener, who.client)
        assert data_of(relayed.payload)[:2] == (data, who.peer)


def test_two_data_indications_have_different_transaction_ids(bench: Bench, alike: Addresses) -> None:
    bench.call(alike, number=0)
    datagram = Datagram(alike.peer, alike.relayed, b"twice")
    ids = {data_of(bench.relays(datagram).payload)[2] for _ in range(20)}
    assert len(ids) == 20


def test_what_looks_like_a_message_of_a_client_is_data_when_it_comes_from_a_peer(
    bench: Bench, alike: Addresses
) -> None:
    bench.call(alike)
    for payload in (
        channel_data(b"data"),
        send_indication(b"data", alike.peer),
        send_indication(b"", alike.peer),
        b"\x00\x01",
        b"\x7f",
    ):
        relayed = bench.relays(Datagram(alike.peer, alike.relayed, payload))
        assert relayed.payload == channel_data(payload)


@pytest.mark.parametrize("number", [OTHER_NUMBER, 0])
@pytest.mark.parametrize("kind", [Kind.CHANNEL, Kind.SEND])
def test_two_relayed_clients_meet_in_one_pass(bench: Bench, who: Addresses, kind: Kind, number: int) -> None:
    until = later()
    meeting = Onward(who.relayed, who.other_relayed, 0, SLOT, until, meets=True)
    far_side = Onward(who.other_listener, who.other_client, number, OTHER_SLOT, until)

    def message(data: bytes) -> bytes:
        if kind is Kind.CHANNEL:
            return channel_data(data)
        return send_indication(data, who.other_relayed, fingerprint=len(data) % 2 == 1)

    if kind is Kind.CHANNEL:
        bench.program.set_flow(Way(kind, who.client, who.listener, NUMBER), meeting)
    else:
        bench.program.set_flow(Way(kind, who.client, who.listener, peer=who.other_relayed), meeting)
    frame = encode_frame(Datagram(who.client, who.listener, message(b"nobody has permitted it")))
    assert run(bench.program, frame) == (Verdict.UP, frame)
    bench.program.set_flow(Way(Kind.MEET, who.relayed, who.other_relayed), far_side)
    for data in map(pattern, SIZES):
        relayed = bench.relays(Datagram(who.client, who.listener, message(data)))
        assert relayed[:2] == (who.other_listener, who.other_client)
        if number:
            assert relayed.payload == channel_data(data, number=number)
        else:
            assert data_of(relayed.payload)[:2] == (data, who.relayed)
    assert bench.program.traffic(SLOT) == Traffic(len(SIZES), sum(SIZES), 0, 0)
    assert bench.program.traffic(OTHER_SLOT) == Traffic(0, 0, len(SIZES), sum(SIZES))


def test_dscp_ecn_and_df_stay_and_one_hop_is_taken(bench: Bench, alike: Addresses) -> None:
    bench.call(alike)
    is_v4 = len(alike.peer.ip) == 4
    for dont_fragment in {False, is_v4}:
        for source, destination, payload in (
            (alike.client, alike.listener, channel_data(b"data")),
            (alike.peer, alike.relayed, b"data"),
        ):
            came = Datagram(source, destination, payload, hops=2, traffic_class=0xBB, dont_fragment=dont_fragment)
            left = bench.relays(came)
            assert left[3:] == (1, 0xBB, dont_fragment)


def test_ipv6_flow_labels_differ_between_flows_but_not_within_one(bench: Bench) -> None:
    labels = {}
    for port in range(6000, 6008):
        peer = FAMILIES["6"].peer._replace(port=port)
        who = FAMILIES["6"]
        bench.program.set_flow(
            Way(Kind.SEND, who.client, who.listener, peer=peer), Onward(who.relayed, peer, 0, SLOT, later())
        )
        frames = [
            bench.run(Datagram(who.client, who.listener, send_indication(data, peer))).frame
            for data in (b"one", b"two2")
        ]
        assert frames[0][14:18] == frames[1][14:18]
        labels[port] = frames[0][15:18]
    assert len(set(labels.values())) > 1


def test_an_ipv4_datagram_without_a_checksum_leaves_without_one(bench: Bench) -> None:
    who = FAMILIES["4"]
    bench.call(who)
    came = encode_frame(Datagram(who.client, who.listener, channel_data(b"data")), udp_checksum=0)
    outcome = run(bench.program, came)
    assert decode_frame(outcome.frame, allow_no_checksum=True) == Datagram(who.relayed, who.peer, b"data", hops=63)
    with pytest.raises(BadFrame, match="a wrong checksum"):
        decode_frame(outcome.frame)


def test_a_wrong_checksum_stays_wrong(bench: Bench, who: Addresses) -> None:
    bench.call(who)
    for came in (Datagram(who.client, who.listener, channel_data(b"data")), Datagram(who.peer, who.relayed, b"data")):
        good = encode_frame(came)
        spoiled = good[:-1] + bytes([good[-1] ^ 0x10])
        outcome = run(bench.program, spoiled)
        assert outcome.verdict is Verdict.ON
        with pytest.raises(BadFrame, match="a wrong checksum"):
            decode_frame(outcome.frame)


def test_a_checksum_that_comes_out_as_zero_is_sent_as_all_ones(bench: Bench, who: Addresses) -> None:
    bench.call(who)
    seen = set()
    for word in range(0x10000):
        left = Datagram(who.relayed, who.peer, word.to_bytes(2))
        if checksum(pseudo_header(left) + struct.pack("!HHHH", 50000, 2222, 10, 0) + left.payload) == 0:
            relayed = bench.run(Datagram(who.client, who.listener, channel_data(left.payload))).frame
            assert decode_frame(relayed).payload == left.payload
            seen.add(word)
    assert seen


def test_the_filling_of_short_frames_is_no_data(bench: Bench, alike: Addresses) -> None:
    bench.call(alike)
    for came, data in (
        (Datagram(alike.client, alike.listener, channel_data(b"abc")), b"abc"),
        (Datagram(alike.peer, alike.relayed, b"abc"), channel_data(b"abc")),
    ):
        outcome = run(bench.program, encode_frame(came, trailer=b"\xee" * 14))
        assert outcome.verdict is Verdict.ON
        assert decode_frame(outcome.frame).payload == data
    bench.call(alike, number=0)
    for size in SIZES[:6]:
        came = Datagram(alike.peer, alike.relayed, pattern(size))
        outcome = run(bench.program, encode_frame(came, trailer=b"\xee" * (size % 5)))
        assert data_of(decode_frame(outcome.frame).payload)[0] == pattern(size)
