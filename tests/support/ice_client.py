"""Checks as a controlling ICE agent sends them."""

from typing import Final

from stun.attributes import USERNAME, pack_attribute
from stun.integrity import IntegrityKey
from stun.message import encode_message
from stun.registry import IntegrityAlgorithm, MessageClass, Method

REMOTE_UFRAG: Final = "them"
PRIORITY: Final = pack_attribute(0x0024, (1 << 24).to_bytes(4))
USE_CANDIDATE: Final = pack_attribute(0x0025, b"")
CONTROLLED: Final = pack_attribute(0x8029, bytes(8))
CONTROLLING: Final = pack_attribute(0x802A, bytes(8))


def check(
    credentials: tuple[str, str],
    *,
    nominate: bool = False,
    remote_ufrag: str = REMOTE_UFRAG,
    role: bytes = CONTROLLING,
    more: bytes = b"",
    password: str | None = None,
    algorithm: IntegrityAlgorithm = IntegrityAlgorithm.SHA1,
    fingerprint: bool = True,
    transaction_id: bytes = bytes(12),
) -> bytes:
    """A Binding request towards the agent with these credentials, its fragment and its password."""
    ufrag, real_password = credentials
    attributes = [USERNAME.pack(f"{ufrag}:{remote_ufrag}"), PRIORITY, role, more]
    return encode_message(
        Method.BINDING,
        MessageClass.REQUEST,
        transaction_id,
        [*attributes, USE_CANDIDATE] if nominate else attributes,
        key=IntegrityKey((password or real_password).encode()),
        algorithm=algorithm,
        fingerprint=fingerprint,
    )
