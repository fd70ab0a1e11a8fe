"""Valid messages and what the network, or an attacker, makes of them."""

from typing import Any

from hypothesis import strategies as st

from stun.address import TransportAddress
from stun.attributes import (
    ATTRIBUTES,
    CHANNEL_NUMBER,
    DATA,
    EVEN_PORT,
    LIFETIME,
    NONCE,
    REALM,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    RESERVATION_TOKEN,
    SOFTWARE,
    USERNAME,
    XOR_PEER_ADDRESS,
    Attribute,
    pack_attribute,
)
from stun.integrity import IntegrityKey, fingerprint_of
from stun.message import encode_message
from stun.registry import IntegrityAlgorithm, MessageClass, Method

addresses = st.builds(
    TransportAddress,
    st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)),
    st.integers(0, 0xFFFF),
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


Anything = tuple[Attribute[Any] | int, Any]  # an attribute or a bare type, and its value

# Well-formed, or of a known type with any value, or of any type.
_fields: st.SearchStrategy[Anything] = st.one_of(
    st.tuples(st.just(XOR_PEER_ADDRESS), addresses),
    st.tuples(st.just(REQUESTED_TRANSPORT), st.sampled_from([6, 17])),
    st.tuples(st.just(LIFETIME), st.integers(0, 0xFFFFFFFF)),
    st.tuples(st.just(REQUESTED_ADDRESS_FAMILY), st.integers(0, 3)),
    st.tuples(st.just(CHANNEL_NUMBER), st.integers(0x3FFF, 0x8000)),
    st.tuples(st.just(EVEN_PORT), st.booleans()),
    st.tuples(st.just(RESERVATION_TOKEN), st.binary(min_size=8, max_size=8)),
    st.tuples(st.just(DATA), st.binary(max_size=60)),
    st.tuples(st.sampled_from([USERNAME, REALM, NONCE, SOFTWARE]), texts),
    st.tuples(st.sampled_from(sorted(ATTRIBUTES)), st.binary(max_size=40)),
    st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=40)),
)


def _encode(
    method: int,
    message_class: MessageClass,
    transaction_id: bytes,
    fields: list[Anything],
    signature: tuple[bytes, IntegrityAlgorithm] | None,
    fingerprint: bool,  # noqa: FBT001  # `st.builds` passes it by position
) -> bytes:
    secret, algorithm = signature or (None, IntegrityAlgorithm.SHA1)
    key = None if secret is None else IntegrityKey(secret)
    packed = [
        pack_attribute(field, value) if isinstance(field, int) else field.pack(value, transaction_id)
        for field, value in fields
    ]
    return encode_message(
        method, message_class, transaction_id, packed, key=key, algorithm=algorithm, fingerprint=fingerprint
    )


# Messages that the encoder wrote.
messages: st.SearchStrategy[bytes] = st.builds(
    _encode,
    st.one_of(st.sampled_from(Method), st.integers(0, 0xFFF)),
    st.sampled_from(MessageClass),
    st.binary(min_size=12, max_size=12),
    st.lists(_fields, max_size=5),
    st.one_of(st.none(), st.tuples(st.binary(max_size=20), st.sampled_from(IntegrityAlgorithm))),
    st.booleans(),
)


def _flip(raw: bytes, number: int) -> bytes:
    if not raw:
        return raw
    at, bit = divmod(number % (8 * len(raw)), 8)
    return raw[:at] + bytes((raw[at] ^ 1 << bit,)) + raw[at + 1 :]


def _splice(raw: bytes, at: int, new: bytes, dropped: int) -> bytes:
    at %= len(raw) + 1
    return raw[:at] + new + raw[at + dropped :]


def _mend_length(raw: bytes) -> bytes:
    return raw[:2] + (len(raw) - 20 & 0xFFFF).to_bytes(2) + raw[4:] if len(raw) >= 20 else raw


def _mend_fingerprint(raw: bytes) -> bytes:
    if len(raw) < 28:
        return raw
    covered = _mend_length(raw)[:-8]
    return covered + b"\x80\x28\0\4" + fingerprint_of(covered).to_bytes(4)


@st.composite
def mutated(draw: st.DrawFn, source: st.SearchStrategy[bytes]) -> bytes:
    """Flips, cuts and splices; sometimes with a length and a fingerprint that fit again, to get further in."""
    raw = draw(source)
    for _ in range(draw(st.integers(0, 4))):
        match draw(st.sampled_from(("flip", "cut", "splice", "join"))):
            case "flip":
                raw = _flip(raw, draw(st.integers(0, 1 << 20)))
            case "cut":
                raw = raw[: draw(st.integers(0, len(raw)))]
            case "splice":
                raw = _splice(raw, draw(st.integers(0, 4096)), draw(st.binary(max_size=16)), draw(st.integers(0, 16)))
            case _:
                other = draw(source)
                raw += other[draw(st.integers(0, len(other))) :]
    mend = draw(st.sampled_from(("nothing", "length", "fingerprint")))
    if mend == "length":
        return _mend_length(raw[: len(raw) & ~3])
    return _mend_fingerprint(raw[: len(raw) & ~3]) if mend == "fingerprint" else raw
