"""One datagram through the decoder, each attribute's codec, and the encoder."""

import contextlib

from stun.attributes import ATTRIBUTES
from stun.errors import IntegrityError, MessageParseError
from stun.integrity import IntegrityKey
from stun.message import MAX_ATTRIBUTES, decode_message, encode_message


def run(data: bytes) -> None:
    """Raises what a bug raises; a parse error is none."""
    try:
        message = decode_message(data)
    except MessageParseError:
        return
    attributes = [*message.values.items(), *message.repeated]
    assert len(attributes) <= MAX_ATTRIBUTES
    for attribute in ATTRIBUTES.values():
        with contextlib.suppress(MessageParseError):
            first, every = message.get(attribute), message.get_all(attribute)
            assert every[:1] == ([] if first is None else [first])
    known = frozenset(ATTRIBUTES)
    assert all(number < 0x8000 and number not in known for number in message.unknown_attributes(known))
    if message.integrity is not None:
        with contextlib.suppress(IntegrityError):
            message.verify(IntegrityKey(b"a key that nobody has"))
            raise AssertionError("a forged integrity was accepted")
    packed = (
        number.to_bytes(2) + len(value).to_bytes(2) + value + bytes(-len(value) % 4) for number, value in attributes
    )
    again = decode_message(
        encode_message(
            message.method, message.message_class, message.transaction_id, packed, fingerprint=message.has_fingerprint
        )
    )
    for field in ("method", "message_class", "transaction_id", "values", "repeated"):
        assert getattr(again, field) == getattr(message, field), field


if __name__ == "__main__":
    from tests.fuzz.targets.loop import fuzz

    fuzz("tests.fuzz.targets.message")
