"""Writes the seeds of the corpus: small real inputs from which a fuzzer starts.

python -m tests.fuzz.seeds        # after a change of the wire format, or of a target's input
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from stun.address import TransportAddress
from stun.attributes import ATTRIBUTES, FINGERPRINT, LIFETIME, REQUESTED_TRANSPORT, pack_attribute
from stun.demux import encode_channel_data
from stun.integrity import IntegrityKey
from stun.message import encode_message
from stun.registry import IntegrityAlgorithm, MessageClass, Method
from tests.conformance.test_rfc5769_vectors import VECTORS
from tests.support.turn_client import pack

CORPUS: Final = Path(__file__).parent / "corpus"
TARGETS: Final = ("message", "attributes", "framing", "turn_server")
_TRANSACTION_ID: Final = bytes(range(12))
_IPV4: Final = TransportAddress.parse("192.0.2.1", 32853)
_IPV6: Final = TransportAddress.parse("2001:db8:1234:5678:11:2233:4455:6677", 32853)
_VALUES: Final = (0, 17, 600, True, "text", b"12345678", bytes(20), bytes(32), _IPV4, _IPV6, (0x7F01, 0x0002))
_MUTATIONS: Final = 1  # of each input


def messages() -> dict[str, bytes]:
    """One of each: methods, classes, integrity, fingerprint, published vectors, what browsers send."""
    found = {f"rfc5769-{section}": raw for section, (raw, _) in VECTORS.items()}
    for method in Method:
        for message_class in MessageClass:
            name = f"{method.name}-{message_class.name}".lower()
            found[name] = encode_message(method, message_class, _TRANSACTION_ID)
    udp, lifetime = pack(_TRANSACTION_ID, (REQUESTED_TRANSPORT, 17), (LIFETIME, 3600))
    found["chromium-allocate"] = _request(udp)
    found["firefox-allocate"] = _request(lifetime, udp, fingerprint=True)
    for algorithm in IntegrityAlgorithm:
        signed = encode_message(
            Method.ALLOCATE,
            MessageClass.REQUEST,
            _TRANSACTION_ID,
            (udp,),
            key=IntegrityKey(b"key"),
            algorithm=algorithm,
        )
        found[f"signed-{algorithm.name.lower()}"] = signed
    for name, value in attribute_values():
        number, body = int.from_bytes(value[:2]), value[14:]
        if number != FINGERPRINT.type:
            found[f"with-{name}"] = _request(pack_attribute(number, body))
    return found


def attribute_values() -> Iterator[tuple[str, bytes]]:
    """Inputs of the target `attributes`: every value that a codec is able to write."""
    for number, attribute in sorted(ATTRIBUTES.items()):
        seen = set()
        for value in _VALUES:
            try:
                packed = attribute.pack(value, _TRANSACTION_ID)
                body = packed[4 : 4 + int.from_bytes(packed[2:4])]
                attribute.decode(body, _TRANSACTION_ID)
            except Exception:  # noqa: BLE001, S112  # the value is of another attribute
                continue
            if body not in seen:
                seen.add(body)
                yield f"{attribute.name.lower()}-{len(seen)}", number.to_bytes(2) + _TRANSACTION_ID + body
        yield f"{attribute.name.lower()}-empty", number.to_bytes(2) + _TRANSACTION_ID


def mutated(seeds: dict[str, bytes]) -> dict[str, bytes]:
    """A few of each with a bit turned, a piece cut out or the end missing."""
    draw = random.Random(1)  # noqa: S311  # the same seeds in every run
    found = {}
    for name, raw in seeds.items():
        for number in range(_MUTATIONS):
            data = bytearray(raw)
            at = draw.randrange(len(data))
            match draw.randrange(3):
                case 0:
                    data[at] ^= 1 << draw.randrange(8)
                case 1:
                    del data[at : at + draw.randrange(1, 9)]
                case _:
                    del data[at:]
            found[f"{name}-mutated-{number}"] = bytes(data)
    return found


def streams() -> dict[str, bytes]:
    """Inputs of the target `framing`."""
    frames = {name: raw for name, raw in messages().items() if raw[0] < 4}
    binding, allocate = frames["binding-request"], frames["firefox-allocate"]
    data = [encode_channel_data(0x4000 + size, bytes(size)) + bytes(-size % 4) for size in (0, 1, 4, 160)]
    return {
        "empty": b"\0",
        "one-request": b"\0" + binding,
        "one-request-in-pieces": b"\3\0\1\0\5\0\x13" + binding,
        "two-requests": b"\1\0\x16" + binding + allocate,
        "channel-data": b"\2\0\2\0\6" + b"".join(data),
        "mixed": b"\4\0\3\0\x15\0\x20\0\x40" + data[1] + binding + data[3] + allocate + data[0],
        "junk-behind-a-request": b"\1\0\x14" + binding + b"\xff" * 8,
        "wrong-cookie": b"\0" + binding[:4] + bytes(16),
        "longest-claim": b"\1\0\2" + b"\x40\0\xff\xff" + bytes(8),
        "http": b"\0GET / HTTP/1.1\r\n\r\n",
    }


def scripts() -> dict[str, bytes]:
    """Inputs of the target `turn_server`; actions and clients by their places there."""
    raw, signed, broken, allocate, refresh, permit, bind, send, advance, jump, disconnect, taken, challenge = range(13)
    alice, stream, bob = range(3)
    life = bytes((allocate, alice, 0, permit, alice, 1, 0, bind, alice, 1, 0, send, alice, 0, 0, 2, 1, 2))
    return {
        "life-cycle": life + bytes((refresh, alice, 3, refresh, alice, 1)),
        "expiry": life + bytes((advance, alice, 29, advance, alice, 2, send, alice, 0, 0, 0, advance, alice, 60)),
        "late-wake-up": life + bytes((jump, alice, 255, refresh, alice, 0, allocate, alice, 0)),
        "reservation": bytes((allocate, alice, 3, 1, advance, alice, 4, refresh, alice, 1)),
        "quota": bytes((allocate, alice, 3, 0, allocate, stream, 0, allocate, bob, 3, 1)),
        "denied-peers": bytes((allocate, alice, 0, permit, alice, 2, 0, 4, bind, alice, 1, 4, permit, alice, 1, 6)),
        "ipv6": bytes((allocate, bob, 1, permit, bob, 1, 6, bind, bob, 1, 6, permit, bob, 1, 8)),
        "disconnect": bytes((allocate, stream, 0, bind, stream, 1, 0, disconnect, stream, allocate, stream, 0)),
        "taken-ports": bytes((taken, alice, 0, taken, alice, 1, allocate, alice, 2, taken, alice, 0, allocate, bob, 0)),
        "broken": bytes((challenge, alice, allocate, alice, 0, broken, alice, 0, 30, 1, broken, alice, 0, 2, 7)),
        "signed": bytes((allocate, alice, 0, signed, alice, 4, 0, 8)) + LIFETIME.pack(0),
        **{
            f"raw-{name}": bytes((raw, alice)) + len(message).to_bytes(2) + message
            for name, message in messages().items()
            if "-request" in name or "-allocate" in name
        },
    }


def main() -> None:
    """Write every seed; what else lies in the corpus stays."""
    whole = messages()
    values = dict(attribute_values())
    seeds = {
        "message": whole | mutated(whole),
        "attributes": values | mutated(values),
        "framing": streams() | mutated(streams()),
        "turn_server": scripts() | mutated(scripts()),
    }
    for target in TARGETS:
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in seeds[target].items():
            (folder / name).write_bytes(data)


def _request(*attributes: bytes, fingerprint: bool = False) -> bytes:
    return encode_message(Method.ALLOCATE, MessageClass.REQUEST, _TRANSACTION_ID, attributes, fingerprint=fingerprint)


if __name__ == "__main__":
    main()
