import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.io.datapath.indications import HEADROOM, TransactionIds, data_head_v4, data_head_v6, find_send, peer_of
from stun.address import TransportAddress
from stun.attributes import DATA, SOFTWARE, XOR_PEER_ADDRESS, pack_attribute
from stun.errors import MessageParseError
from stun.integrity import fingerprint_of
from stun.message import decode_message, encode_message
from stun.registry import MessageClass, Method

FINGERPRINT_HEAD = b"\x80\x28\x00\x04"
transaction_ids = st.binary(min_size=12, max_size=12)
payloads = st.binary(max_size=300)
v4 = st.builds(TransportAddress, st.binary(min_size=4, max_size=4), st.integers(0, 0xFFFF))
v6 = st.builds(TransportAddress, st.binary(min_size=16, max_size=16), st.integers(0, 0xFFFF))
peers = st.one_of(v4, v6)


def send(peer: TransportAddress, data: bytes, transaction_id: bytes, *, fingerprint: bool = False) -> bytes:
    return encode_message(
        Method.SEND,
        MessageClass.INDICATION,
        transaction_id,
        (XOR_PEER_ADDRESS.pack(peer, transaction_id), DATA.pack(data)),
        fingerprint=fingerprint,
    )


def read(raw: bytes) -> tuple[TransportAddress, bytes] | None:
    """What the quick reader makes of a message that lies in a larger buffer."""
    before = b"\x00\x16\xff"
    surrounded = before + raw + b"\xff" * 64
    found = find_send(memoryview(surrounded), len(before), len(before) + len(raw))
    assert found == find_send(memoryview(surrounded)[: len(before) + len(raw)], len(before), len(before) + len(raw))
    if found is None:
        return None
    key, start, end = found
    return TransportAddress(*peer_of(key)), surrounded[start:end]


def with_right_fingerprint(raw: bytes) -> bytes:
    """The quick reader does not look at the value of a FINGERPRINT, and the full codec drops what has a wrong one."""
    if raw[-8:-4] != FINGERPRINT_HEAD:
        return raw
    return raw[:-4] + fingerprint_of(raw[:-8]).to_bytes(4)


def read_in_full(raw: bytes) -> tuple[TransportAddress | None, bytes | None] | None:
    """The same by the full codec."""
    try:
        message = decode_message(raw)
    except MessageParseError:
        return None
    if (message.method, message.message_class) != (Method.SEND, MessageClass.INDICATION):
        return None
    with contextlib.suppress(MessageParseError):
        return message.get(XOR_PEER_ADDRESS), message.get(DATA)
    return None


@given(peers, payloads, transaction_ids, st.booleans())
def test_the_usual_send_indication_is_read_without_the_full_codec(
    peer: TransportAddress,
    data: bytes,
    transaction_id: bytes,
    fingerprint: bool,  # noqa: FBT001
) -> None:
    raw = send(peer, data, transaction_id, fingerprint=fingerprint)
    assert read(raw) == (peer, data) == read_in_full(raw)


@given(peers, payloads, transaction_ids, st.booleans(), st.data())
def test_a_changed_send_indication_is_never_read_otherwise_than_by_the_full_codec(
    peer: TransportAddress,
    data: bytes,
    transaction_id: bytes,
    fingerprint: bool,  # noqa: FBT001
    draw: st.DataObject,
) -> None:
    raw = bytearray(send(peer, data, transaction_id, fingerprint=fingerprint))
    for at in draw.draw(st.lists(st.integers(0, min(len(raw), 60) - 1), min_size=1, max_size=3)):
        raw[at] = draw.draw(st.integers(0, 255))
    cut = bytes(raw[: draw.draw(st.integers(0, len(raw)))]) if draw.draw(st.booleans()) else bytes(raw)
    quick = read(cut)
    assert quick is None or quick == read_in_full(with_right_fingerprint(cut))


@given(st.binary(max_size=120))
def test_arbitrary_bytes_are_read_as_the_full_codec_reads_them(raw: bytes) -> None:
    quick = read(raw)
    assert quick is None or quick == read_in_full(with_right_fingerprint(raw))


@given(peers, payloads, transaction_ids, st.binary(min_size=4, max_size=4))
def test_a_fingerprint_is_passed_over_whatever_it_says(
    peer: TransportAddress, data: bytes, transaction_id: bytes, value: bytes
) -> None:
    raw = send(peer, data, transaction_id, fingerprint=True)
    assert read(raw[:-4] + value) == (peer, data)


@pytest.mark.parametrize("ip", ["192.0.2.1", "2001:db8::1"])
def test_another_shape_is_left_to_the_full_codec(ip: str) -> None:
    peer = TransportAddress.parse(ip, 4000)
    packed = XOR_PEER_ADDRESS.pack(peer, bytes(12))
    for attributes in (
        (),
        (packed,),
        (DATA.pack(b"x"),),
        (DATA.pack(b"x"), packed),
        (SOFTWARE.pack("x"), packed, DATA.pack(b"x")),
        (packed, DATA.pack(b"x"), SOFTWARE.pack("x")),
        (packed, pack_attribute(0x001A, b""), DATA.pack(b"x")),
        (packed, DATA.pack(b"x"), pack_attribute(0x8028, bytes(8))),
        (packed, DATA.pack(b"x"), pack_attribute(0x8028, bytes(4)), SOFTWARE.pack("x")),
    ):
        raw = encode_message(Method.SEND, MessageClass.INDICATION, bytes(12), attributes)
        assert read(raw) is None
    request = encode_message(Method.SEND, MessageClass.REQUEST, bytes(12), (packed, DATA.pack(b"x")))
    assert read(request) is None


@given(peers, payloads, st.integers(0, 0xFFFFFFFF), st.integers(0, 1 << 63))
def test_a_data_indication_is_what_the_full_codec_writes(
    peer: TransportAddress, data: bytes, salt: int, count: int
) -> None:
    ids = TransactionIds(salt)
    ids.count = count
    head = (data_head_v4 if len(peer.ip) == 4 else data_head_v6)(len(data), ids, int.from_bytes(peer.ip), peer.port)
    assert len(head) <= HEADROOM
    transaction_id = salt.to_bytes(4) + (count + 1).to_bytes(8)
    fields = (XOR_PEER_ADDRESS.pack(peer, transaction_id), DATA.pack(data))
    written = head + data + bytes(-len(data) % 4)
    assert written == encode_message(Method.DATA, MessageClass.INDICATION, transaction_id, fields)
    assert ids.next() == salt.to_bytes(4) + (count + 2).to_bytes(8)
    message = decode_message(written)
    assert (message.get(XOR_PEER_ADDRESS), message.get(DATA)) == (peer, data)


@given(peers, transaction_ids, transaction_ids)
def test_a_peer_is_found_under_the_same_key_whatever_the_transaction(
    peer: TransportAddress, one: bytes, other: bytes
) -> None:
    keys = set()
    for transaction_id in (one, other):
        raw = send(peer, b"x", transaction_id)
        found = find_send(memoryview(raw), 0, len(raw))
        assert found is not None
        keys.add(found[0])
    assert len(keys) == 1
