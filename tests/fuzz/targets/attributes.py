"""One value through one attribute's codec: two bytes of type, twelve of transaction ID, the rest is the value."""

from stun.attributes import ATTRIBUTES
from stun.errors import MessageParseError


def run(data: bytes) -> None:
    """Whatever decodes must survive a round trip."""
    attribute = ATTRIBUTES.get(int.from_bytes(data[:2]))
    if attribute is None or len(data) < 14:
        return
    transaction_id = data[2:14]
    try:
        value = attribute.decode(data[14:], transaction_id)
    except MessageParseError:
        return
    packed = attribute.pack(value, transaction_id)
    length = int.from_bytes(packed[2:4])
    assert packed[:2] == data[:2]
    assert len(packed) == 4 + length + -length % 4
    assert packed[4 + length :] == bytes(-length % 4)
    assert attribute.decode(packed[4 : 4 + length], transaction_id) == value


if __name__ == "__main__":
    from tests.fuzz.targets.loop import fuzz

    fuzz("tests.fuzz.targets.attributes")
