"""The kernel program by itself: whatever comes in, what leaves is whole and what goes up is unchanged."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.io.datapath.indications import find_send
from stun.address import TransportAddress
from tests.support.frames import BadFrame, Datagram, decode_frame, encode_frame
from tests.support.program_bench import FAMILIES, NUMBER, Addresses, Bench, channel_data, data_of, send_indication
from tests.support.program_run import Verdict, run

_PEERS = st.builds(
    TransportAddress,
    st.sampled_from([4, 16]).flatmap(lambda size: st.binary(min_size=size, max_size=size)),
    st.integers(0, 0xFFFF),
)


@st.composite
def frames(draw: st.DrawFn, who: Addresses) -> bytes:
    """Datagrams that are nearly right, with up to three wrong bytes."""
    payload = draw(
        st.one_of(
            st.binary(max_size=200),
            st.builds(channel_data, st.binary(max_size=200), padding=st.binary(max_size=5)),
            st.builds(
                send_indication,
                st.binary(max_size=200),
                st.one_of(st.just(who.peer), _PEERS),
                fingerprint=st.booleans(),
            ),
        )
    )
    ways = [(who.client, who.listener), (who.peer, who.relayed)]
    if len(who.client.ip) == len(who.peer.ip):
        ways.append((who.peer, who.listener))
    source, destination = draw(st.sampled_from(ways))
    frame = bytearray(encode_frame(Datagram(source, destination, payload), trailer=draw(st.binary(max_size=4))))
    for _ in range(draw(st.integers(0, 3))):
        frame[draw(st.integers(14, len(frame) - 1))] = draw(st.integers(0, 255))
    return bytes(frame)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_mutated_frames_leave_as_the_portable_plane_would_send_them_or_go_up(bench: Bench, data: st.DataObject) -> None:
    who = FAMILIES[data.draw(st.sampled_from(sorted(FAMILIES)))]
    bench.call(who, number=data.draw(st.sampled_from([0, NUMBER])))
    frame = data.draw(frames(who))
    outcome = run(bench.program, frame)
    if outcome.verdict is Verdict.UP:
        assert outcome.frame == frame
        return
    assert outcome.verdict is Verdict.ON
    try:
        came = decode_frame(frame[: 14 + _packet_bytes(frame)], allow_no_checksum=True)
    except BadFrame:  # what else may be wrong goes up; whoever gets this finds it, too
        with pytest.raises(BadFrame, match="a wrong checksum"):
            decode_frame(outcome.frame)
        return
    left = decode_frame(outcome.frame, allow_no_checksum=True)
    assert (left.hops, left.traffic_class) == (came.hops - 1, came.traffic_class)
    if came[:2] == (who.client, who.listener):
        assert left[:2] == (who.relayed, who.peer)
        assert left.payload == _data_from_client(came.payload)
    else:
        assert came[:2] == (who.peer, who.relayed)
        assert left[:2] == (who.listener, who.client)
        is_channel_data = left.payload[0] >= 0x40
        assert came.payload == (left.payload[4:] if is_channel_data else data_of(left.payload)[0])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=54, max_size=300), st.sampled_from([b"\x08\x00\x45", b"\x86\xdd\x60", b""]))
def test_random_bytes_go_up(bench: Bench, data: bytes, ether_type: bytes) -> None:
    bench.call(FAMILIES["4"])
    frame = data[:12] + ether_type + data[12 + len(ether_type) :]
    assert run(bench.program, frame) == (Verdict.UP, frame)


def _packet_bytes(frame: bytes) -> int:
    """The size of the IP packet in a frame, as its header says."""
    return int.from_bytes(frame[16:18]) if frame[14] >> 4 == 4 else 40 + int.from_bytes(frame[18:20])


def _data_from_client(payload: bytes) -> bytes:
    """The data of ChannelData or of a Send indication, as the portable plane reads it."""
    found = find_send(memoryview(payload), 0, len(payload))
    return payload[found[1] : found[2]] if found is not None else payload[4 : 4 + int.from_bytes(payload[2:4])]
